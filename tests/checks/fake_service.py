"""A small real HTTP server that keeps the contract until a test tells it how to misbehave."""

import contextlib
import itertools
import json
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Act = Callable[["Exchange"], None]

HEALTHY: dict[str, Any] = {
    "status": "healthy",
    "model_loaded": True,
    "mode": "offline",
    "engine": "csm",
    "badge": {"icon": "🟢", "label": "Sesame Local"},
    "device": "cpu",
    "model": "sesame/csm-1b@abc",
    "version": "0.1.0",
    "uptime_seconds": 12.5,
    "voices": ["maya", "warm"],
    "engines": [{"name": "csm", "state": "ready"}, {"name": "basic", "state": "ready"}],
}
BASIC = HEALTHY | {
    "status": "degraded",
    "model_loaded": False,
    "engine": "basic",
    "badge": {"icon": "🟠", "label": "Basic Voice"},
    "engines": [{"name": "csm", "state": "off"}, {"name": "basic", "state": "ready"}],
}
LOADING = HEALTHY | {
    "status": "loading",
    "model_loaded": False,
    "engine": None,
    "badge": {"icon": "🔴", "label": "Voice Offline"},
    "engines": [{"name": "csm", "state": "loading"}, {"name": "basic", "state": "off"}],
}
OFFLINE = LOADING | {"status": "offline", "engines": [{"name": "csm", "state": "off"}]}


def rung(name: str, finding: str = "off", **changes: Any) -> dict[str, Any]:
    """Return one rung of the service's report; one that is off was not asked for."""
    return {
        "name": name,
        "asked_for": finding != "off",
        "state": "off" if finding == "off" else "ready",
        "reason": None,
        "host": None,
        "finding": finding,
        "detail": "as it should be",
        "next_step": "",
        "quota": None,
        **changes,
    }


