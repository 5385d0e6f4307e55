"""The remote rung against real servers: our own service, one of each form, and every fault."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import create_app
from service.audio import SAMPLE_RATE, is_silent
from service.engines.chain import Chain
from service.engines.engine import SpeechRequest
from service.engines.failures import FAILURES
from service.engines.instance import HEADER
from service.engines.remote import RemoteVoice
from service.errors import RungError, SettingsError
from service.settings import ServiceSettings
from service.text import segments
from service.voices import Persona, Personas, RemoteVoiceTable
from tests.checks.fake_service import BASIC, HEALTHY, LOADING, OFFLINE, Exchange, streamed
from tests.service.clouds import (
    FAULTS,
    UNREACHABLE,
    Act,
    Cloud,
    Fault,
    body,
    clouds,
    redirected,
    status,
    wav,
)
from tests.service.held import TIMEOUT
from tests.service.rungs import Rung, request_for, tone
from tests.service.serving import listen, serving

KEY = "key-of-the-remote-voice"
OURS = "0" * 32
ANOTHER = "a" * 32
ROUTE = "/api/v1/generate"
PLACES = {"sesame": ROUTE, "openai": "/v1/audio/speech", "raw": "/speak"}
"""Where a server of each form is asked to speak."""

MINE = {name: fault for name, fault in FAULTS.items() if not fault.only or "remote" in fault.only}
HEARD = [name for name, fault in MINE.items() if not (fault.waits or fault.unheard)]

pytestmark = pytest.mark.anyio


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Serve all three forms."""
    with clouds() as served:
        for place in ("/v1/audio/speech", "/speak"):
            served.acts_at[place] = body(wav(), "audio/wav")
        yield served


@asynccontextmanager
async def remote(
    url: str,
    personas: Personas,
    *,
    key: str | None = KEY,
    form: Any = "auto",
    substitute: bool = True,
) -> AsyncGenerator[RemoteVoice]:
    rung = RemoteVoice(url, key, personas, form=form, substitute=substitute, instance=OURS)
    await rung.start()
    try:
        yield rung
    finally:
        await rung.stop()


async def spoken(rung: RemoteVoice, request: SpeechRequest) -> "np.ndarray[Any, Any]":
    async with aclosing(rung.speak(request)) as blocks:
        return np.concatenate([block async for block in blocks])


def last_question(cloud: Cloud) -> Any:
    return json.loads(cloud.syntheses[-1].body)


def with_stranger(personas: Personas) -> tuple[Personas, Persona]:
    """Add a persona of the operator's, which no other server has."""
    stranger = personas["maya"].model_copy(update={"name": "stranger", "aliases": ()})
    return Personas([*personas.values(), stranger]), stranger


# Which form a URL has, and what is asked


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", ROUTE),
        ("/", ROUTE),
        ("/api/v1/generate", ROUTE),
        ("/maya/api/v1/generate/", "/maya/api/v1/generate"),
        ("/generate", "/generate"),
        ("/v1", "/v1/audio/speech"),
        ("/v1/", "/v1/audio/speech"),
        ("/proxy/v1/audio/speech", "/proxy/v1/audio/speech"),
        ("/speak", "/speak"),
        ("/speak?model=a", "/speak?model=a"),
    ],
)
async def test_the_path_tells_where_to_ask(
    cloud: Cloud, personas: Personas, path: str, asked: str
) -> None:
    cloud.acts_at[asked.partition("?")[0]] = body(wav(), "audio/wav")
    async with remote(cloud.url + path, personas) as rung:
        await spoken(rung, request_for(personas["maya"]))
    assert cloud.syntheses[-1].path == asked


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        ("sesame", "/voice/api/v1/generate"),
        ("openai", "/voice/v1/audio/speech"),
        ("raw", "/voice"),
    ],
)
async def test_a_form_that_is_named_is_believed(
    cloud: Cloud, personas: Personas, form: str, asked: str
) -> None:
    cloud.acts_at[asked] = body(wav(), "audio/wav")
    async with remote(f"{cloud.url}/voice", personas, form=form) as rung:
        await spoken(rung, request_for(personas["maya"]))
    assert cloud.syntheses[-1].path == asked


