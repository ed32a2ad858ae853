"""Whatever the door takes can be told to every kind of server, or is refused by a name: nothing falls between."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import EventRejected
from events.names import Operation
from events.openai.answer_forms import GUIDED, STRUCTURED
from events.openai.body_validation import check_body
from events.openai.refused_fields import REFUSED_FIELDS
from functions.backends.body_translation import translate_body
from router_model.classifier.features import extract_wants
from router_model.routing.backend_fields import FIELDS, SERVER_KINDS
from router_model.routing.capabilities import find_lack

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 40), st.floats(0, 2), st.text("ab{", max_size=3),
    st.lists(st.integers(0, 9), max_size=2), st.lists(st.text("ab", min_size=1, max_size=2), max_size=2),
    st.just({}), st.just({"type": "object"}), st.just({"json_object": True}), st.just({"choice": ["a"]}),
    st.just({"type": "json_object"}), st.just({"regex": "a+"}), st.just({"json": "{}"}),
)  # fmt: skip
NAMES = st.sampled_from(
    [*FIELDS, *GUIDED, STRUCTURED, *REFUSED_FIELDS, "response_format", "max_tokens", "x_mine"]
)


@given(fields=st.dictionaries(NAMES, VALUES, max_size=4), is_chat=st.booleans())
def test_a_good_body_is_told_or_refused_by_name(fields: dict[str, Any], is_chat: bool) -> None:
    operation = Operation.CHAT if is_chat else Operation.COMPLETIONS
    start = {"messages": [{"role": "user", "content": "a"}]} if is_chat else {"prompt": "a"}
    body = {**start, **fields}
    try:
        check_body(operation, body)
    except EventRejected:
        return
    for kind in SERVER_KINDS:
        lack = find_lack(kind, None, extract_wants(operation, body))
        if lack is not None:
            assert lack.param is not None
            assert lack.param.split(".")[0] in fields
            continue
        told = translate_body(kind, body)
        assert not told.keys() & REFUSED_FIELDS.keys() - {"regex", "ebnf", "grammar"}
        assert told.get("x_mine") == fields.get("x_mine")


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_a_server_is_told_no_name_that_it_does_not_know(kind: Any) -> None:
    idle = {name: row.idle[0] for name, row in FIELDS.items() if row.idle}
    told = translate_body(kind, {"prompt": "a", **idle})
    unknown = {name for name, row in FIELDS.items() if not row.is_known_to(kind)}
    assert not told.keys() & unknown
