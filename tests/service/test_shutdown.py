"""The real command is told to stop while it speaks."""

import asyncio
import functools
import json
import operator
import os
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest

from service.api.draining import Draining
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.held import TIMEOUT, HeldEspeak
from tests.service.rungs import Rung, Slow, tone
from tests.service.test_command import running

pytestmark = pytest.mark.program

LONG = "She sells sea shells by the sea shore, and the shells she sells are sea shells. " * 40
HALVES = 'It began. <break time="400ms"/> It ended.'
"""Its second half is a process of its own."""

ASKED: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "/api/v1/generate": ({"text": "Hello"}, ("code",)),
    "/tts": ({"text": "Hello"}, ("code",)),
    "/v1/audio/speech": ({"input": "Hello"}, ("error", "code")),
    "/v1/text-to-speech/maya": ({"text": "Hello"}, ("detail", "status")),
}
"""What each dialect is asked, and where it tells the code of an error."""

PATIENT = {"SESAME_DEADLINE_SECONDS": "600", "SESAME_STALL_SECONDS": "600"}


def log_until(process: subprocess.Popen[str], words: str) -> str:
    """Read the log up to the line with these words, and give that line."""
    assert process.stderr is not None
    return next((line for line in process.stderr if words in line), "")


def tell_to_stop(process: subprocess.Popen[str], *, speaking: int) -> None:
    """Send SIGTERM, and wait until it was heard."""
    process.send_signal(signal.SIGTERM)
    assert f"answers being spoken: {speaking}\n" in log_until(process, "stopping: ")


def assert_stopped(process: subprocess.Popen[str], *, finished: int, cut_off: int) -> None:
    told = log_until(process, "stopped: ")
    assert f"answers finished: {finished}, cut off: {cut_off}\n" in told
    assert process.wait(TIMEOUT) == (1 if cut_off else 0)


@contextmanager
def holding(
    espeak: HeldEspeak, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run the command with an espeak-ng that is held."""
    path = f"{espeak.command.parent}:{os.environ['PATH']}"
    with running(PATH=path, **PATIENT, **variables) as (process, client):
        espeak.hold()
        yield process, client


@contextmanager
def asking(client: httpx.Client) -> Iterator[Future[httpx.Response]]:
    """Ask for a whole answer in a thread."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit(client.post, "/api/v1/generate", json={"text": "Hello"})


@contextmanager
def half_heard(
    client: httpx.Client, espeak: HeldEspeak, path: str = "/api/v1/generate", **asked: object
) -> Iterator[Iterator[bytes]]:
    """Stream an answer of which the first half is spoken and the second held; give the rest."""
    body = asked or {"text": HALVES, "stream": True}
    with ThreadPoolExecutor() as threads:
        releasing = threads.submit(let_one_go, espeak)
        with client.stream("POST", path, json=body) as answer:
            releasing.result()
            espeak.started()
            yield answer.iter_raw()


def let_one_go(espeak: HeldEspeak) -> None:
    espeak.started()
    espeak.let_one_go()


@contextmanager
def slow_reader(client: httpx.Client) -> Iterator[httpx.Response]:
    """Begin an answer of minutes, which cannot all be sent before it is read."""
    # The kernel would take all of it otherwise.
    options = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)]
    transport = httpx.HTTPTransport(socket_options=options)
    with (
        httpx.Client(base_url=client.base_url, timeout=TIMEOUT, transport=transport) as slow,
        slow.stream("POST", "/api/v1/generate", json={"text": LONG, "stream": True}) as answer,
    ):
        yield answer


def test_a_whole_answer_that_is_being_spoken_is_finished(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak) as (process, client), asking(client) as answer:
        held_espeak.started()
        tell_to_stop(process, speaking=1)
        held_espeak.let_go()
        assert answer.result().content.startswith(b"RIFF")
        assert_stopped(process, finished=1, cut_off=0)


def test_a_stream_that_is_being_spoken_is_heard_to_its_end(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak) as (process, client):
        with half_heard(client, held_espeak) as pieces:
            tell_to_stop(process, speaking=1)
            held_espeak.let_go()
            assert b"".join(pieces).startswith(b"RIFF")
        assert_stopped(process, finished=1, cut_off=0)


def test_who_reads_slowly_hears_all_of_it() -> None:
    with running() as (process, client):
        with slow_reader(client) as answer:
            tell_to_stop(process, speaking=1)
            # A stream that was cut off would raise.
            assert answer.read().startswith(b"RIFF")
        assert_stopped(process, finished=1, cut_off=0)


def test_who_reads_nothing_is_cut_off_when_the_grace_ends() -> None:
    with running(SESAME_GRACE_SECONDS="0") as (process, client), slow_reader(client) as answer:
        tell_to_stop(process, speaking=1)
        assert "cut_off=" in log_until(process, "path=/api/v1/generate")
        assert_stopped(process, finished=0, cut_off=1)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            answer.read()


