"""The official client, unmodified but for its base URL, at every door it has."""

import asyncio
import json
from typing import Any

import openai
import pytest

pytestmark = pytest.mark.anyio
USER: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def official() -> Any:
    def make(client: Any, **more: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{client.base_url}/v1", api_key="any", **({"max_retries": 0} | more)
        )

    return make


async def test_chat_in_one_piece_and_streamed(rig: Any, live: Any, official: Any) -> None:
    async with live(rig) as client, official(client) as ai:
        whole = await ai.chat.completions.create(model="smol", messages=USER)
        assert whole.choices[0].message.content == "hello"
        assert whole._request_id == rig.worker.seen[0].id
        stream = await ai.chat.completions.create(model="smol", messages=USER, stream=True)
        parts = [chunk.choices[0].delta.content async for chunk in stream]
    assert "".join(filter(None, parts)) == "hello"


async def test_completions_and_embeddings(rig: Any, live: Any, official: Any) -> None:
    async with live(rig) as client, official(client) as ai:
        text = await ai.completions.create(model="smol", prompt="once")
        assert text.choices[0].text == "hello"
        found = await ai.embeddings.create(model="org/embed-1", input="x", encoding_format="float")
        assert found.data[0].embedding == [0.5]


async def test_models(rig: Any, live: Any, official: Any) -> None:
    async with live(rig) as client, official(client) as ai:
        models = [model async for model in ai.models.list()]
        assert [model.id for model in models][:3] == ["smol", "org/embed-1", "big"]
        assert (await ai.models.retrieve("org/embed-1")).id == "org/embed-1"
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("none")


async def test_responses_in_the_background_are_retrieved_and_cancelled(
    rig: Any, live: Any, official: Any
) -> None:
    async with live(rig) as client, official(client) as ai:
        whole = await ai.responses.create(model="smol", input="hi")
        assert whole.output_text == "hello"
        later = await ai.responses.create(model="smol", input="hi", background=True)
        assert later.status == "queued"
        async with asyncio.timeout(5):
            while later.status != "completed":
                await asyncio.sleep(0.01)
                later = await ai.responses.retrieve(later.id)
        assert later.output_text == "hello"
        rig.worker.script = lambda worker, request: ()
        held = await ai.responses.create(model="smol", input="hi", background=True)
        assert (await ai.responses.cancel(held.id)).status == "cancelled"
        await ai.responses.delete(held.id)


async def test_files_and_batches(rig: Any, live: Any, official: Any) -> None:
    line = json.dumps(
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    )
    async with live(rig) as client, official(client) as ai:
        file = await ai.files.create(file=("in.jsonl", line.encode()), purpose="batch")
        assert [one.id async for one in ai.files.list()] == [file.id]
        assert (await ai.files.content(file.id)).text == line
        batch = await ai.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert (await ai.batches.retrieve(batch.id)).status == "validating"
        assert [one.id async for one in ai.batches.list()] == [batch.id]
        assert (await ai.batches.cancel(batch.id)).status == "cancelling"
        with pytest.raises(openai.ConflictError):
            await ai.files.delete(file.id)  # nobody here runs the batch to its end
        other = await ai.files.create(file=("in.jsonl", line.encode()), purpose="batch")
        assert (await ai.files.delete(other.id)).deleted is True


async def test_the_client_does_not_retry_what_must_not_be_retried(
    rig: Any, live: Any, official: Any
) -> None:
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client, official(client, max_retries=2, timeout=0.8) as ai:
        with pytest.raises(openai.APIStatusError) as refused:
            await ai.chat.completions.create(model="smol", messages=USER)
    assert refused.value.status_code == 504
    assert refused.value.body["code"] == "deadline_exceeded"
    assert len(rig.events_on("infer.requests")) == 1


async def test_an_error_inside_a_stream_is_the_clients_own_error(
    rig: Any, live: Any, official: Any
) -> None:
    rig.worker.script = lambda worker, request: [
        *worker.chunk(request, "a", 0),
        *worker.failed(request, "backend_failed"),
    ]
    async with live(rig) as client, official(client) as ai:
        stream = await ai.chat.completions.create(model="smol", messages=USER, stream=True)
        with pytest.raises(openai.APIError) as failed:
            async for _ in stream:
                pass
    assert failed.value.code == "backend_failed"
