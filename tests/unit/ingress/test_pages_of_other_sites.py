"""A stack without keys serves this machine: a web page that its owner looks at can neither read nor write here."""

from typing import Any

import pytest

from functions.ingress.api_keys import ApiKeys
from functions.ingress.browser_origins import Origins
from functions.runtime.errors import ApiError
from functions.runtime.settings import IngressSettings

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"


def checked(**settings: Any) -> Origins:
    return Origins(IngressSettings(**settings), checks=True)


def refusal_of(origins: Origins, method: str, *headers: tuple[str, str]) -> str | None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    try:
        origins.check(method, raw)
    except ApiError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8080", "127.8.8.8:1", "localhost", "LocalHost:8080", "localhost.",
        "[::1]", "[::1]:8080", "app.localhost:80", "localhost:",
        "pickspin", "model-box:8080",
    ],
)  # fmt: skip
async def test_names_of_this_machine_are_served(host: str) -> None:
    assert refusal_of(checked(), "GET", ("host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example", "rebound.example:8080", "127.0.0.1.rebound.example", "localhost.example",
        "2130706433", "10.0.0.7", "0.0.0.0", "", "[::1", "[::2]", "[::1]x", "localhost:80:80",
        "localhost@rebound.example", "127.0.0.1 rebound.example", "::1",
    ],
)  # fmt: skip
async def test_other_names_are_not(host: str) -> None:
    assert refusal_of(checked(), "GET", ("host", host)) == "host_not_allowed"


async def test_two_hosts_are_one_too_many() -> None:
    twice = (("host", "localhost"), ("host", "localhost"))
    assert refusal_of(checked(), "GET", *twice) == "host_not_allowed"


async def test_the_settings_name_further_hosts() -> None:
    origins = checked(host="127.0.0.5", allowed_hosts="dev.example, Box.Example.")
    for host in ("dev.example:8080", "box.example", "BOX.example."):
        assert refusal_of(origins, "GET", ("host", host)) is None
    assert refusal_of(origins, "GET", ("host", "sub.dev.example")) == "host_not_allowed"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "SOMETHING"])
async def test_a_page_of_another_site_changes_nothing(method: str) -> None:
    origins = checked(allowed_origins="https://chat.example")
    for origin in ("https://evil.example", "null", "", "localhost", "file://", "http://10.0.0.7"):
        found = refusal_of(origins, method, ("host", "localhost"), ("origin", origin))
        assert found == "origin_not_allowed", origin
    for origin in ("https://chat.example", "http://localhost:3000", "http://127.0.0.1:8080"):
        assert refusal_of(origins, method, ("host", "localhost"), ("origin", origin)) is None


async def test_a_page_may_read_what_the_browser_will_not_show_it() -> None:
    headers = (("host", "localhost"), ("origin", "https://evil.example"))
    assert refusal_of(checked(), "GET", *headers) is None


async def test_the_doors_ask_before_anything_else(rig: Any, chat: Any) -> None:
    async with rig.client() as client:
        rebound = await client.get("/v1/requests", headers={"host": "rebound.example"})
        form = await client.post(
            "/v1/files",
            files={"file": ("a", b"x")},
            data={"purpose": "batch"},
            headers={"origin": "https://evil.example"},
        )
        call = await client.post(CHAT, json=chat, headers={"origin": "https://evil.example"})
        mine = await client.post(CHAT, json=chat, headers={"origin": "http://localhost:8080"})
    assert [one.json()["error"]["code"] for one in (rebound, form, call)] == [
        "host_not_allowed",
        "origin_not_allowed",
        "origin_not_allowed",
    ]
    assert {one.status_code for one in (rebound, form, call)} == {403}
    assert mine.status_code == 200
    assert len(rig.events_on("infer.requests")) == 1


async def test_with_keys_any_name_is_served(rig: Any, chat: Any) -> None:
    rig.use(keys=ApiKeys.parse("a=secret"))
    headers = {"host": "models.example", "origin": "https://chat.example"}
    async with rig.client(authorization="Bearer secret") as client:
        assert (await client.post(CHAT, json=chat, headers=headers)).status_code == 200
