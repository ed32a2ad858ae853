"""Fields of model servers that no caller may set, and why. Each is refused by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_CODE: Final = "it would bring code or templates to the model server"
_MEMORY: Final = "it reaches into the memory of the model server, which others share"
_LIMITS: Final = "it takes the model server past the limits that hold for everybody"
_LOST: Final = "answers here do not carry what it asks for"
_OTHER_WAY: Final = "structured_outputs and response_format say the same on every server"

REFUSED_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chat_template": _CODE,
        "logits_processors": _CODE,
        "custom_logit_processor": _CODE,
        "mm_processor_kwargs": _CODE,
        "media_io_kwargs": _CODE,
        "vllm_xargs": _CODE,
        "prompt_embeds": _MEMORY,
        "kv_transfer_params": _MEMORY,
        "disaggregated_params": _MEMORY,
        "id_slot": _MEMORY,
        "slot_id": _MEMORY,
        "cache_salt": _MEMORY,
        "lora": _MEMORY,
        "lora_request": _MEMORY,
        "lora_path": _MEMORY,
        "session_params": _MEMORY,
        "n_predict": "max_tokens says the same on every server",
        "n_keep": _LIMITS,
        "samplers": _LIMITS,
        "t_max_predict_ms": _LIMITS,
        "use_beam_search": _LIMITS,
        "repetition_detection": _LIMITS,
        "n_probs": "logprobs says the same on every server",
        "prompt_logprobs": _LOST,
        "return_token_ids": _LOST,
        "return_tokens_as_token_ids": _LOST,
        "return_hidden_states": _LOST,
        "guided_decoding_backend": _LIMITS,
        "guided_whitespace_pattern": _LIMITS,
        "json_schema": _OTHER_WAY,
        "grammar": _OTHER_WAY,
        "priority": "the header x-pickspin-priority says it",
        "profile": "pickspin.profile or the header x-pickspin-profile say it",
        "background": "the header Prefer: respond-async says it",
        "regex": _OTHER_WAY,
        "ebnf": _OTHER_WAY,
    }
)
"""By name, why. A value that asks for nothing (null, false, what is empty, or one of these) is no use of the field."""
IDLE: Final[Mapping[str, object]] = MappingProxyType({"priority": 0})

REFUSED_TEMPLATE_ARGUMENTS: Final = frozenset(
    {
        "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "messages",
        "padding", "return_dict", "return_tensors", "tokenize", "tools", "truncation",
    }
)  # fmt: skip
"""Arguments of a chat template that belong to the server: it sets them itself."""