@pytest.mark.parametrize("url", ["http://voice\x01/", "http://xn--/"])
def test_an_address_that_is_none_is_refused(personas: Personas, url: str) -> None:
    with pytest.raises(SettingsError, match="SESAME_URL"):
        RemoteVoice(url, None, personas, substitute=True, instance=OURS)


async def test_our_own_form_passes_on_all_that_was_asked(cloud: Cloud, personas: Personas) -> None:
    request = SpeechRequest(
        segments('Hello <break time="400ms"/> Maya'),
        personas["warm"],
        temperature=0.5,
        top_k=7,
        seed=3,
        longest_seconds=1.5,
    )
    async with remote(cloud.url, personas) as rung:
        await spoken(rung, request)
    assert last_question(cloud) == {
        "text": 'Hello <break time="400ms"/> Maya',
        "voice": "warm",
        "format": "wav",
        "sample_rate": SAMPLE_RATE,
        "stream": True,
        "seed": 3,
        "temperature": 0.5,
        "top_k": 7,
        "max_audio_length_ms": 1500,
    }


async def test_pauses_that_would_make_the_text_too_long_are_left_to_the_voice(
    cloud: Cloud, personas: Personas
) -> None:
    request = SpeechRequest(segments("a<break/>" * 500), personas["maya"])
    async with remote(cloud.url, personas) as rung:
        await spoken(rung, request)
    assert last_question(cloud)["text"].startswith("a … a … a")


async def test_the_openai_form_asks_for_a_voice_by_its_name(
    cloud: Cloud, personas: Personas
) -> None:
    alloy = personas["maya"].model_copy(update={"remote": RemoteVoiceTable(voice="alloy")})
    async with remote(f"{cloud.url}/v1", personas) as rung:
        await spoken(rung, request_for(alloy))
    asked = {"model": "tts-1", "input": "hello", "voice": "alloy", "response_format": "wav"}
    assert last_question(cloud) == asked


async def test_a_raw_endpoint_gets_the_text_and_nothing_else(
    cloud: Cloud, personas: Personas
) -> None:
    async with remote(f"{cloud.url}/speak", personas) as rung:
        await spoken(rung, request_for(personas["maya"]))
    assert last_question(cloud) == {"inputs": "hello"}


@pytest.mark.parametrize("form", PLACES)
async def test_every_form_gives_the_samples_of_the_answer(
    cloud: Cloud, personas: Personas, form: str
) -> None:
    async with remote(cloud.url + PLACES[form], personas) as rung:
        samples = await spoken(rung, request_for(personas["maya"]))
    assert samples.dtype == np.float32
    assert samples.size == 2 * SAMPLE_RATE
    assert not is_silent(samples)


async def test_samples_without_a_header_are_understood_by_their_name(
    cloud: Cloud, personas: Personas
) -> None:
    cloud.acts_at["/v1/audio/speech"] = body(cloud.kept, "audio/pcm")
    async with remote(f"{cloud.url}/v1", personas) as rung:
        samples = await spoken(rung, request_for(personas["maya"]))
    assert samples.size == len(cloud.kept) // 2


# Whose voice it is


async def test_a_second_service_speaks_and_says_who_stands_in(
    voice: httpx.Client, personas: Personas
) -> None:
    request = request_for(personas["maya"], "Hello from Maya")
    async with remote(str(voice.base_url), personas) as rung:
        samples = await spoken(rung, request)
    assert not is_silent(samples)
    assert request.remark.substitution == "remote:basic:espeak-ng:en-us+f3"


def test_a_gateway_says_who_spoke_behind_it(voice: httpx.Client) -> None:
    settings = ServiceSettings(mode="online", url=str(voice.base_url), basic_voice=False)
    with serving(create_app(settings)) as gateway:
        answer = gateway.post(ROUTE, json={"text": "Hello from Maya", "voice": "warm"})
    assert answer.headers["X-Speech-Engine"] == "remote"
    assert answer.headers["X-Speech-Substitution"] == "warm=remote:basic:espeak-ng:en-us+f4"


