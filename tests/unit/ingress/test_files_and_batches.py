"""Files and batches: rows and bytes."""

from dataclasses import replace
from typing import Any

import pytest

from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio
LINE = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}}\n'


async def upload(client: Any, data: bytes = LINE, purpose: str = "batch", **headers: str) -> Any:
    return await client.post(
        "/v1/files",
        files={"file": ("in put\n.jsonl", data)},
        data={"purpose": purpose},
        headers=headers,
    )


async def test_a_file_comes_back_as_it_went_in(rig: Any) -> None:
    async with rig.client() as client:
        file = (await upload(client)).json()
        assert file["object"] == "file"
        assert file["bytes"] == len(LINE)
        assert "\n" not in file["filename"]
        url = f"/v1/files/{file['id']}"
        assert (await client.get(url)).json() == file
        assert (await client.get("/v1/files")).json()["data"] == [file]
        assert (await client.get("/v1/files?purpose=vision")).json()["data"] == []
        content = await client.get(f"{url}/content")
        assert content.content == LINE
        assert content.headers["content-disposition"] == "attachment"
        assert (await client.delete(url)).json()["deleted"] is True
        assert (await client.get(url)).status_code == 404


async def test_a_file_over_the_limit_is_413(rig: Any) -> None:
    rig.configure(max_file_bytes=1000)
    async with rig.client() as client:
        assert (await upload(client, b"x" * 1001)).status_code == 413
        assert (await upload(client, b"x" * 200_000)).status_code == 413
        assert (await upload(client, b"x" * 1000)).status_code == 200


