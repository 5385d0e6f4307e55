"""One real server that speaks the APIs of Hugging Face and ElevenLabs, and every way to fail.

It also keeps our own contract, as tests.checks.fake_service does, for the remote rung: the faults
act on a connection and know no API.
"""

import gzip
import io
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from tests.checks.fake_service import Exchange, FakeService, serving, spoken, wave_file

HF_TOKEN = "hf_SecretOfTheHub000000000000000000"
ELEVENLABS_KEY = "sk_secret_of_elevenlabs_0000000000"
MODEL = "hexgrad/Kokoro-82M"
SARAH = "EXAVITQu4vr4xnSDxMaL"
RATE = 24_000

Act = Callable[[Exchange, "Cloud"], None]


def speech(seconds: float = 2.0) -> bytes:
    """Give 16-bit PCM at 24 kHz that moves like speech."""
    return spoken(RATE, seconds=seconds).astype("<i2").tobytes()


def wav(seconds: float = 2.0) -> bytes:
    return wave_file(spoken(RATE, seconds=seconds), RATE)


def encoded(form: str, codec: str, rate: int = RATE, seconds: float = 2.0) -> bytes:
    """Give speech in a container that FFmpeg writes, such as mp3, flac, ogg."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        samples = spoken(rate, seconds=seconds)[np.newaxis, :]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


def mp3() -> bytes:
    return encoded("mp3", "libmp3lame")


def nan_wav() -> bytes:
    """Give a WAV of 32-bit floats that are not numbers."""
    data = np.full(RATE, np.nan, dtype="<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, RATE, RATE * 4, 4, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@dataclass
class Cloud(FakeService):
    """What the server answers. Tests change its fields.

    + act: put in the place of speech; + audio_act: in the place of a provider's audio
    + audio_at: server that a provider's answer names; by default this one
    + kept: PCM that speech consists of
    """

    act: Act | None = None
    audio_act: Act | None = None
    audio_at: str = ""
    kept: bytes = field(default_factory=speech)
    acts_at: dict[str, Act] = field(default_factory=dict)
    providers: dict[str, dict[str, str]] = field(
        default_factory=lambda: {
            "fal-ai": {"status": "live", "providerId": "fal-ai/kokoro", "task": "text-to-speech"},
            "replicate": {"status": "live", "providerId": "j/k:1", "task": "text-to-speech"},
            "deepinfra": {"status": "live", "providerId": MODEL, "task": "text-to-speech"},
        }
    )
    pipeline_tag: str = "text-to-speech"
    account: dict[str, Any] = field(
        default_factory=lambda: {"name": "maya", "auth": {"accessToken": {"role": "read"}}}
    )
    subscription: dict[str, Any] = field(
        default_factory=lambda: {
            "tier": "starter",
            "character_count": 1_000,
            "character_limit": 30_000,
            "next_character_count_reset_unix": 1_800_000_000,
        }
    )
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"model_id": "eleven_flash_v2_5", "can_do_text_to_speech": True},
            {"model_id": "eleven_english_sts_v2", "can_do_text_to_speech": False},
        ]
    )
    unknown_voices: set[str] = field(default_factory=set)

    def handle(self, exchange: Exchange) -> None:
        """Answer one request by the API whose path it has, or by an act of a test."""
        path = exchange.path.partition("?")[0]
        if act := self.acts_at.get(path):
            self.seen.append(exchange)
            act(exchange, self)
            return
        for pattern, answer in ROUTES:
            if (found := pattern.fullmatch(path)) is not None:
                self.seen.append(exchange)
                answer(self, exchange, *found.groups())
                return
        super().handle(exchange)

    @property
    def syntheses(self) -> list[Exchange]:
        """What was asked to be spoken."""
        return [exchange for exchange in self.seen if exchange.method == "POST"]

    def speak(self, exchange: Exchange, body: bytes, content_type: str) -> None:
        """Answer with audio, or with the fault that a test has set."""
        if self.act is not None:
            self.act(exchange, self)
        else:
            exchange.answer(200, body, Content_Type=content_type)

    def whole(self, exchange: Exchange, *_: str) -> None:
        self.speak(exchange, wav(), "audio/wav")

    def streamed(self, exchange: Exchange, voice_id: str) -> None:
        if voice_id in self.unknown_voices:
            refused(404, "voice_not_found")(exchange, self)
        else:
            self.speak(exchange, self.kept, "audio/pcm")

    def fal(self, exchange: Exchange, *_: str) -> None:
        if self.act is not None:
            self.act(exchange, self)
        else:
            exchange.answer_json(200, {"audio": {"url": self._audio_url()}})

    def replicate(self, exchange: Exchange, *_: str) -> None:
        if self.act is not None:
            self.act(exchange, self)
        else:
            exchange.answer_json(200, {"model": MODEL, "output": self._audio_url()})

    def audio(self, exchange: Exchange) -> None:
        if self.audio_act is not None:
            self.audio_act(exchange, self)
        else:
            exchange.answer(200, wav(), Content_Type="audio/wav")

    def whoami(self, exchange: Exchange) -> None:
        if exchange.headers.get("authorization") == f"Bearer {HF_TOKEN}":
            exchange.answer_json(200, self.account)
        else:
            exchange.answer_json(401, {"error": "Invalid credentials in Authorization header"})

    def model(self, exchange: Exchange, model: str) -> None:
        if model != MODEL:
            exchange.answer_json(404, {"error": "Repository not found"})
            return
        told = {"id": model, "pipeline_tag": self.pipeline_tag, "tags": []}
        exchange.answer_json(200, told | {"inferenceProviderMapping": self.providers})

    def voice(self, exchange: Exchange, voice_id: str) -> None:
        if voice_id in self.unknown_voices:
            refused(400, "voice_not_found")(exchange, self)
        else:
            exchange.answer_json(200, {"voice_id": voice_id, "name": "Sarah"})

    def told(self, exchange: Exchange) -> None:
        documents: dict[str, object] = {
            "/v1/user/subscription": self.subscription,
            "/v1/models": self.models,
        }
        exchange.answer_json(200, documents[exchange.path])

    def nothing(self, exchange: Exchange) -> None:
        exchange.answer_json(404, {"error": "Not Found"})

    def _audio_url(self) -> str:
        return f"{self.audio_at or self.url}/files/spoken.wav"


ROUTES: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = tuple(
    (re.compile(pattern), answer)
    for pattern, answer in (
        (r"/v1/text-to-speech/([^/]+)/stream", Cloud.streamed),
        (r"/v1/text-to-speech/([^/]+)", Cloud.streamed),
        (r"/v1/user/subscription", Cloud.told),
        (r"/v1/models", Cloud.told),
        (r"/v1/voices/([^/]+)", Cloud.voice),
        (r"/api/whoami-v2", Cloud.whoami),
        (r"/api/models/(.+)", Cloud.model),
        (r"/hf-inference/models/(.+)", Cloud.whole),
        (r"/deepinfra/v1/openai/audio/speech", Cloud.whole),
        (r"/together/v1/audio/speech", Cloud.whole),
        (r"/fal-ai/(.+)", Cloud.fal),
        (r"/replicate/v1/(.*)predictions", Cloud.replicate),
        (r"/files/spoken\.wav", Cloud.audio),
        (r"/endpoint", Cloud.whole),
        (r"/", Cloud.nothing),
    )
)


@contextmanager
def clouds(**fields: Any) -> Iterator[Cloud]:
    """Serve a cloud on a free port of loopback."""
    cloud = Cloud(**fields)
    with serving(cloud):
        yield cloud


def status(code: int, **headers: str) -> Act:
    """Answer with a status, and with words that nobody may repeat."""

    def act(exchange: Exchange, _: Cloud) -> None:
        exchange.answer(code, b'{"error":"LEAK of the body"}', Content_Type=JSON, **headers)

    return act


def refused(code: int, word: str, **headers: str) -> Act:
    """Answer as ElevenLabs refuses: the word says why."""
    body = json.dumps({"detail": {"status": word, "message": "LEAK of the body"}}).encode()
    return lambda exchange, _: exchange.answer(code, body, Content_Type=JSON, **headers)


def body(content: bytes, content_type: str) -> Act:
    """Answer 200 with a body."""
    return lambda exchange, _: exchange.answer(200, content, Content_Type=content_type)


def redirected(code: int, to: str) -> Act:
    """Send the client to another place."""
    return lambda exchange, _: exchange.answer(code, b"", Location=to)


def cut_off(exchange: Exchange, cloud: Cloud) -> None:
    exchange.start(200, len(cloud.kept), Content_Type="audio/pcm")
    exchange.handler.wfile.write(cloud.kept[: len(cloud.kept) // 4])
    exchange.leave()


def dripping(exchange: Exchange, _: Cloud) -> None:
    """Send one byte every tenth of a second, without end."""
    exchange.start(200, 10**8, Content_Type="audio/pcm")
    while not exchange.closing.wait(0.1):
        exchange.handler.wfile.write(b"\x01")
        exchange.handler.wfile.flush()


def stalling(exchange: Exchange, cloud: Cloud) -> None:
    """Send half a second, and then nothing more."""
    exchange.start(200, len(cloud.kept), Content_Type="audio/pcm")
    exchange.handler.wfile.write(cloud.kept[: RATE // 2 * 2])
    exchange.handler.wfile.flush()
    exchange.hang()


@dataclass
class Held:
    """Sends the beginning of an answer, and goes on when it is told to."""

    beginning: bytes = b""
    asked: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange, cloud: Cloud) -> None:
        exchange.start(200, len(cloud.kept), Content_Type="audio/pcm")
        exchange.handler.wfile.write(self.beginning)
        exchange.handler.wfile.flush()
        self.asked.set()
        self.go.wait(30)
        exchange.handler.wfile.write(cloud.kept[len(self.beginning) :])


@dataclass
class Left:
    """Sends no more than a beginning, and notes when the client has closed the connection."""

    beginning: bytes = b""
    asked: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange, cloud: Cloud) -> None:
        if self.beginning:
            exchange.start(200, len(cloud.kept), Content_Type="audio/pcm")
            exchange.handler.wfile.write(self.beginning)
        self.asked.set()
        exchange.handler.connection.settimeout(30)
        if exchange.handler.connection.recv(1) == b"":
            self.left.set()
        exchange.leave()


def endless(exchange: Exchange, cloud: Cloud) -> None:
    exchange.start(200, 2**40, Content_Type="audio/pcm")
    while not exchange.closing.is_set():
        exchange.handler.wfile.write(cloud.kept * 4)


def bomb(exchange: Exchange, _: Cloud) -> None:
    """Send 64 MiB of zeros as 64 KiB."""
    packed = gzip.compress(bytes(2**26), 1)
    exchange.answer(200, packed, Content_Type="audio/pcm", Content_Encoding="gzip")


def resetting(exchange: Exchange, cloud: Cloud) -> None:
    """Send a little, and reset the connection: what was sent may be lost with it."""
    exchange.start(200, len(cloud.kept), Content_Type="audio/pcm")
    exchange.handler.wfile.write(cloud.kept[: RATE // 2 * 2])
    exchange.handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)
    connection = exchange.handler.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    exchange.leave()
    # A polite end would come first if the server closed it.
    os.close(connection.detach())


JSON = "application/json"
CHAT = b'[{"generated_text":"I am a chat model. LEAK of the body"}]'
PAGE = b"<!doctype html><html><title>Sign in</title>LEAK of the body</html>"


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what a rung is to make of it.

    + act: on the connection; + failure: the class
    + outcome: the word in `X-Speech-Attempts`; by default the class
    + waits: the rung goes on waiting: only the chain's limits find it
    + unheard: the rung hands it over as it is: only the chain's ears find it
    + retry_after: seconds that the rung passes on
    + only: the rungs to which it can happen, by name; empty: to all
    """

    act: Act
    failure: str
    outcome: str = ""
    waits: bool = False
    unheard: bool = False
    retry_after: float | None = None
    only: tuple[str, ...] = ()