@pytest.mark.parametrize(
    ("headers", "substitution"),
    [
        ({"X-Speech-Engine": "csm", "X-Speech-Voice": "maya"}, None),
        ({"X-Speech-Engine": "remote", "X-Speech-Voice": "maya"}, None),
        ({"X-Speech-Engine": "csm", "X-Speech-Voice": "neutral"}, "remote:neutral"),
        ({"X-Speech-Engine": "elevenlabs"}, "remote:elevenlabs"),
        (
            {"X-Speech-Engine": "elevenlabs", "X-Speech-Substitution": "maya=elevenlabs:Sarah"},
            "remote:elevenlabs:Sarah",
        ),
        (
            {"X-Speech-Engine": "basic", "X-Speech-Substitution": "maya=espeak-ng:en-us+f3"},
            "remote:basic:espeak-ng:en-us+f3",
        ),
        ({"X-Speech-Engine": "csm", "X-Speech-Substitution": "maya=\xfcber alles"}, "remote:csm"),
        ({}, "remote:maya"),
    ],
)
async def test_the_answer_tells_whose_voice_it_is(
    cloud: Cloud, personas: Personas, headers: dict[str, str], substitution: str | None
) -> None:
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    cloud.acts_at[ROUTE] = lambda exchange, _: exchange.answer(
        200, wav(), Content_Type="audio/wav", **named
    )
    request = request_for(personas["maya"])
    async with remote(cloud.url, personas) as rung:
        await spoken(rung, request)
        assert (request.remark.substitution or rung.substitution(request.persona)) == substitution


@pytest.mark.parametrize(("form", "named"), [("openai", "remote:warm"), ("raw", "remote:raw")])
async def test_a_voice_of_another_form_is_never_the_personas_own(
    cloud: Cloud, personas: Personas, form: str, named: str
) -> None:
    async with remote(cloud.url + PLACES[form], personas) as rung:
        assert rung.substitution(personas["warm"]) == named


async def test_a_voice_that_was_refused_is_stood_in_for_from_then_on(
    cloud: Cloud, personas: Personas
) -> None:
    known, stranger = with_stranger(personas)
    async with remote(cloud.url, known) as rung:
        with pytest.raises(RungError) as refused:
            await spoken(rung, request_for(stranger))
        assert refused.value.failure == "no_voice"
        await spoken(rung, request_for(stranger))
        assert last_question(cloud)["voice"] == "maya"
        assert rung.substitution(stranger) == "remote:maya"


async def test_without_stand_ins_a_refused_voice_is_not_spoken_for(
    cloud: Cloud, personas: Personas
) -> None:
    known, stranger = with_stranger(personas)
    async with remote(cloud.url, known, substitute=False) as rung:
        with pytest.raises(RungError):
            await spoken(rung, request_for(stranger))
        assert not rung.speaks_for(stranger)
        with pytest.raises(RungError, match="no voice") as unasked:
            await spoken(rung, request_for(stranger))
        assert unasked.value.failure == "no_voice"
    assert len(cloud.syntheses) == 1


async def test_a_refused_voice_is_asked_for_again_once_the_server_has_it(
    cloud: Cloud, personas: Personas
) -> None:
    known, stranger = with_stranger(personas)
    async with remote(cloud.url, known) as rung:
        with pytest.raises(RungError):
            await spoken(rung, request_for(stranger))
        cloud.health["voices"] = ["maya", "stranger"]
        await rung.probe()
        assert rung.substitution(stranger) is None


async def test_a_raw_endpoint_has_one_voice(cloud: Cloud, personas: Personas) -> None:
    async with remote(f"{cloud.url}/speak", personas, substitute=False) as rung:
        assert rung.speaks_for(personas["maya"])
        assert not rung.speaks_for(personas["warm"])
    async with remote(f"{cloud.url}/speak", personas) as rung:
        assert rung.speaks_for(personas["warm"])


