"""Who opens the address in a browser, or with curl, sees what runs and what to try."""

from typing import Any

import pytest

from functions.ingress.api.front_page import as_html, as_text
from functions.ingress.api_keys import ApiKeys

pytestmark = pytest.mark.anyio
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_browser_gets_a_page(rig: Any) -> None:
    async with rig.client() as client:
        found = await client.get("/", headers=BROWSER)
        listed = (await client.get("/v1/models")).json()["data"]

    assert found.status_code == 200
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert listed
    assert all(model["id"] in found.text for model in listed)
    assert "/v1/chat/completions" in found.text
    assert "<script" not in found.text


async def test_a_terminal_gets_the_same_as_text(rig: Any) -> None:
    async with rig.client() as client:
        found = await client.get("/", headers={"accept": "*/*"})

    assert found.headers["content-type"].startswith("text/plain")
    assert "<" not in found.text
    assert "curl http" in found.text


async def test_models_are_for_those_who_have_a_key(rig: Any) -> None:
    async with rig.client() as client:
        names = [one["id"] for one in (await client.get("/v1/models")).json()["data"]]
    rig.use(keys=ApiKeys.parse("me=secret"))
    async with rig.client() as client:
        found = await client.get("/", headers=BROWSER)

    assert found.status_code == 200
    assert not any(f"<td>{name}" in found.text for name in names)
    assert "Authorization: Bearer" in found.text


async def test_an_event_is_still_posted_there(rig: Any) -> None:
    async with rig.client() as client:
        found = await client.post("/", json={}, headers={"content-type": "application/json"})

    assert found.status_code == 400


def test_nothing_of_a_host_or_a_name_is_markup() -> None:
    model = {"id": "<b>m", "pickspin": {"state": "cold", "eta_s": 3.0, "simulated": True}}

    page = as_html("http://<i>x", [model], is_ready=False)

    assert "<b>m" not in page
    assert "<i>x" not in page
    assert "not ready" in page
    assert "<b>m (simulated)  cold, ready 3 s" in as_text("http://x", [model], is_ready=True)
