"""Lists as clients read them: page by page, to their end."""

from typing import Any

import httpx
import openai
import pytest

pytestmark = pytest.mark.anyio


async def add_files(client: httpx.AsyncClient, count: int) -> list[str]:
    made = []
    for number in range(count):
        purpose = "batch" if number % 2 else "vision"
        file = (f"f{number}.jsonl", b"{}\n")
        answer = await client.post("/v1/files", files={"file": file}, data={"purpose": purpose})
        made.append(answer.json()["id"])
    return made


async def test_the_official_client_reads_lists_to_their_end(rig: Any, live: Any) -> None:
    async with (
        live(rig) as client,
        openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as ai,
    ):
        files = await add_files(client, 7)
        assert [file.id async for file in ai.files.list(limit=2)] == files[::-1]
        assert [file.id async for file in ai.files.list(limit=3, order="asc")] == files
        some = [file.id async for file in ai.files.list(limit=1, purpose="batch")]
        assert some == files[1::2][::-1]
        batches = [
            await ai.batches.create(
                input_file_id=files[1],
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
            for _ in range(5)
        ]
        found = [batch.id async for batch in ai.batches.list(limit=2)]
        assert found == [batch.id for batch in batches][::-1]


async def test_a_list_may_be_deleted_while_it_is_read(rig: Any, live: Any) -> None:
    async with (
        live(rig) as client,
        openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as ai,
    ):
        await add_files(client, 5)
        async for file in ai.files.list(limit=2):
            await ai.files.delete(file.id)
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_a_page_says_where_it_begins_and_ends(rig: Any) -> None:
    async with rig.client() as client:
        files = await add_files(client, 4)
        page = (await client.get("/v1/files?order=asc&limit=2")).json()
        assert (page["first_id"], page["last_id"], page["has_more"]) == (files[0], files[1], True)
        page = (await client.get(f"/v1/files?order=asc&limit=9&after={files[1]}")).json()
        assert ([file["id"] for file in page["data"]], page["has_more"]) == (files[2:], False)
        page = (await client.get(f"/v1/files?order=asc&limit=1&before={files[2]}")).json()
        assert ([file["id"] for file in page["data"]], page["has_more"]) == (files[1:2], True)
        assert (await client.get("/v1/files?limit=10000")).status_code == 200


@pytest.mark.parametrize("path", ["files", "batches", "requests", "callbacks"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"), ("limit", "-1"), ("limit", "ten"), ("limit", "99999"), ("limit", "1" * 40),
        ("order", "newest"), ("after", "nobody"), ("before", "nobody"), ("after", "x" * 300),
    ],
)  # fmt: skip
async def test_a_bad_value_is_named(rig: Any, path: str, name: str, value: str) -> None:
    async with rig.client() as client:
        answer = await client.get(f"/v1/{path}", params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name


async def test_a_purpose_that_no_file_can_have_is_refused(rig: Any) -> None:
    async with rig.client() as client:
        answer = await client.get("/v1/files?purpose=nonsense")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")
        assert (await client.get("/v1/files?purpose=batch_output")).status_code == 200


async def test_requests_have_pages_whichever_name_they_are_known_by(
    rig: Any, chat: Any, ended: Any
) -> None:
    event = {
        "ce-specversion": "1.0",
        "ce-source": "/shop",
        "ce-type": "io.pickspin.inference.request.v1",
        "content-type": "application/json",
    }
    async with rig.client() as client:
        for number in range(3):
            sent = await client.post("/", json=chat, headers={**event, "ce-id": f"order-{number}"})
            await ended(client, sent.headers["location"])
        first = (await client.get("/v1/requests?limit=2&state=completed")).json()
        assert [row["id"] for row in first["data"]] == ["order-2", "order-1"]
        assert first["has_more"] is True
        for after in (first["last_id"], "order-1"):
            last = (await client.get(f"/v1/requests?limit=2&after={after}")).json()
            assert [row["id"] for row in last["data"]] == ["order-0"]
            assert last["has_more"] is False


async def test_callbacks_are_listed_without_their_secrets(rig: Any) -> None:
    async with rig.client() as client:
        made = []
        for number in range(3):
            url = f"https://hooks.example.org/{number}"
            made.append((await client.post("/v1/callbacks", json={"url": url})).json()["id"])
        await client.delete(f"/v1/callbacks/{made[0]}")
        page = (await client.get("/v1/callbacks?limit=1&order=asc")).json()
        assert page["has_more"] is True
        rest = (await client.get(f"/v1/callbacks?order=asc&after={page['last_id']}")).json()
        found = [*page["data"], *rest["data"]]
        assert sorted(target["id"] for target in found) == sorted(made[1:])
        assert not any("secret" in target for target in found)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("naïve 🦊.jsonl", "naïve 🦊.jsonl"),
        ("файл.jsonl", "файл.jsonl"),
        ('quo"te.jsonl', 'quo"te.jsonl'),
        ("a" * 150 + ".jsonl", "a" * 150 + ".jsonl"),
        ("a\r\nb\u202e.jsonl", "a__b_.jsonl"),
        ("a" * 300, "a" * 255),
    ],
)
async def test_a_file_keeps_its_name(rig: Any, sent: str, kept: str) -> None:
    async with rig.client() as client:
        file = await client.post(
            "/v1/files", files={"file": (sent, b"x")}, data={"purpose": "batch"}
        )
        assert file.json()["filename"] == kept