# How it fails


def refusing(code: int, word: str, **headers: str) -> Act:
    """Answer as our own contract refuses."""
    told = json.dumps({"success": False, "error": "LEAK of the body", "code": word}).encode()
    return lambda exchange, _: exchange.answer(
        code, told, Content_Type="application/json", **headers
    )


def cut_refusal(exchange: Exchange, _: Cloud) -> None:
    exchange.start(401, 100)
    exchange.leave()


OWN_REFUSALS = {
    "voice unknown": Fault(refusing(422, "voice_unknown"), "no_voice"),
    "field refused": Fault(refusing(422, "field_refused"), "unspeakable"),
    "key refused": Fault(refusing(401, "key_refused"), "credentials"),
    "voice offline": Fault(
        refusing(503, "voice_offline", Retry_After="10"), "busy", retry_after=10
    ),
    "voice offline, no time": Fault(refusing(503, "voice_offline"), "busy"),
    "deadline exceeded": Fault(refusing(504, "deadline_exceeded"), "timeout"),
    "cut off": Fault(
        refusing(503, "speech_cut_off", Retry_After="10"), "transient", retry_after=10
    ),
    "loop": Fault(refusing(508, "loop"), "loop"),
    "deep JSON": Fault(lambda exchange, _: exchange.answer(422, b"[" * 60_000), "unspeakable"),
    "refusal cut off": Fault(cut_refusal, "credentials"),
    "refusal without end": Fault(
        lambda exchange, _: exchange.answer(401, b" " * 200_000), "credentials"
    ),
}


async def failure_of(rung: RemoteVoice, request: SpeechRequest) -> RungError:
    with pytest.raises(RungError) as failed:
        await spoken(rung, request)
    return failed.value


@pytest.mark.parametrize("form", PLACES)
@pytest.mark.parametrize("name", HEARD)
async def test_every_fault_has_its_class(
    cloud: Cloud, personas: Personas, form: str, name: str
) -> None:
    fault = MINE[name]
    cloud.acts_at[PLACES[form]] = fault.act
    async with remote(cloud.url + PLACES[form], personas) as rung:
        error = await failure_of(rung, request_for(personas["maya"]))
    assert (error.failure, error.outcome) == (fault.failure, fault.outcome or fault.failure)
    assert error.retry_after == fault.retry_after
    assert error.hint or error.failure == "bad_audio"
    assert "LEAK" not in f"{error} {error.hint}"
    assert KEY not in f"{error} {error.hint}"


@pytest.mark.parametrize("form", PLACES)
@pytest.mark.parametrize("name", [name for name, fault in MINE.items() if fault.waits])
async def test_what_never_ends_is_left_by_whoever_has_set_a_limit(
    cloud: Cloud, personas: Personas, form: str, name: str
) -> None:
    cloud.acts_at[PLACES[form]] = MINE[name].act
    async with remote(cloud.url + PLACES[form], personas) as rung:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await spoken(rung, request_for(personas["maya"]))


@pytest.mark.parametrize("name", OWN_REFUSALS)
async def test_the_refusals_of_our_own_contract_have_theirs(
    cloud: Cloud, personas: Personas, name: str
) -> None:
    fault = OWN_REFUSALS[name]
    cloud.acts_at[ROUTE] = fault.act
    async with remote(cloud.url, personas) as rung:
        error = await failure_of(rung, request_for(personas["maya"]))
    assert (error.failure, error.retry_after) == (fault.failure, fault.retry_after)
    assert "LEAK" not in f"{error} {error.hint}"


async def test_openais_word_for_an_unknown_voice_is_understood(
    cloud: Cloud, personas: Personas
) -> None:
    told = b'{"error":{"message":"no such voice","type":"invalid_request_error","param":"voice"}}'
    cloud.acts_at["/v1/audio/speech"] = lambda exchange, _: exchange.answer(400, told)
    async with remote(f"{cloud.url}/v1", personas) as rung:
        error = await failure_of(rung, request_for(personas["maya"]))
        assert error.failure == "no_voice"
        assert not rung.speaks_for(personas["maya"])


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_nobody_at_the_address_is_told_by_why(
    cloud: Cloud, personas: Personas, name: str
) -> None:
    address, outcome = UNREACHABLE[name]
    async with remote(address(cloud), personas) as rung:
        error = await failure_of(rung, request_for(personas["maya"]))
    assert (error.failure, error.outcome) == ("transient", outcome)


