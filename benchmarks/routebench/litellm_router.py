"""LiteLLM's complexity router, as its package ships it: local weighted keywords and length, no call to any model."""

import os

from benchmarks.routebench.rules import RuleRouter


def litellm_router() -> RuleRouter:
    """Its weighted score as the number. Importing the package takes seconds, so it is done here and offline."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm.router_strategy.complexity_router.complexity_router import (  # noqa: PLC0415 - after the variable
        ComplexityRouter,
    )

    router = ComplexityRouter("benchmark", litellm_router_instance=None)
    return RuleRouter("LiteLLM complexity", lambda prompt: float(router.classify(prompt)[1]))
