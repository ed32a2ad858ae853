"""A cascade through a whole stack: two models, one request, at the plain and the streaming door."""

import json
from typing import Any

import httpx
import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


def test_the_caller_sees_one_answer_and_the_cost_of_both_models(
    shared_fakes: LocalStack,
) -> None:
    with httpx.Client(base_url=shared_fakes.url, timeout=30.0) as client:
        sure = client.post("/v1/chat/completions", json=asked("[[fake:logprob=-0.01]]"))
        unsure = client.post("/v1/chat/completions", json=asked("[[fake:logprob=-3]]"))
        body = asked("[[fake:logprob=-3]]") | {"stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as streamed:
            lines = [line for line in streamed.iter_lines() if line]
    assert sure.json()["model"] == "small"
    assert sure.headers["x-pickspin-cascade"] == "small"
    answer = unsure.json()
    assert answer["model"] == "large"
    assert unsure.headers["x-pickspin-reason"] == "cascade"
    assert unsure.headers["x-pickspin-cascade"] == "small,large"
    known = answer["pickspin"]
    assert [step["outcome"] for step in known["cascade"]["steps"]] == ["unsure", "answered"]
    assert [step["model_ms"] > 0 for step in known["cascade"]["steps"]] == [True, True]
    total = sum(step["cost"]["gpu_s"] for step in known["cascade"]["steps"])
    assert known["cost"]["gpu_s"] == pytest.approx(total)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1] if line[0] == "d"]
    assert {chunk["model"] for chunk in chunks} == {"large"}
    assert "".join(map(text_of, chunks)) == answer["choices"][0]["message"]["content"]


def asked(text: str) -> dict[str, Any]:
    return {"model": "frugal", "messages": [{"role": "user", "content": text}]}


def text_of(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
