"""Answers that are sent while they are being spoken, over real sockets."""

import asyncio
import io
import logging
import re
import socket
import threading
import wave
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import numpy as np
import pytest

from service.api import streaming
from service.app import create_app
from service.audio import SAMPLE_RATE, Samples
from service.engines.engine import EngineState, SpeechRequest
from service.errors import EngineError
from service.settings import ServiceSettings
from tests.service.held import TIMEOUT
from tests.service.rungs import Rung, broken, tone
from tests.service.serving import serving

ROUTE = "/api/v1/generate"
ASKED = {"text": "Hello from Maya", "stream": True}
LAST_CHUNK = b"\r\n0\r\n\r\n"
BODY = b'{"text":"Hello","stream":true}'
LONG_BODY = b'{"text":"%b","stream":true}' % (b"Hello " * 800)  # takes an endless voice a while


def head(version: str = "1.1", body: bytes = BODY) -> bytes:
    return (
        f"POST {ROUTE} HTTP/{version}\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


class TwoPartRung(Rung):
    """Speaks its first block, and the rest once it is let go."""

    def __init__(self, *blocks: Samples) -> None:
        super().__init__(*blocks)
        self.let_go = threading.Event()
        self.finished = threading.Event()

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        del request
        first, *rest = self._blocks
        yield first
        assert await asyncio.to_thread(self.let_go.wait, TIMEOUT)
        for block in rest:
            yield block
        self.finished.set()


class EndlessRung(Rung):
    """Speaks as long as anybody listens."""

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        del request
        self.speaking.set()
        try:
            while True:
                yield tone(1)
        finally:
            self.ended.set()


def streamed(rung: Rung, settings: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
    """Ask a service of one rung for a stream, and read it to its end."""
    app = create_app(ServiceSettings(**(settings or {})), [rung])
    with serving(app) as client:
        return client.post(ROUTE, json=ASKED | fields)


def pcm(answer: httpx.Response) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content[44:], dtype="<i2")


def connect(client: httpx.Client, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(TIMEOUT)
    connection.connect((client.base_url.host, client.base_url.port))
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65_536):
        received += data
    return received


def test_the_first_audio_arrives_while_the_engine_still_speaks() -> None:
    rung = TwoPartRung(tone(0.2), *[tone(1)] * 20)
    app = create_app(ServiceSettings(stall_seconds=TIMEOUT), [rung])
    with serving(app) as client, client.stream("POST", ROUTE, json=ASKED) as answer:
        received = b""
        pieces = answer.iter_raw()
        while len(received) < 44 + 0.2 * SAMPLE_RATE * 2:
            received += next(pieces)
        assert not rung.finished.is_set()
        rung.let_go.set()
        received += b"".join(pieces)
        assert rung.finished.is_set()
    assert len(received) == 44 + 20.2 * SAMPLE_RATE * 2


def test_a_stream_is_the_whole_answer_with_the_largest_sizes() -> None:
    app = create_app(ServiceSettings(), [Rung(tone(), tone(), tone())])
    with serving(app) as client:
        answer = client.post(ROUTE, json=ASKED)
        whole = client.post(ROUTE, json=ASKED | {"stream": False})
    assert answer.content[4:8] == answer.content[40:44] == b"\xff\xff\xff\xff"
    assert answer.content[44:] == whole.content[44:]


def test_a_stream_can_be_read_as_a_file(voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json=ASKED)
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert len(file.readframes(10**9)) == len(answer.content) - 44


def test_a_stream_says_who_speaks_and_how_long_it_took_until_then(voice: httpx.Client) -> None:
    headers = voice.post(ROUTE, json=ASKED).headers
    assert headers["content-type"] == "audio/wav"
    assert headers["transfer-encoding"] == "chunked"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-speech-engine"] == "basic"
    assert headers["x-speech-voice"] == "maya"
    assert headers["x-speech-attempts"] == "basic=ok"
    assert headers["x-speech-substitution"] == "maya=espeak-ng:en-us+f3"
    assert re.fullmatch(r"queue;dur=[\d.]+, first_audio;dur=[\d.]+", headers["server-timing"])
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("fields", "factor"), [({"sample_rate": 16_000}, 2 / 3), ({"speed": 2}, 0.5)]
)
def test_rate_and_tempo_are_changed_on_the_way(fields: dict[str, Any], factor: float) -> None:
    answer = streamed(Rung(*[tone(0.5)] * 4), **fields)
    assert pcm(answer).size == pytest.approx(2 * SAMPLE_RATE * factor, rel=0.05)