def test_a_kept_connection_is_answered_while_the_service_drains(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak) as (process, client), asking(client) as answer:
        held_espeak.started()
        with httpx.Client(base_url=client.base_url, timeout=TIMEOUT) as kept:
            before = kept.get("/readyz")
            tell_to_stop(process, speaking=1)
            ready, alive = kept.get("/readyz"), kept.get("/livez")
            refused = kept.post("/api/v1/generate", json={"text": "Hello"})
            ports = set(map(port_of, (before, ready, alive, refused)))
        held_espeak.let_go()
        assert answer.result().status_code == 200
    assert [each.status_code for each in (before, ready, alive)] == [200, 503, 200]
    assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
    assert len(ports) == 1


def port_of(answer: httpx.Response) -> int:
    """Tell from which port of ours an answer was asked for."""
    port: int = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
    return port


def test_a_stream_that_outlasts_the_grace_is_broken_off_visibly(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak, SESAME_GRACE_SECONDS="1") as (process, client):
        with half_heard(client, held_espeak) as pieces:
            tell_to_stop(process, speaking=1)
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        assert_stopped(process, finished=0, cut_off=1)


def test_events_that_outlast_the_grace_end_with_one_that_says_so(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak, SESAME_GRACE_SECONDS="0") as (process, client):
        asked = {"path": "/v1/audio/speech", "input": HALVES, "stream_format": "sse"}
        with half_heard(client, held_espeak, **asked) as pieces:
            tell_to_stop(process, speaking=1)
            last = b"".join(pieces).split(b"\n\n")[-2].removeprefix(b"data: ")
        assert_stopped(process, finished=0, cut_off=1)
    event = json.loads(last)
    assert event["type"] == "speech.audio.error"
    assert "shutting down" in event["error"]["message"]


def test_a_whole_answer_that_outlasts_the_grace_is_an_error(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak, SESAME_GRACE_SECONDS="0") as (process, client):
        with asking(client) as answer:
            held_espeak.started()
            tell_to_stop(process, speaking=1)
            assert answer.result().json()["code"] == "shutting_down"
        assert_stopped(process, finished=0, cut_off=1)


def test_a_second_signal_ends_at_once(held_espeak: HeldEspeak) -> None:
    with holding(held_espeak, SESAME_GRACE_SECONDS="600") as (process, client):
        with half_heard(client, held_espeak) as pieces:
            tell_to_stop(process, speaking=1)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        assert_stopped(process, finished=0, cut_off=1)


def test_a_stop_while_nothing_is_spoken_ends_at_once_and_well() -> None:
    with running(SESAME_GRACE_SECONDS="600") as (process, _):
        tell_to_stop(process, speaking=0)
        assert_stopped(process, finished=0, cut_off=0)


def client_of(rung: Rung, end: Draining) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(ServiceSettings(model=""), [rung], end))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@asynccontextmanager
async def draining() -> AsyncGenerator[httpx.AsyncClient]:
    """Give a client of an app that was told to come to its end."""
    end = Draining(grace_seconds=600)
    async with client_of(Rung(tone()), end) as client:
        end.begin()
        yield client


@pytest.mark.anyio
async def test_who_waits_for_a_voice_when_the_end_comes_is_spoken_to() -> None:
    end, rung = Draining(grace_seconds=600), Slow(tone(), permits=1)
    async with client_of(rung, end) as client:
        asked = [client.post("/api/v1/generate", json={"text": "Hello"}) for _ in range(2)]
        answers = asyncio.gather(*asked)
        while end.speaking < len(asked):  # noqa: ASYNC110 (a few turns of the loop)
            await asyncio.sleep(0)
        end.begin()
        rung.free.set()
        assert [answer.status_code for answer in await answers] == [200, 200]
    assert (end.finished, end.cut_off, end.over) == (2, 0, True)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ASKED)
async def test_new_speech_is_refused_in_the_form_of_its_dialect(path: str) -> None:
    body, place = ASKED[path]
    async with draining() as client:
        refused = await client.post(path, json=body)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    assert functools.reduce(operator.getitem, place, refused.json()) == "shutting_down"


@pytest.mark.anyio
async def test_a_service_that_drains_says_why_it_is_not_ready() -> None:
    async with draining() as client:
        ready, health = await client.get("/readyz"), await client.get("/health")
    assert ready.json() == {
        "ready": False,
        "engine": None,
        "reason": "the service is shutting down",
    }
    assert (health.status_code, health.json()["status"]) == (503, "offline")


@pytest.mark.anyio
async def test_text_is_shaped_while_the_service_drains() -> None:
    async with draining() as client:
        assert (await client.post("/ci/shape", json={"text": "Hello"})).status_code == 200