ELEVENLABS = ("elevenlabs",)

FAULTS: Mapping[str, Fault] = {
    "200 empty": Fault(body(b"", "audio/wav"), "bad_audio", "empty"),
    "200 chat JSON": Fault(body(CHAT, JSON), "wrong_address", "not_audio"),
    "200 chat JSON named audio": Fault(body(CHAT, "audio/wav"), "wrong_address", "not_audio"),
    "200 HTML": Fault(body(PAGE, "text/html; charset=utf-8"), "wrong_address", "not_audio"),
    "200 HTML named audio": Fault(body(PAGE, "audio/wav"), "wrong_address", "not_audio"),
    "200 truncated audio": Fault(body(wav()[:20_000], "audio/wav"), "bad_audio", "truncated"),
    "200 cut off": Fault(cut_off, "bad_audio", "truncated"),
    "200 silence": Fault(
        body(wave_file(np.zeros(RATE, dtype=np.int16), RATE), "audio/wav"),
        "bad_audio",
        "silent",
        unheard=True,
    ),
    "200 NaN": Fault(body(nan_wav(), "audio/wav"), "bad_audio", "not_finite"),
    "200 rubbish": Fault(body(b"\x00\x9d" * 999, "audio/mpeg"), "bad_audio", "unreadable"),
    "200 wrong content type": Fault(body(wav(), "image/png"), "wrong_address", "not_audio"),
    "gzip bomb": Fault(bomb, "bad_audio", "compressed"),
    "endless": Fault(endless, "bad_audio", "too_long"),
    "one byte at a time": Fault(dripping, "timeout", waits=True),
    "silent from the start": Fault(lambda exchange, _: exchange.hang(), "timeout", waits=True),
    "stall after the first block": Fault(stalling, "stalled", waits=True),
    "closed without an answer": Fault(lambda exchange, _: exchange.leave(), "transient", "reset"),
    "400": Fault(status(400), "unspeakable"),
    "401": Fault(status(401), "credentials"),
    "401 quota": Fault(refused(401, "quota_exceeded"), "quota", only=ELEVENLABS),
    "401 key": Fault(refused(401, "invalid_api_key"), "credentials", only=ELEVENLABS),
    "401 right": Fault(refused(401, "missing_permissions"), "credentials", only=ELEVENLABS),
    "401 payment": Fault(refused(401, "payment_issue"), "payment", only=ELEVENLABS),
    "402": Fault(status(402), "payment"),
    "403": Fault(status(403), "credentials"),
    "404": Fault(status(404), "wrong_address"),
    "404 voice": Fault(refused(404, "voice_not_found"), "no_voice", only=ELEVENLABS),
    "400 voice": Fault(refused(400, "voice_not_found"), "no_voice", only=ELEVENLABS),
    "410": Fault(status(410), "wrong_address"),
    "422": Fault(status(422), "unspeakable"),
    "429": Fault(status(429), "busy"),
    "429 with a time": Fault(status(429, Retry_After="7"), "busy", retry_after=7),
    "429 with a date": Fault(
        status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), "busy", retry_after=0
    ),
    "429 at once": Fault(refused(429, "too_many_concurrent_requests"), "busy", only=ELEVENLABS),
    "429 system": Fault(refused(429, "system_busy"), "busy", only=ELEVENLABS),
    "500": Fault(status(500), "transient"),
    "502": Fault(status(502), "transient"),
    "503": Fault(status(503), "transient"),
    "503 with a time": Fault(status(503, Retry_After="3"), "busy", retry_after=3),
    "504": Fault(status(504), "transient"),
    "reset": Fault(resetting, "transient", "reset"),
}
"""What can happen on a connection that stands."""


def unheard_port() -> int:
    """Give a port of loopback on which nobody listens."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port: int = unheard.getsockname()[1]
        return port


UNREACHABLE: Mapping[str, tuple[Callable[[Cloud], str], str]] = {
    "refused connection": (lambda _: f"http://127.0.0.1:{unheard_port()}", "refused"),
    "DNS failure": (lambda _: "http://voice.invalid", "unknown_host"),
    "TLS failure": (lambda cloud: cloud.url.replace("http:", "https:"), "tls"),
}
"""Addresses of nobody, each of the class transient, with its outcome."""