async def test_a_form_that_is_none_is_refused(rig: Any) -> None:
    async with rig.client() as client:
        no_file = await client.post("/v1/files", files={"other": b"x"}, data={"purpose": "batch"})
        assert no_file.status_code == 400
        assert (await upload(client, purpose="nonsense")).status_code == 400
        assert (await client.post("/v1/files", json={})).status_code == 415
        broken = await client.post(
            "/v1/files",
            content=b"garbage",
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert broken.status_code == 400
        unbounded = await client.post(
            "/v1/files", content=b"garbage", headers={"content-type": "multipart/form-data"}
        )
        assert unbounded.status_code == 400


async def test_an_upload_with_the_same_key_is_one_file(rig: Any) -> None:
    async with rig.client() as client:
        ids = [(await upload(client, **{"idempotency-key": "f"})).json()["id"] for _ in range(2)]
        assert ids[0] == ids[1]
        assert (await upload(client, b"other", **{"idempotency-key": "f"})).status_code == 409


async def test_a_batch_is_created_listed_and_cancelled(rig: Any) -> None:
    async with rig.client() as client:
        file = (await upload(client)).json()
        asked = {
            "input_file_id": file["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "2h",
            "metadata": {"team": "x"},
        }
        batch = (await client.post("/v1/batches", json=asked)).json()
        assert batch["object"] == "batch"
        assert batch["status"] == "validating"
        assert batch["expires_at"] - batch["created_at"] == 7200
        assert batch["metadata"] == {"team": "x"}
        url = f"/v1/batches/{batch['id']}"
        assert (await client.get(url)).json() == batch
        assert (await client.get("/v1/batches")).json()["data"] == [batch]
        cancelled = (await client.post(f"{url}/cancel")).json()
        assert cancelled["status"] == "cancelling"
        assert (await client.post(f"{url}/cancel")).json()["status"] == "cancelling"
    assert [row.id for row in rig.deps.store.open_batches()] == [batch["id"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "/v1/images"},
        {"endpoint": None},
        {"completion_window": "8d"},
        {"completion_window": "soon"},
        {"completion_window": "0h"},
        {"metadata": {"a": 1}},
        {"metadata": []},
        {"input_file_id": 5},
    ],
)
async def test_a_bad_batch_is_400(rig: Any, changes: Any) -> None:
    async with rig.client() as client:
        file = (await upload(client)).json()
        asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings"} | changes
        answer = await client.post("/v1/batches", json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"


async def test_a_batch_over_a_missing_file_is_404(rig: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/batches", json={"input_file_id": "file-none", "endpoint": "/v1/embeddings"}
        )
    assert answer.status_code == 404


async def test_a_batch_with_the_same_key_is_one_batch(rig: Any) -> None:
    async with rig.client() as client:
        file = (await upload(client)).json()
        asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings"}
        ids = [
            (await client.post("/v1/batches", json=asked, headers={"idempotency-key": "b"})).json()[
                "id"
            ]
            for _ in range(2)
        ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(("asked", "status"), [("8", 200), ("0", 400), ("x", 400), ("12345", 400)])
async def test_a_batch_says_how_many_of_its_lines_run_at_once(
    rig: Any, asked: str, status: int
) -> None:
    async with rig.client() as client:
        file = (await upload(client)).json()
        body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "metadata": {"a": "b"}}
        headers = {"x-pickspin-concurrency": asked}
        answer = await client.post("/v1/batches", json=body, headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["metadata"] == {"a": "b", "pickspin_concurrency": asked}


async def test_files_and_batches_of_others_are_404(rig: Any) -> None:
    rig.deps = replace(rig.deps, keys=ApiKeys.parse("a=key-a,b=key-b"))
    async with rig.client() as client:
        file = (await upload(client, authorization="Bearer key-a")).json()
        other = {"authorization": "Bearer key-b"}
        assert (await client.get(f"/v1/files/{file['id']}", headers=other)).status_code == 404
        assert (
            await client.get(f"/v1/files/{file['id']}/content", headers=other)
        ).status_code == 404
        assert (await client.delete(f"/v1/files/{file['id']}", headers=other)).status_code == 404
        asked = {"input_file_id": file["id"], "endpoint": "/v1/embeddings"}
        assert (await client.post("/v1/batches", json=asked, headers=other)).status_code == 404


async def test_a_file_that_a_batch_reads_is_deleted_only_after_its_end(rig: Any) -> None:
    async with rig.client() as client:
        file = (await upload(client)).json()
        url = f"/v1/files/{file['id']}"
        asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions"}
        batch = (await client.post("/v1/batches", json=asked)).json()
        refused = await client.delete(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "file_in_use")
        assert refused.headers["x-should-retry"] == "false"
        assert (await client.get(f"{url}/content")).content == LINE
        row = rig.deps.store.batch(batch["id"])
        rig.deps.store.update_batch(replace(row, status="completed"))
        assert (await client.delete(url)).json()["deleted"] is True
        assert (await client.delete(url)).status_code == 404


async def test_a_field_of_an_upload_that_nothing_does_is_refused_by_name(rig: Any) -> None:
    async with rig.client() as client:
        answer = await client.post(
            "/v1/files", files={"file": ("a", LINE)}, data={"purpose": "batch", "mine": "3600"}
        )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_parameter")
    assert error["param"] == "mine"


def expiring(anchor: str | None, seconds: str | None) -> dict[str, str]:
    given = {"expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    return {"purpose": "batch"} | {name: value for name, value in given.items() if value}


async def test_a_file_that_expires_says_when_wherever_it_is_shown(rig: Any) -> None:
    async with rig.client() as client:
        data = expiring("created_at", "3600")
        made = (await client.post("/v1/files", files={"file": ("a", LINE)}, data=data)).json()
        shown = (await client.get(f"/v1/files/{made['id']}")).json()
        (listed,) = (await client.get("/v1/files")).json()["data"]
    assert made["expires_at"] == made["created_at"] + 3600
    assert made == shown == listed


@pytest.mark.parametrize(
    ("anchor", "seconds", "param"),
    [
        (None, "3600", "expires_after[anchor]"),
        ("now", "3600", "expires_after[anchor]"),
        ("created_at", None, "expires_after[seconds]"),
        ("created_at", "3599", "expires_after[seconds]"),
        ("created_at", "2592001", "expires_after[seconds]"),
        ("created_at", "-1", "expires_after[seconds]"),
        ("created_at", "9" * 5000, "expires_after[seconds]"),
        ("created_at", "\u0663600", "expires_after[seconds]"),
        ("created_at", "soon", "expires_after[seconds]"),
    ],
)
async def test_an_expiry_that_is_none_is_refused_by_name(
    rig: Any, anchor: str | None, seconds: str | None, param: str
) -> None:
    async with rig.client() as client:
        data = expiring(anchor, seconds)
        answer = await client.post("/v1/files", files={"file": ("a", LINE)}, data=data)
        listed = (await client.get("/v1/files")).json()["data"]
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    assert listed == []


async def test_a_field_of_a_batch_that_nothing_does_is_refused_by_name(rig: Any) -> None:
    async with rig.client() as client:
        body = {
            "endpoint": "/v1/chat/completions",
            "input_file_id": (await upload(client)).json()["id"],
            "output_expires_after": None,
        }
        assert (await client.post("/v1/batches", json=body)).status_code == 200
        body["output_expires_after"] = {"anchor": "created_at", "seconds": 3600}
        error = (await client.post("/v1/batches", json=body)).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", "output_expires_after")
