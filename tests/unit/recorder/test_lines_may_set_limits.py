"""A line of a batch sets its limits in its body, as it has no headers."""

import json

from functions.recorder.batch_format import read_lines

URL = "/v1/chat/completions"


def line(custom_id: str, **more: object) -> bytes:
    body = {"messages": [{"role": "user", "content": "hi"}], **more}
    found = {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}
    return json.dumps(found).encode() + b"\n"


def test_limits_of_a_line_stay_in_its_body_and_bad_ones_are_its_own_refusal():
    data = line("good", pickspin={"max_cost": 0.01}) + line("bad", pickspin={"max_cost": "low"})
    (good, bad), errors = read_lines(data, URL)
    assert errors == ()
    assert json.loads(good.body)["pickspin"] == {"max_cost": 0.01}
    assert good.refusal is None
    assert (bad.refusal.code, bad.refusal.status) == ("invalid_value", 400)