@pytest.mark.parametrize("name", [*MINE, *OWN_REFUSALS])
async def test_after_every_fault_the_next_rung_speaks(
    cloud: Cloud, personas: Personas, name: str
) -> None:
    fault = (MINE | OWN_REFUSALS)[name]
    failure = FAILURES[fault.failure]
    cloud.acts_at[ROUTE] = fault.act
    # Only what waits without end takes as long; no time that a fault names is shorter, but for 0.
    patience = 0.3 if fault.waits else 2.0
    again = failure.again == "once" or fault.retry_after == 0
    async with remote(cloud.url, personas) as rung:
        chain = Chain([rung, Rung(tone())], deadline_seconds=patience, stall_seconds=patience)
        # Whole, so that nobody has heard what fails half-way.
        request = replace(request_for(personas["maya"], "hi"), whole=True)
        async with chain.speak(request) as speech:
            *failed, spoke = speech.attempts.split(";")
        breaker = chain.breakers["remote"].state
        await chain.stop()
    assert failed == [f"remote={fault.outcome or fault.failure}"] * (2 if again else 1)
    assert spoke == "basic=ok"
    if failure.breaker == "held":
        assert breaker == ("closed" if fault.retry_after == 0 else "open")
    elif failure.breaker == "counted":
        assert breaker == ("open" if failure.weight >= 3 else "closed")
    else:
        assert breaker == {"untouched": "closed", "latched": "latched"}[failure.breaker]


@pytest.mark.parametrize("form", PLACES)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_nothing_reaches_the_host_of_a_redirect(
    cloud: Cloud, personas: Personas, form: str, code: int
) -> None:
    with clouds() as another:
        cloud.acts_at[PLACES[form]] = redirected(code, another.url + PLACES[form])
        async with remote(cloud.url + PLACES[form], personas) as rung:
            error = await failure_of(rung, request_for(personas["maya"]))
        assert another.seen == []
    assert error.failure == "wrong_address"


@pytest.mark.parametrize("form", PLACES)
@pytest.mark.parametrize(("key", "shown"), [(KEY, f"Bearer {KEY}"), ("local", None), (None, None)])
async def test_the_key_is_shown_where_there_is_one(
    cloud: Cloud, personas: Personas, form: str, key: str | None, shown: str | None
) -> None:
    async with remote(cloud.url + PLACES[form], personas, key=key) as rung:
        await spoken(rung, request_for(personas["maya"]))
    assert [exchange.headers.get("authorization") for exchange in cloud.seen] == [shown]


async def test_a_key_that_no_header_can_carry_is_a_failure_of_the_rung(
    cloud: Cloud, personas: Personas
) -> None:
    async with remote(cloud.url, personas, key="two\r\nlines") as rung:
        error = await failure_of(rung, request_for(personas["maya"]))
    assert error.failure == "wrong_address"
    assert "two" not in f"{error} {error.hint}"


# While it streams


