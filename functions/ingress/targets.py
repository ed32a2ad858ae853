"""Callback targets at the door: registered ids and allowed URLs."""

from functions.ingress.deps import Deps
from functions.store import CallbackTarget


async def resolve(deps: Deps, tenant: str, callback: str) -> CallbackTarget:
    raise NotImplementedError


def shown(target: CallbackTarget) -> dict[str, object]:
    return {"id": target.id}
