"""Bounds on what is read from the outside. Every reader of this package takes a `Limits`."""

from dataclasses import dataclass
from typing import Final

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""No setting lets a body be larger: whoever reads one by reference has room for this much."""
MAX_MESSAGES: Final = 4096
MAX_PARTS: Final = 2048
MAX_STOPS: Final = 16
MAX_STOP_CHARS: Final = 1024
MAX_CHOICES: Final = 16
MAX_INPUTS: Final = 2048
MAX_TOKENS: Final = 1024 * 1024
"""Of one prompt that is a list of tokens."""
MAX_TOOLS: Final = 128
MAX_LOGIT_BIASES: Final = 1024
MAX_TOP_LOGPROBS: Final = 20
MAX_SCHEMA_BYTES: Final = 1024 * 1024
MAX_SCHEMA_DEPTH: Final = 64
"""In JSON's levels: ten objects within each other are 21 of them, and some 50 where each is optional and in a list."""
MAX_SCHEMA_PROPERTIES: Final = 5_000
MAX_SCHEMA_NODES: Final = 50_000
"""Objects and lists of one schema."""
MAX_PATTERN_CHARS: Final = 512
MAX_GRAMMAR_CHARS: Final = 64 * 1024
MAX_ALTERNATIVES: Final = 256
"""Answers that a caller may list to choose from."""
MAX_TEMPLATE_ARGUMENTS: Final = 32
MAX_PARTITION: Final = 99_999
"""More partitions than any topic has; keeps `replypartition` far from integer edges."""
MAX_EVENT_ID_CHARS: Final = 256
"""Of an event from outside; ids that we give are shorter."""
MAX_SUBJECT_BYTES: Final = 1024
"""Of UTF-8: the longest key of an object in S3. Percent-encoded, it is still one header that servers take."""
MAX_NAME_CHARS: Final = 40
"""Length of an attribute name. CloudEvents 1.0 recommends 20 (our own keep to it), but Knative's KafkaSource adds
`knativekafkapartition`: whoever refuses that refuses every event it brings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one event, record or body may hold. Defaults are the product's contract."""

    max_depth: int = 100
    """Nested arrays and objects in JSON."""
    max_keys: int = 100_000
    """Object keys in one JSON document, all levels together."""
    max_containers: int = 100_000
    """Arrays and objects in one JSON document, all levels together."""
    max_values: int = 1_500_000
    """Values in one JSON document, all levels together: a small one takes many times its text's room in memory."""
    max_digits: int = 64
    """Characters of one JSON number."""
    max_bytes: int = 900 * 1024
    """One record (key, value, headers), one event, one JSON document."""
    max_messages: int = MAX_MESSAGES
    max_parts: int = MAX_PARTS
    max_stops: int = MAX_STOPS
    max_headers: int = 64
    max_header_bytes: int = 16_384
    """Names and values of all headers together."""
    max_id_chars: int = 128


DEFAULT_LIMITS: Final = Limits()
BODY_LIMITS: Final = Limits(max_bytes=MAX_BODY_BYTES)
"""Of a request's body, which travels by reference where it is large. How large, the ingress's settings say."""