class Held:
    """Speaks half of a WAV, and the rest once it is let go; notes when the client has gone."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.left = threading.Event()

    def __call__(self, exchange: Exchange, _: Cloud) -> None:
        head, data = streamed(wav())

        def pieces() -> Iterator[bytes]:
            yield head + data[: len(data) // 2]
            exchange.handler.connection.settimeout(0.01)
            while not self.let_go.is_set():
                try:
                    if exchange.handler.connection.recv(1, socket.MSG_PEEK) == b"":
                        self.left.set()
                        return
                except TimeoutError:
                    continue
                except ConnectionResetError:
                    # Who closes with something unread does not say goodbye.
                    self.left.set()
                    return
            yield data[len(data) // 2 :]

        exchange.stream(pieces(), Content_Type="audio/wav", X_Speech_Engine="csm")


@pytest.mark.parametrize("form", PLACES)
async def test_the_first_block_is_there_before_the_last_is_sent(
    cloud: Cloud, personas: Personas, form: str
) -> None:
    held = cloud.acts_at[PLACES[form]] = Held()
    async with (
        remote(cloud.url + PLACES[form], personas) as rung,
        aclosing(rung.speak(request_for(personas["maya"]))) as blocks,
    ):
        first = await anext(blocks)
        held.let_go.set()
        rest = [block async for block in blocks]
    assert 0 < first.size <= SAMPLE_RATE
    assert first.size + sum(block.size for block in rest) == 2 * SAMPLE_RATE


@pytest.mark.parametrize("form", PLACES)
async def test_closing_it_closes_the_connection(
    cloud: Cloud, personas: Personas, form: str
) -> None:
    held = cloud.acts_at[PLACES[form]] = Held()
    async with remote(cloud.url + PLACES[form], personas) as rung:
        async with aclosing(rung.speak(request_for(personas["maya"]))) as blocks:
            await anext(blocks)
        assert await asyncio.to_thread(held.left.wait, TIMEOUT)


async def test_cancelling_it_before_the_answer_closes_the_connection(
    cloud: Cloud, personas: Personas
) -> None:
    asked, left = threading.Event(), threading.Event()

    def listening(exchange: Exchange, _: Cloud) -> None:
        asked.set()
        if exchange.handler.connection.recv(1) == b"":
            left.set()

    cloud.acts_at[ROUTE] = listening
    async with remote(cloud.url, personas) as rung:
        speaking = asyncio.create_task(spoken(rung, request_for(personas["maya"])))
        assert await asyncio.to_thread(asked.wait, TIMEOUT)
        speaking.cancel()
        await asyncio.wait([speaking])
        assert await asyncio.to_thread(left.wait, TIMEOUT)


async def test_an_answer_that_is_cut_off_never_looks_complete(
    cloud: Cloud, personas: Personas
) -> None:
    head, data = streamed(wav())

    def cut(exchange: Exchange, _: Cloud) -> None:
        exchange.handler.send_response(200)
        exchange.handler.send_header("Content-Type", "audio/wav")
        exchange.handler.send_header("Transfer-Encoding", "chunked")
        exchange.handler.end_headers()
        piece = head + data[:48_000]
        exchange.handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        exchange.leave()

    cloud.acts_at[ROUTE] = cut
    async with remote(cloud.url, personas) as rung:
        error = await failure_of(rung, request_for(personas["maya"]))
    assert (error.failure, error.outcome) == ("bad_audio", "truncated")


# What it says of itself


async def reported(url: str, personas: Personas) -> tuple[str, str, str]:
    """Give the class of the probe's failure (empty: it went well), and what a look found."""
    async with remote(url, personas) as rung:
        try:
            await rung.probe()
        except RungError as error:
            failure = error.failure
        else:
            failure = ""
        finding = await rung.look()
    return failure, finding.name, f"{finding.detail}; {finding.next_step}"


async def test_a_healthy_server_is_ready_and_told_by_badge_and_version(
    cloud: Cloud, personas: Personas
) -> None:
    failure, name, told = await reported(cloud.url + ROUTE, personas)
    assert (failure, name) == ("", "ready")
    assert "🟢 Sesame Local, version 0.1.0" in told


async def test_a_degraded_server_is_ready_and_says_what_it_lacks(
    cloud: Cloud, personas: Personas
) -> None:
    cloud.health = dict(BASIC)
    async with remote(cloud.url, personas) as rung:
        await rung.probe()
        assert rung.state.name == "ready"
        assert rung.state.reason == "it is degraded: 🟠 Basic Voice"
        assert "/health" in (await rung.look()).next_step
        cloud.health = dict(HEALTHY)
        await rung.probe()
        assert rung.state.reason is None


