"""Who may speak to the service from a browser, and under which names."""

from collections.abc import Iterator

import httpx
import pytest

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

ASKED = {"text": "Hello"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    settings = ServiceSettings(
        allowed_hosts="voice,voice.lan",
        public_url="http://maya.example:8000",
        cors_origins="https://page.example",
    )
    with serving(create_app(settings, [Rung(tone(1))])) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000", "192.168.1.7:8000"),
        *("voice", "Voice.LAN:1", "voice.lan.", "maya.example:8000"),
    ],
)
def test_our_names_and_every_address_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "voice@evil.example", "a b", "x:y", "voice/x"],
)
def test_a_name_that_somebody_pointed_at_us_is_refused(client: httpx.Client, host: str) -> None:
    answer = client.get("/livez", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (400, "host_refused")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://["]
)
def test_a_page_of_another_origin_is_refused(client: httpx.Client, origin: str) -> None:
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    answer = client.post("/api/v1/generate", json=ASKED, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")


def test_our_own_page_and_a_listed_one_are_answered(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    for origin in (own, "https://page.example"):
        answer = client.post("/api/v1/generate", json=ASKED, headers={"Origin": origin})
        assert answer.status_code == 200


def test_a_listed_page_may_read_the_answer_and_who_spoke(client: httpx.Client) -> None:
    origin = {"Origin": "https://page.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    before = client.options("/api/v1/generate", headers=asked)
    assert before.headers["access-control-allow-origin"] == "https://page.example"
    answer = client.post("/api/v1/generate", json=ASKED, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["access-control-expose-headers"] == "*"


def test_the_public_address_begins_what_is_fetched_later(client: httpx.Client) -> None:
    answer = client.post("/tts", json=ASKED).json()
    assert answer["audio_url"].startswith("http://maya.example:8000/audio/")


def test_a_star_answers_to_every_name() -> None:
    with serving(create_app(ServiceSettings(allowed_hosts="*"), [Rung(tone(1))])) as client:
        assert client.get("/livez", headers={"Host": "any.example"}).status_code == 200


def test_a_refused_visitor_gets_the_form_of_its_dialect(client: httpx.Client) -> None:
    answer = client.post("/v1/audio/speech", json={"input": "a"}, headers={"Origin": "null"})
    assert answer.json()["error"]["code"] == "origin_refused"
