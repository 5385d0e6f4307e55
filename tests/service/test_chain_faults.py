"""Every fault of a cloud as the chain takes it: who speaks, and how the breaker stands.

Those of a remote server are in test_remote.py.
"""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from service.engines.chain import Chain
from service.engines.elevenlabs import ElevenLabsVoice
from service.engines.engine import Engine
from service.engines.failures import FAILURES
from service.engines.huggingface import HuggingFaceVoice
from service.voices import Personas
from tests.service.clouds import ELEVENLABS_KEY, FAULTS, HF_TOKEN, UNREACHABLE, Cloud, Fault, clouds
from tests.service.rungs import Rung, request_for, tone

pytestmark = pytest.mark.anyio

RUNGS = ("huggingface", "elevenlabs")
DEADLINE = 1.2  # seconds; a rung that waits has half of it
STALL = 0.3
TEXT = "Nobody else may read this sentence."


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with clouds() as cloud:
        yield cloud


def rung_at(name: str, url: str, personas: Personas) -> Engine:
    endpoint = f"{url}/endpoint"
    if name == "elevenlabs":
        return ElevenLabsVoice(
            ELEVENLABS_KEY, "eleven_flash_v2_5", None, url, personas, substitute=True
        )
    return HuggingFaceVoice(HF_TOKEN, "a/b", "auto", endpoint, personas, substitute=True)


def cases() -> Iterator[Any]:
    for name, fault in FAULTS.items():
        for rung in RUNGS:
            if not fault.only or rung in fault.only:
                yield pytest.param(rung, fault, id=f"{rung}-{name}")


async def replaced(name: str, url: str, personas: Personas) -> tuple[str, str]:
    """Ask a chain of the rung and a sound one; give the attempts, and the breaker's state."""
    rung = rung_at(name, url, personas)
    chain = Chain([rung, Rung(tone(2))], deadline_seconds=DEADLINE, stall_seconds=STALL)
    request = replace(request_for(personas["maya"], TEXT), whole=True)
    try:
        async with chain.speak(request) as speech, aclosing(speech.blocks) as blocks:
            assert sum([block.size async for block in blocks]) == 48_000
        return speech.attempts, chain.breakers[name].state
    finally:
        await chain.stop()


@pytest.mark.parametrize(("name", "fault"), [*cases()])
async def test_the_next_rung_speaks_and_the_breaker_stands_as_the_class_says(
    name: str, fault: Fault, cloud: Cloud, personas: Personas
) -> None:
    cloud.act = fault.act
    attempts, state = await replaced(name, cloud.url, personas)
    # Of samples without a header only one rung knows the form; to the others nothing has come yet.
    failure = "timeout" if fault.waits and name != "elevenlabs" else fault.failure
    outcome = failure if fault.waits else fault.outcome or failure
    tries = 2 if FAILURES[failure].again == "once" or fault.retry_after == 0 else 1
    assert attempts == f"{name}={outcome};" * tries + "basic=ok"
    assert state == state_after(failure, fault)


def state_after(failure: str, fault: Fault) -> str:
    match FAILURES[failure].breaker:
        case "latched":
            return "latched"
        case "held":
            return "closed" if fault.retry_after == 0 else "open"
        case "counted" if FAILURES[failure].weight == 3:
            return "open"
        case _:
            return "closed"


@pytest.mark.parametrize("name", RUNGS)
@pytest.mark.parametrize("unreachable", UNREACHABLE)
async def test_a_server_that_cannot_be_reached_is_tried_twice(
    name: str, unreachable: str, cloud: Cloud, personas: Personas
) -> None:
    url, outcome = UNREACHABLE[unreachable]
    attempts, state = await replaced(name, url(cloud), personas)
    assert attempts == f"{name}={outcome};" * 2 + "basic=ok"
    assert state == "closed"