@pytest.mark.parametrize("health", [LOADING, OFFLINE])
async def test_a_server_that_cannot_speak_now_is_asked_again_later(
    cloud: Cloud, personas: Personas, health: dict[str, Any]
) -> None:
    cloud.health, cloud.health_http = dict(health), 503
    failure, name, told = await reported(cloud.url, personas)
    assert (failure, name) == ("transient", "unreachable")
    assert health["status"] in told


@pytest.mark.parametrize(
    ("act", "failure", "name"),
    [
        (status(401), "credentials", "invalid"),
        (status(404), "wrong_address", "invalid"),
        (status(500), "transient", "unreachable"),
        (status(503, Retry_After="5"), "busy", "unreachable"),
        (redirected(307, "http://127.0.0.1:9/"), "wrong_address", "invalid"),
        (body(b"<html>", "text/html"), "wrong_address", "invalid"),
        (body(b"[" * 60_000, "application/json"), "wrong_address", "invalid"),
        (body(b'{"a":"' + b"a" * 100_000 + b'"}', "application/json"), "wrong_address", "invalid"),
        (body(b'{"status":"ok"}', "application/json"), "", "narrow"),
        (body(b'{"status":"healthy","badge":7,"voices":8}', "application/json"), "", "ready"),
    ],
)
async def test_any_other_answer_about_itself_is_told_by_what_it_means(
    cloud: Cloud, personas: Personas, act: Act, failure: str, name: str
) -> None:
    cloud.acts_at["/health"] = act
    assert (await reported(cloud.url, personas))[:2] == (failure, name)


@pytest.mark.parametrize(
    ("code", "failure", "name"),
    [
        (200, "", "narrow"),
        (403, "", "narrow"),
        (404, "", "narrow"),
        (405, "", "narrow"),
        (401, "credentials", "invalid"),
        (502, "transient", "unreachable"),
    ],
)
async def test_a_server_of_openais_form_is_asked_for_its_models(
    cloud: Cloud, personas: Personas, code: int, failure: str, name: str
) -> None:
    cloud.acts_at["/v1/models"] = status(code)
    assert (await reported(f"{cloud.url}/v1", personas))[:2] == (failure, name)


@pytest.mark.parametrize(
    ("code", "failure", "name"),
    [
        (200, "", "narrow"),
        (404, "", "narrow"),
        (405, "", "narrow"),
        (501, "", "narrow"),
        (401, "", "invalid"),
        (503, "transient", "unreachable"),
    ],
)
async def test_a_raw_endpoint_is_only_knocked_at(
    personas: Personas, code: int, failure: str, name: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] == "http":
            if scope["path"] != "/livez":
                asked.append(scope["method"])
            await send({"type": "http.response.start", "status": code, "headers": []})
            await send({"type": "http.response.body"})

    asked: list[str] = []
    with serving(app) as client:
        found = await reported(f"{client.base_url}/speak", personas)
    assert found[:2] == (failure, name)
    assert set(asked) == {"HEAD"}


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_nobody_at_the_address_is_unreachable(
    cloud: Cloud, personas: Personas, name: str
) -> None:
    address, _ = UNREACHABLE[name]
    assert (await reported(address(cloud), personas))[:2] == ("transient", "unreachable")


async def test_asking_about_itself_shows_the_key_and_no_text(
    cloud: Cloud, personas: Personas
) -> None:
    await reported(cloud.url, personas)
    assert {exchange.method for exchange in cloud.seen} == {"GET"}
    assert {exchange.headers["authorization"] for exchange in cloud.seen} == {f"Bearer {KEY}"}


# Requests that come back