def rungs(*named: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the service's report of its rungs: strict offline unless `changes` say else."""
    there = {"csm": "ready", "remote": "off", "huggingface": "off", "elevenlabs": "off"}
    all_of_them = {name: rung(name, finding) for name, finding in there.items()}
    all_of_them |= {"basic": rung("basic", "ready")} | {one["name"]: one for one in named}
    hosts = [one["host"] for one in all_of_them.values() if one["host"]]
    return {
        "mode": "offline",
        "fallback": {"enabled": bool(hosts), "asked": None, "hosts": hosts},
        "warnings": [],
        "rungs": list(all_of_them.values()),
        "ok": True,
        "age_seconds": 0.1,
        **changes,
    }


DRILL_PLAN: dict[str, Any] = {
    "plan": [
        {"broken": ["csm"], "speaks": "elevenlabs", "spends": {"api.elevenlabs.io": 16}},
        {"broken": ["csm", "elevenlabs"], "speaks": "basic", "spends": {}},
    ],
    "spends": {"api.elevenlabs.io": 16},
    "detail": "",
}


def drilled(*, failing: str | None = None) -> dict[str, Any]:
    """Return how the drill of `DRILL_PLAN` went; `failing` did not speak where it should."""
    steps = [
        {
            "broken": step["broken"],
            "expected": step["speaks"],
            "spoke": None if step["speaks"] == failing else step["speaks"],
            "ok": step["speaks"] != failing,
            "switch_ms": 12.5,
            "first_audio_ms": 80.0,
            "detail": "csm=transient",
        }
        for step in DRILL_PLAN["plan"]
    ]
    return DRILL_PLAN | {"steps": steps, "ok": failing is None}


@dataclass
class Exchange:
    """One request, and the means to answer it well or badly."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    handler: BaseHTTPRequestHandler
    closing: threading.Event

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Answer wholly, with a true length."""
        self.start(status, len(body), **headers)
        self.handler.wfile.write(body)

    def start(self, status: int, length: int, **headers: str) -> None:
        """Send the head, promising `length` bytes. `_` in a header name stands for `-`."""
        self.handler.send_response(status)
        for name, value in {**headers, "Content_Length": str(length)}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.flush()

    def stream(self, pieces: Iterable[bytes], **headers: str) -> None:
        """Answer in chunks, each as soon as `pieces` gives it."""
        self.handler.send_response(200)
        for name, value in {**headers, "Transfer_Encoding": "chunked"}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        for piece in itertools.chain(pieces, [b""]):
            self.handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.handler.wfile.flush()

    def answer_json(self, status: int, document: object) -> None:
        """Answer with JSON."""
        self.answer(status, json.dumps(document).encode(), Content_Type="application/json")

    def hang(self) -> None:
        """Do not answer before the test ends."""
        self.closing.wait(30)

    def drip(self, status: int = 200) -> None:
        """Send one byte every tenth of a second without end."""
        self.start(status, 10**9, Content_Type="application/json")
        with contextlib.suppress(OSError):
            while not self.closing.wait(0.1):
                self.handler.wfile.write(b" ")
                self.handler.wfile.flush()

    def leave(self) -> None:
        """Answer nothing and close the connection."""
        self.handler.close_connection = True

    def cut(self, length: int) -> None:
        """Promise a body of `length` bytes, send half of it, and leave."""
        self.start(200, length, Content_Type="audio/wav")
        self.handler.wfile.write(b"R" * (length // 2))
        self.leave()


@dataclass
class FakeService:
    """What the server answers; tests change its fields."""

    health: dict[str, Any] = field(default_factory=lambda: dict(HEALTHY))
    health_http: int = 200
    readyz_http: int = 200
    engine: str = "csm"
    rungs: dict[str, Any] = field(default_factory=rungs)
    drilled: dict[str, Any] = field(default_factory=drilled)
    acts: dict[str, Act] = field(default_factory=dict)
    seen: list[Exchange] = field(default_factory=list)
    url: str = ""

    def speaks(self, **changes: Any) -> None:
        """Let the generate route answer good requests with `spoken(**changes)`."""
        self.acts["speech"] = lambda exchange: answer_speech(exchange, self.engine, **changes)

    def handle(self, exchange: Exchange) -> None:
        """Answer one request by the contract, or by the act that a test put in its place."""
        self.seen.append(exchange)
        if act := self.acts.get(exchange.path):
            act(exchange)
        elif exchange.path == "/health":
            exchange.answer_json(self.health_http, self.health)
        elif exchange.path == "/livez":
            exchange.answer_json(200, {})
        elif exchange.path == "/readyz":
            exchange.answer_json(self.readyz_http, {})
        elif exchange.path == "/rungs":
            exchange.answer_json(200, self.rungs)
        elif exchange.path == "/rungs/drill":
            posted = exchange.method == "POST"
            exchange.answer_json(200, self.drilled if posted else DRILL_PLAN)
        elif exchange.path == "/api/v1/generate":
            self._generate(exchange)
        else:
            exchange.answer_json(404, {})

    def _generate(self, exchange: Exchange) -> None:
        name, status, code, error = _refusal(exchange.body, self.health["voices"])
        if act := self.acts.get(name):
            act(exchange)
        elif name == "speech":
            answer_speech(exchange, self.engine)
        else:
            exchange.answer_json(status, {"success": False, "error": error, "code": code})


def _refusal(body: bytes, voices: list[str]) -> tuple[str, int, str, str]:
    try:
        fields = json.loads(body)
    except ValueError:
        return "not_json", 400, "not_json", "the body is not JSON"
    if not fields["text"]:
        return "empty_text", 422, "text_empty", "text is empty"
    if len(fields["text"]) > 5000:
        return "long_text", 422, "text_too_long", "text has more than 5000 characters"
    if fields.get("voice", "maya") not in voices:
        return "unknown_voice", 422, "voice_unknown", f"voices: {', '.join(voices)}"
    return "speech", 200, "", ""


def answer_speech(
    exchange: Exchange,
    engine: str,
    *,
    wave: Callable[[int], bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """Answer with audio at the asked rate: `wave(rate)`, else something that moves like speech."""
    fields = json.loads(exchange.body)
    rate = fields.get("sample_rate", 24_000)
    body = wave(rate) if wave else wave_file(spoken(rate), rate)
    sent = {
        "Content_Type": "audio/wav",
        "X_Speech_Voice": fields["voice"],
        "X_Speech_Engine": engine,
        **(headers or {}),
    }
    sent = {name: value for name, value in sent.items() if value}
    if fields.get("stream"):
        head, data = streamed(body)
        exchange.stream((head, data[:9_600], data[9_600:]), **sent)
    else:
        exchange.answer(200, body, **sent)


def spoken(rate: int, *, seconds: float = 2.0, peak: float = 0.5) -> Samples:
    """Return a hum of [N] samples that swells and ebbs four times a second, as syllables do."""
    time = np.arange(round(seconds * rate)) / rate
    envelope = np.sin(2 * np.pi * 2 * time) ** 2
    return np.asarray(peak * 32767 * envelope * np.sin(2 * np.pi * 200 * time), dtype=np.int16)


def wave_file(samples: Samples, rate: int, *, channels: int = 1, bits: int = 16) -> bytes:
    """Return a WAV file with true sizes; the form is only what it claims."""
    data = samples.astype("<i2").tobytes()
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def streamed(wave: bytes) -> tuple[bytes, bytes]:
    """Return the head of a WAV file of `wave_file` with the sizes of a stream, and its data."""
    unknown = b"\xff" * 4
    return wave[:4] + unknown + wave[8:40] + unknown, wave[44:]


@contextlib.contextmanager
def serving(fake: FakeService) -> Iterator[FakeService]:
    """Serve `fake` on a free port of 127.0.0.1."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.handle(Exchange(self.command, self.path, headers, body, self, closing))

        do_GET = do_POST = _handle  # noqa: N815 (their names in http.server)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Keep quiet: clients leave early here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield fake
        finally:
            closing.set()
            server.shutdown()
            thread.join()
