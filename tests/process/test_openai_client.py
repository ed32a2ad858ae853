"""The official OpenAI client, unmodified but for `base_url`, on the real model behind every door it knows."""

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.timeout(120)]
MODEL = "smollm2-135m-instruct"
HELLO: Any = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def client(real_stack: LocalStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{real_stack.url}/v1", api_key="any", timeout=60.0) as found:
        yield found


def until(ask: Callable[[], Any], is_done: Callable[[Any], bool], timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not is_done(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0.0, max_tokens=16
    )
    assert answer.choices[0].message.content
    assert answer.model == MODEL
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_chat_stream_ends_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            temperature=0.0,
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert 1 == len({chunk.id for chunk in chunks})
    assert chunks[-1].usage is not None


def test_auto_picks_a_chat_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto", messages=HELLO, temperature=0.0, max_tokens=4
    )
    assert MODEL == answer.model


def test_n_stop_and_logprobs_are_passed_through(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        temperature=0.0,
        max_tokens=6,
        n=2,
        logprobs=True,
        stop=["xyzzy"],
    )
    assert 2 == len(answer.choices)
    assert answer.choices[0].logprobs is not None


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The sky is", temperature=0.0, max_tokens=6
    )
    assert answer.choices[0].text


def test_embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(
        model="all-minilm-l6-v2", input=["a cat", "a kitten", "a tax form"], encoding_format="float"
    )
    one, two, three = (item.embedding for item in found.data)
    assert 384 == len(one)
    near = sum(a * b for a, b in zip(one, two, strict=True))
    far = sum(a * b for a, b in zip(one, three, strict=True))
    assert near > far


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert {MODEL, "all-minilm-l6-v2"} <= {model.id for model in client.models.list()}
    assert MODEL == client.models.retrieve(MODEL).id


def test_unknown_model_is_the_clients_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert "model_not_found" == caught.value.code


def test_a_background_response_is_retrieved(client: openai.OpenAI) -> None:
    made = client.responses.create(
        model=MODEL, input="Say hello.", temperature=0.0, background=True, max_output_tokens=24
    )
    done = until(
        lambda: client.responses.retrieve(made.id),
        lambda found: found.status in ("completed", "incomplete", "failed"),
    )
    # "incomplete" is what the API says of an answer that was cut by max_output_tokens.
    assert done.status in ("completed", "incomplete")
    assert done.output_text


def test_a_background_response_is_cancelled(shared_fakes: LocalStack) -> None:
    """On a fake model, for a real one may end its answer before the cancel comes."""
    with openai.OpenAI(base_url=f"{shared_fakes.url}/v1", api_key="any", timeout=60.0) as client:
        made = client.responses.create(model="slow", input="Count.", background=True)
        client.responses.cancel(made.id)
        done = until(
            lambda: client.responses.retrieve(made.id),
            lambda found: found.status in ("cancelled", "completed", "failed"),
        )
        assert "cancelled" == done.status


def test_a_batch_goes_from_file_to_file(client: openai.OpenAI) -> None:
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": HELLO, "max_tokens": 4},
        }
        for number in range(5)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    uploaded = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    assert content == client.files.content(uploaded.id).read()
    made = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    done = until(
        lambda: client.batches.retrieve(made.id),
        lambda found: found.status in ("completed", "failed", "expired"),
    )
    assert "completed" == done.status
    output = client.files.content(done.output_file_id).text
    assert {f"line-{n}" for n in range(5)} == {
        json.loads(line)["custom_id"] for line in output.splitlines()
    }
    assert made.id in {batch.id for batch in client.batches.list()}
    assert client.files.delete(uploaded.id).deleted