class Counted:
    """An app, and how often it was asked to speak."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += scope["type"] == "http" and scope["method"] == "POST"
        await self._app(scope, receive, send)


@contextmanager
def two_gateways(**settings: Any) -> Iterator[tuple[httpx.Client, Counted, Counted]]:
    """Serve two that point at each other; give a client of the first."""
    here, there = listen(), listen()
    first, second = (
        Counted(create_app(ServiceSettings(mode="online", url=other[1], **settings)))
        for other in (there, here)
    )
    with serving(second, there), serving(first, here) as client:
        yield client, first, second


def test_a_gateway_passes_the_primarys_own_voice_on_and_says_so() -> None:
    own = create_app(ServiceSettings(), [Rung(tone(1), name="csm")])
    with serving(own) as primary:
        settings = ServiceSettings(mode="online", url=str(primary.base_url), basic_voice=False)
        with serving(create_app(settings)) as gateway:
            answer = gateway.post(ROUTE, json={"text": "Hello"})
            health = gateway.get("/health").json()
    assert answer.headers["X-Speech-Engine"] == "remote"
    assert "X-Speech-Substitution" not in answer.headers
    assert (health["status"], health["badge"]["label"]) == ("healthy", "Sesame API")


def test_the_key_that_we_demand_is_never_shown_to_the_primary(cloud: Cloud) -> None:
    settings = ServiceSettings(
        mode="online", url=cloud.url, server_key=SecretStr("ours"), api_key=SecretStr(KEY)
    )
    with serving(create_app(settings)) as gateway:
        shown = {"Authorization": "Bearer ours"}
        assert gateway.post(ROUTE, json={"text": "Hello"}, headers=shown).is_success
    assert {exchange.headers["authorization"] for exchange in cloud.seen} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("stream", [False, True])
def test_two_gateways_that_point_at_each_other_say_so(*, stream: bool) -> None:
    with two_gateways(basic_voice=False) as (client, first, second):
        answer = client.post(ROUTE, json={"text": "Hello", "stream": stream})
    assert (answer.status_code, answer.json()["code"]) == (508, "loop")
    assert "SESAME_URL" in answer.json()["hint"]
    assert (first.asked, second.asked) == (2, 1)


def test_a_loop_is_not_tried_again_with_every_request() -> None:
    with two_gateways(basic_voice=False) as (client, first, second):
        for _ in range(5):
            client.post(ROUTE, json={"text": "Hello"})
    assert (first.asked, second.asked) == (6, 1)


def test_in_a_loop_whoever_can_speak_does() -> None:
    with two_gateways(basic_voice=True) as (client, first, second):
        answer = client.post(ROUTE, json={"text": "Hello from Maya"})
    assert answer.status_code == 200
    assert answer.headers["X-Speech-Substitution"] == "maya=remote:basic:espeak-ng:en-us+f3"
    assert (first.asked, second.asked) == (2, 1)


@pytest.mark.parametrize("form", PLACES)
async def test_every_server_is_told_what_a_request_came_through(
    cloud: Cloud, personas: Personas, form: str
) -> None:
    request = SpeechRequest(segments("hello"), personas["maya"], via=(ANOTHER,))
    async with remote(cloud.url + PLACES[form], personas) as rung:
        await spoken(rung, request)
    assert cloud.seen[-1].headers[HEADER.lower()] == f"{ANOTHER},{OURS}"


def test_the_gateway_passes_on_what_a_request_came_through(cloud: Cloud) -> None:
    settings = ServiceSettings(mode="online", url=cloud.url, basic_voice=False)
    with serving(create_app(settings)) as gateway:
        gateway.post(ROUTE, json={"text": "Hello"}, headers={HEADER: ANOTHER})
    before, ours = cloud.syntheses[-1].headers[HEADER.lower()].split(",")
    assert before == ANOTHER
    assert len(ours) == len(OURS)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", None),
        (ANOTHER, None),
        (",".join([ANOTHER] * 8), None),
        (",".join([ANOTHER] * 9), "loop"),
        ("me", "field_refused"),
        (f"{ANOTHER};{OURS}", "field_refused"),
        (ANOTHER.upper(), "field_refused"),
    ],
)
def test_the_header_is_read_within_its_bounds(
    voice: httpx.Client, value: str, code: str | None
) -> None:
    answer = voice.post(ROUTE, json={"text": "Hello"}, headers={HEADER: value})
    assert (None if answer.is_success else answer.json()["code"]) == code
