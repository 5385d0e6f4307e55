"""Every header that an answer carries has a row in the API's page, and every row an answer."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.errors import EngineError
from service.settings import ServiceSettings
from service.voices import Persona
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "api.md"
KEY = "a-key-of-the-tests"
SHOWN = {"Authorization": f"Bearer {KEY}"}
ORIGIN = "https://maya.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "Content-Type",
}

OF_HTTP = {"connection", "content-length", "content-type", "date", "server", "transfer-encoding"}
"""What every server says, as RFC 9110 and 9112 have it."""


class StandIn(Rung):
    """Speaks with another voice than the persona's."""

    def substitution(self, persona: Persona) -> str | None:
        del persona
        return "espeak-ng:en-us"


@pytest.fixture(scope="module")
def answers() -> Iterator[list[httpx.Response]]:
    """One answer of every kind."""
    settings = ServiceSettings(server_key=SecretStr(KEY), cors_origins=ORIGIN, queue_limit=0)
    csm = Rung(tone(1), name="csm")
    silent = Rung(name="csm", error=EngineError("it fell silent"))
    stand_in = StandIn(tone(1))
    said = {"text": "Hello"}
    with (
        serving(create_app(settings, [csm])) as client,
        serving(create_app(ServiceSettings(), [silent])) as broken,
        serving(create_app(ServiceSettings(), [stand_in])) as other,
    ):
        yield [
            client.post("/generate", json=said, headers=SHOWN),
            client.post("/generate", json=said, headers=SHOWN),
            client.post("/generate", json={**said, "stream": True}, headers=SHOWN),
            client.post("/tts", json=said, headers={**SHOWN, "Origin": ORIGIN}),
            client.post("/generate", json={"text": ""}, headers=SHOWN),
            client.post("/generate", json=said),
            client.put("/generate", headers=SHOWN),
            client.get("/nowhere", headers=SHOWN),
            client.get("/health"),
            client.get("/metrics", headers=SHOWN),
            client.get("/"),
            client.get("/web/page.js"),
            client.get("/openapi.json", headers=SHOWN),
            client.options("/generate", headers=PREFLIGHT),
            broken.post("/generate", json=said),
            other.post("/generate", json=said),
        ]


def documented() -> set[str]:
    """Return the names in the first column of the page's tables of headers."""
    text = PAGE.read_text(encoding="utf-8")
    tables = re.findall(r"^\| header \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    cells = [line.split("|")[1] for table in tables for line in table.splitlines()]
    return {name.lower() for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_header_is_documented(answers: list[httpx.Response]) -> None:
    sent = {name.lower() for answer in answers for name in answer.headers}
    assert sent - OF_HTTP - documented() == set()


def test_every_documented_header_is_sent(answers: list[httpx.Response]) -> None:
    sent = {name.lower() for answer in answers for name in answer.headers}
    assert documented() - sent == set()