def test_without_asking_an_answer_is_whole(voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": "Hello"})
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("value", ["true", 1, None])
def test_stream_is_yes_or_no(value: object, voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": "Hello", "stream": value})
    assert (answer.status_code, answer.json()["code"]) == (422, "field_refused")
    assert "stream=" in answer.json()["error"]


def test_http_1_0_gets_the_whole_answer(voice: httpx.Client) -> None:
    with connect(voice) as connection:
        connection.sendall(head("1.0") + BODY)
        sent = read_to_the_end(connection)
    headers, _, content = sent.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in headers.lower()
    assert int.from_bytes(content[40:44], "little") == len(content) - 44


@pytest.mark.parametrize(
    ("rung", "status", "code"),
    [
        (broken(), 503, "voice_offline"),
        (Rung(state=EngineState("off", "not installed")), 503, "voice_offline"),
        (Rung(hangs=True), 504, "deadline_exceeded"),
    ],
)
def test_a_failure_before_the_first_byte_is_an_error_like_any_other(
    rung: Rung, status: int, code: str
) -> None:
    answer = streamed(rung, {"deadline_seconds": 0.1})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["x-speech-attempts"]


@pytest.mark.parametrize(
    ("rung", "outcome"),
    [
        (Rung(tone(), tone(), error=EngineError("out of breath")), "basic=failed"),
        (Rung(tone(), tone(), error=ZeroDivisionError()), "basic=failed"),
        (Rung(tone(), tone(), np.full(480, np.nan, np.float32)), "basic=not_finite"),
        (Rung(tone(), tone(), hangs=True), "basic=stalled"),
    ],
)
def test_a_voice_that_breaks_off_never_looks_complete(
    rung: Rung, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(ServiceSettings(stall_seconds=0.1), [rung])
    with caplog.at_level(logging.INFO), serving(app) as client, connect(client) as connection:
        connection.sendall(head() + BODY)
        sent = read_to_the_end(connection)
    assert len(sent) > 2 * 0.2 * SAMPLE_RATE * 2
    assert not sent.endswith(LAST_CHUNK)
    assert f'cut_off="the voice broke off: {outcome}"' in caplog.text
    assert "audio_s=0.400" in caplog.text


def test_a_complete_stream_ends_with_the_last_chunk() -> None:
    with (
        serving(create_app(ServiceSettings(), [Rung(tone())])) as client,
        connect(client) as connection,
    ):
        connection.sendall(head().replace(b"Host:", b"Connection: close\r\nHost:") + BODY)
        assert read_to_the_end(connection).endswith(LAST_CHUNK)


def test_an_endless_voice_is_cut_off() -> None:
    rung = Rung(*[tone(10)] * 99)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        streamed(rung, sample_rate=8_000)
    assert rung.ended.wait(TIMEOUT)


@pytest.mark.parametrize("rung", [Rung(tone(), hangs=True), EndlessRung()])
def test_the_engine_is_stopped_when_the_client_leaves(
    rung: Rung, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(ServiceSettings(stall_seconds=600), [rung])
    with caplog.at_level(logging.INFO), serving(app) as client:
        with connect(client) as leaving:
            leaving.sendall(head(body=LONG_BODY) + LONG_BODY)
            assert leaving.recv(4_096).startswith(b"HTTP/1.1 200")
        assert rung.ended.wait(TIMEOUT)
    assert "status=499" in caplog.text
    assert "Exception" not in caplog.text


def test_the_client_that_leaves_gives_its_permit_back() -> None:
    rung = EndlessRung(permits=1)
    with serving(create_app(ServiceSettings(), [rung])) as client:
        for _ in range(2):
            with client.stream("POST", ROUTE, json=ASKED) as answer:
                assert answer.status_code == 200


def test_who_stops_reading_stops_the_engine_and_is_dropped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "READER_SECONDS", 0.3)
    rung = EndlessRung(permits=1)
    app = create_app(ServiceSettings(stall_seconds=0.05), [rung])
    with (
        caplog.at_level(logging.INFO),
        serving(app) as client,
        connect(client, receive_buffer=4_096) as connection,
    ):
        connection.sendall(head(body=LONG_BODY) + LONG_BODY)
        assert rung.ended.wait(TIMEOUT)
        assert not read_to_the_end(connection).endswith(LAST_CHUNK)
    assert 'cut_off="the client read nothing for 0.3 s"' in caplog.text
    assert "stalled" not in caplog.text


def test_the_log_tells_of_a_stream_what_it_tells_of_a_whole_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(ServiceSettings(), [Rung(tone(), tone())])
    with caplog.at_level(logging.INFO), serving(app) as client:
        client.post(ROUTE, json={"text": "a secret of mine", "stream": True})
    assert "status=200" in caplog.text
    assert "engine=basic" in caplog.text
    assert "audio_s=0.400" in caplog.text
    assert "first_audio_ms=" in caplog.text
    assert "secret" not in caplog.text
