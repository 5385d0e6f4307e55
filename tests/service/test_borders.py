import json
import logging
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import httpx
import pytest
from pydantic import SecretStr

from service.api.bodies import LARGEST_BODY
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

ROUTE = "/api/v1/generate"
KEY = "k3y-ключ"


@pytest.fixture(scope="module")
def locked() -> Iterator[httpx.Client]:
    """Serve with a server key."""
    with serving(create_app(ServiceSettings(server_key=SecretStr(KEY)))) as client:
        yield client


def shown(name: str, value: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode())]


@pytest.mark.parametrize(
    "headers",
    [
        shown("Authorization", f"Bearer {KEY}"),
        shown("authorization", f"bearer  {KEY}"),
        shown("xi-api-key", KEY),
        shown("X-API-Key", KEY),
        shown("X-API-Key", "wrong") + shown("Authorization", f"Bearer {KEY}"),
    ],
)
def test_who_shows_the_key_is_served(
    headers: list[tuple[bytes, bytes]], locked: httpx.Client
) -> None:
    assert locked.post(ROUTE, json={"text": "Hello"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        shown("Authorization", "Bearer wrong"),
        shown("Authorization", "Bearer"),
        shown("Authorization", "Bearer undefined"),
        shown("Authorization", KEY),
        shown("Authorization", f"Basic {KEY}"),
        shown("xi-api-key", KEY[:-1]),
        shown("xi-api-key", ""),
        [(b"X-API-Key", b"\xff\xfe\xe9")],
    ],
)
def test_who_does_not_show_the_key_is_refused(
    headers: list[tuple[bytes, bytes]], locked: httpx.Client
) -> None:
    answer = locked.post(ROUTE, json={"text": "Hello"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_refused")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health_is_open_to_all(path: str, locked: httpx.Client) -> None:
    assert locked.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/nowhere", "/health/"])
def test_everything_else_wants_the_key(path: str, locked: httpx.Client) -> None:
    assert locked.get(path).status_code == 401


@pytest.mark.parametrize("value", ["Bearer local", "Bearer", "Bearer undefined", "nonsense"])
def test_without_a_server_key_any_key_is_accepted(value: str, voice: httpx.Client) -> None:
    headers = {"Authorization": value}
    assert voice.post(ROUTE, json={"text": "Hello"}, headers=headers).status_code == 200


def test_an_announced_body_over_the_limit_is_refused_unread(voice: httpx.Client) -> None:
    connection = HTTPConnection(voice.base_url.host, voice.base_url.port, timeout=10)
    connection.putrequest("POST", ROUTE)
    connection.putheader("Content-Length", str(LARGEST_BODY + 1))
    connection.endheaders()
    with closing(connection), connection.getresponse() as answer:
        assert (answer.status, json.load(answer)["code"]) == (413, "body_too_large")


def test_a_body_over_the_limit_is_refused(voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": "a" * LARGEST_BODY})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_that_is_not_announced_is_refused_once_over_the_limit(voice: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"text":"'
        for _ in range(20):
            yield b"a" * (LARGEST_BODY // 10)
        yield b'"}'

    answer = voice.post(ROUTE, content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_at_the_limit_is_read(voice: httpx.Client) -> None:
    body = b'{"text":"Hello"}'.ljust(LARGEST_BODY)
    answer = voice.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


def test_a_sane_request_id_is_kept(voice: httpx.Client) -> None:
    answer = voice.get("/health", headers={"X-Request-Id": "maya-7.2:a_b"})
    assert answer.headers["x-request-id"] == "maya-7.2:a_b"


@pytest.mark.parametrize("came", ["", "a b", "a" * 65, "<script>", "é"])
def test_any_other_request_id_is_replaced(came: str, voice: httpx.Client) -> None:
    answer = voice.get("/health", headers=[(b"X-Request-Id", came.encode())])
    assert len(answer.headers["x-request-id"]) == 32


def test_every_request_has_an_id_of_its_own(voice: httpx.Client) -> None:
    ids = {voice.get("/health").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_an_unknown_path_is_told_so_in_our_form(voice: httpx.Client) -> None:
    answer = voice.get("/nowhere")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_wrong_method_is_told_so_in_our_form(voice: httpx.Client) -> None:
    answer = voice.get(ROUTE)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_path_with_a_slash_too_many_is_not_redirected(voice: httpx.Client) -> None:
    assert voice.post(f"{ROUTE}/", json={"text": "Hello"}).status_code == 404


def test_a_defect_is_answered_in_our_form_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Defective(Rung):
        def substitution(self, persona: object) -> str | None:
            raise RuntimeError(f"a secret about {persona}")

    app = create_app(ServiceSettings(), [Defective(tone())])
    with caplog.at_level(logging.INFO), serving(app) as client:
        answer = client.post(ROUTE, json={"text": "Hello"})
    assert (answer.status_code, answer.json()["code"]) == (500, "defect")
    assert answer.headers["x-request-id"]
    assert "secret" not in answer.text
    assert "status=500" in caplog.text
