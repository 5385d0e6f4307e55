"""The remote rung against real servers: our own service, OpenAI's form, and a raw route."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.audio import SAMPLE_RATE, Samples, to_pcm16, wav_header
from service.engines.engine import SpeechRequest
from service.engines.failures import FAILURES
from service.engines.instance import HEADER
from service.engines.recovery import Recovery
from service.engines.remote import RemoteVoice, _form
from service.errors import RungError
from service.settings import ServiceSettings
from service.text import segments
from service.voices import Personas
from tests.service.rungs import Rung, broken, tone
from tests.service.serving import serving

pytestmark = pytest.mark.anyio

INSTANCE = "a" * 32
ROUTE = "/api/v1/generate"
KEY = "the-key-of-the-other-server"
TEXT = "a secret of mine"


@dataclass
class Server:
    """A server that does what a test says, and keeps what it was asked."""

    act: Callable[[BaseHTTPRequestHandler], None]
    url: str = ""
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.seen[-1][2])
        return found


@contextmanager
def answering(act: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    server = Server(act)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.seen.append((f"{self.command} {self.path}", headers, body))
            server.act(self)

        do_GET = do_HEAD = do_POST = _handle  # noqa: N815 (their names in http.server)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients leave early here."""

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        yield server
        listening.shutdown()
        thread.join()


def reply(
    status: int = 200, body: bytes = b"", kind: str = "application/json", **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


PCM = to_pcm16(tone(1))
WAV = wav_header(len(PCM), SAMPLE_RATE) + PCM
spoken_wav = reply(body=WAV, kind="audio/wav")


def remote(
    url: str, personas: Personas, *, key: str | None = None, substitute: bool = True
) -> RemoteVoice:
    return RemoteVoice(url, key, personas, substitute=substitute, instance=INSTANCE)


def asked(personas: Personas, voice: str = "maya", **about: Any) -> SpeechRequest:
    return replace(SpeechRequest(segments(TEXT), personas[voice]), **about)


async def spoken(rung: RemoteVoice, request: SpeechRequest) -> Samples:
    async with AsyncExitStack() as ending:
        ending.push_async_callback(rung.stop)
        async with aclosing(rung.speak(request)) as blocks:
            return np.concatenate([block async for block in blocks])


async def failure_of(rung: RemoteVoice, request: SpeechRequest) -> RungError:
    with pytest.raises(RungError) as failed:
        await spoken(rung, request)
    return failed.value


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("", "sesame"),
        ("/api/v1/generate", "sesame"),
        ("/maya/generate", "sesame"),
        ("/v1", "openai"),
        ("/v1/audio/speech", "openai"),
        ("/models/csm", "raw"),
    ],
)
def test_the_path_tells_what_a_server_understands(path: str, form: str) -> None:
    assert _form(path) == form


@pytest.mark.parametrize("path", ["", "/", ROUTE])
async def test_another_service_of_ours_speaks(personas: Personas, path: str) -> None:
    with serving(create_app(ServiceSettings(), [Rung(tone(0.5), name="csm")])) as client:
        rung = remote(f"{str(client.base_url).rstrip('/')}{path}", personas)
        request = asked(personas)
        heard = await spoken(rung, request)
    np.testing.assert_allclose(heard, tone(0.5), atol=1e-4)
    assert request.remark.substitution is None
    assert rung.substitution(personas["maya"]) is None


async def test_a_stand_in_over_there_is_named(personas: Personas, voice: httpx.Client) -> None:
    request = asked(personas)
    await spoken(remote(str(voice.base_url), personas), request)
    assert request.remark.substitution == "remote:basic:espeak-ng:en-us+f3"


async def test_what_a_caller_asked_for_is_passed_on(personas: Personas) -> None:
    with answering(spoken_wav) as server:
        request = asked(
            personas, "warm", seed=7, temperature=0.5, top_k=9, longest_seconds=2.0, via=("b" * 32,)
        )
        await spoken(remote(server.url, personas, key=KEY), request)
    path, headers, _ = server.seen[0]
    assert path == f"POST {ROUTE}"
    assert server.body == {
        "text": TEXT,
        "voice": "warm",
        "format": "wav",
        "sample_rate": 24_000,
        "stream": True,
        "seed": 7,
        "temperature": 0.5,
        "top_k": 9,
        "max_audio_length_ms": 2_000,
    }
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers[HEADER.lower()] == f"{'b' * 32},{INSTANCE}"


async def test_without_a_key_none_is_shown(personas: Personas) -> None:
    with answering(spoken_wav) as server:
        await spoken(remote(server.url, personas), asked(personas))
    assert "authorization" not in server.seen[0][1]


async def test_openais_form_is_spoken(personas: Personas) -> None:
    with answering(spoken_wav) as server:
        rung = remote(f"{server.url}/v1", personas)
        heard = await spoken(rung, asked(personas))
    assert server.seen[0][0] == "POST /v1/audio/speech"
    assert server.body == {
        "model": "tts-1",
        "input": TEXT,
        "voice": "maya",
        "response_format": "wav",
    }
    np.testing.assert_allclose(heard, tone(1), atol=1e-4)
    assert rung.substitution(personas["maya"]) == "remote:maya"


async def test_a_raw_endpoint_gets_the_text_alone(personas: Personas) -> None:
    with answering(spoken_wav) as server:
        await spoken(remote(f"{server.url}/csm", personas), asked(personas))
    assert (server.seen[0][0], server.body) == ("POST /csm", {"inputs": TEXT})


async def test_the_first_block_comes_before_the_last_is_sent(personas: Personas) -> None:
    heard = threading.Event()

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "audio/wav")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(wav_header(None, SAMPLE_RATE) + PCM[:9_600])
        handler.wfile.flush()
        assert heard.wait(10)
        handler.wfile.write(PCM[9_600:])

    with answering(act) as server:
        rung = remote(server.url, personas)
        async with aclosing(rung.speak(asked(personas))) as blocks:
            first = await anext(blocks)
            heard.set()
            rest = [block async for block in blocks]
        await rung.stop()
    assert first.size < 24_000
    assert first.size + sum(block.size for block in rest) == 24_000


async def test_who_leaves_early_closes_the_connection(personas: Personas) -> None:
    closed = threading.Event()

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "audio/wav")
        handler.end_headers()
        handler.wfile.write(wav_header(None, SAMPLE_RATE) + PCM)
        handler.wfile.flush()
        if not handler.rfile.read(1):
            closed.set()

    with answering(act) as server:
        rung = remote(server.url, personas)
        async with aclosing(rung.speak(asked(personas))) as blocks:
            await anext(blocks)
        assert await asyncio.to_thread(closed.wait, 10)
        await rung.stop()


def unknown_voice(handler: BaseHTTPRequestHandler) -> None:
    reply(422, b'{"success":false,"code":"voice_unknown"}')(handler)


async def test_a_persona_that_it_does_not_know_is_spoken_as_the_default_one(
    personas: Personas,
) -> None:
    with answering(unknown_voice) as server:
        rung = remote(server.url, personas)
        for block in ("mystic", "maya"):
            async with aclosing(rung.speak(asked(personas, block))) as blocks:
                with pytest.raises(RungError) as failed:
                    await anext(blocks)
            assert failed.value.failure == "no_voice"
            if block == "mystic":
                assert rung.substitution(personas["mystic"]) == "remote:maya"
        assert not rung.speaks_for(personas["mystic"])
        await rung.stop()


async def test_a_persona_that_it_does_not_know_is_left_to_the_next_rung_where_that_is_wished(
    personas: Personas,
) -> None:
    with answering(unknown_voice) as server:
        rung = remote(server.url, personas, substitute=False)
        assert (await failure_of(rung, asked(personas, "mystic"))).failure == "no_voice"
    assert not rung.speaks_for(personas["mystic"])
    assert rung.speaks_for(personas["maya"])


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("act", "failure"),
    [
        (reply(400), "unspeakable"),
        (reply(401), "credentials"),
        (reply(402), "payment"),
        (reply(403), "credentials"),
        (reply(404), "wrong_address"),
        (reply(410), "wrong_address"),
        (reply(422, b'{"code":"text_too_long"}'), "unspeakable"),
        (reply(429, Retry_After="7"), "busy"),
        (reply(429), "busy"),
        (reply(500), "transient"),
        (reply(502), "transient"),
        (reply(503, b'{"code":"voice_offline"}', Retry_After="10"), "busy"),
        (reply(503), "transient"),
        (reply(504), "transient"),
        (reply(508), "loop"),
        (reply(200, b"", "audio/wav"), "bad_audio"),
        (reply(200, b'[{"generated_text":"Hi"}]'), "wrong_address"),
        (reply(200, b"<html></html>", "text/html"), "wrong_address"),
        (reply(200, WAV[:9_000], "audio/wav"), "bad_audio"),
        (hang_up, "transient"),
    ],
)
async def test_a_failure_has_its_class_and_gives_nothing_away(
    act: Callable[[BaseHTTPRequestHandler], None], failure: str, personas: Personas
) -> None:
    with answering(act) as server:
        error = await failure_of(remote(server.url, personas, key=KEY), asked(personas))
    assert error.failure == failure
    assert error.failure in FAILURES
    words = f"{error.message} {error.hint}"
    assert KEY not in words
    assert TEXT not in words


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_nothing_goes_where_a_redirect_leads(status: int, personas: Personas) -> None:
    with (
        answering(spoken_wav) as elsewhere,
        answering(reply(status, Location=f"{elsewhere.url}/")) as server,
    ):
        error = await failure_of(remote(server.url, personas, key=KEY), asked(personas))
    assert error.failure == "wrong_address"
    assert elsewhere.seen == []


async def test_nobody_there_may_pass_by_itself(personas: Personas) -> None:
    with answering(spoken_wav) as server:
        url = server.url
    error = await failure_of(remote(url, personas), asked(personas))
    assert (error.failure, error.outcome) == ("transient", "refused")


HEALTH = {"status": "healthy", "engine": "csm", "badge": {"icon": "🟢", "label": "Sesame Local"}}


@pytest.mark.parametrize(
    ("path", "act", "finding"),
    [
        ("", reply(body=json.dumps(HEALTH).encode()), "ready"),
        ("", reply(body=json.dumps(HEALTH | {"status": "degraded"}).encode()), "ready"),
        ("", reply(503, b'{"status":"loading"}'), "unreachable"),
        ("", reply(body=b"<html></html>", kind="text/html"), "invalid"),
        ("", reply(404), "invalid"),
        ("/v1", reply(body=b"{}"), "narrow"),
        ("/v1", reply(404), "narrow"),
        ("/v1", reply(401), "invalid"),
        ("/csm", reply(405), "narrow"),
        ("/csm", reply(500), "unreachable"),
    ],
)
async def test_a_look_says_what_is_there_and_sends_no_text(
    path: str, act: Callable[[BaseHTTPRequestHandler], None], finding: str, personas: Personas
) -> None:
    with answering(act) as server:
        rung = remote(f"{server.url}{path}", personas)
        found = await rung.look()
        await rung.stop()
    assert found.name == finding
    assert [(seen[0].partition(" ")[0] in ("GET", "HEAD"), seen[2]) for seen in server.seen] == [
        (True, b"")
    ]


def gateway(url: str, *, basic_voice: bool = False, **settings: Any) -> ServiceSettings:
    return ServiceSettings(mode="online", url=url, basic_voice=basic_voice, **settings)


def test_two_gateways_that_point_at_each_other_answer_508(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else the first would find that nobody listens yet at the second, and not ask it.
    monkeypatch.setattr(Recovery, "start", lambda _: None)
    first_port, second_port = free_ports()
    with (
        serving(create_app(gateway(f"http://127.0.0.1:{second_port}")), first_port) as first,
        serving(create_app(gateway(f"http://127.0.0.1:{first_port}")), second_port),
    ):
        answer = first.post(ROUTE, json={"text": "Hello"})
        metrics = first.get("/metrics").text
    assert answer.status_code == 508, answer.text
    assert answer.json()["code"] == "loop"
    assert "SESAME_URL" in answer.json()["hint"]
    assert 'sesame_rung_attempts_total{outcome="loop",rung="remote"} 1.0' in metrics


def test_a_loop_of_gateways_ends_with_the_basic_voice_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Recovery, "start", lambda _: None)
    first_port, second_port = free_ports()
    one, other = (
        gateway(f"http://127.0.0.1:{port}", basic_voice=True) for port in (second_port, first_port)
    )
    with (
        serving(create_app(one), first_port) as first,
        serving(create_app(other), second_port) as second,
    ):
        answer = first.post(ROUTE, json={"text": "Hello"})
        metrics = second.get("/metrics").text
    assert answer.status_code == 200
    assert answer.headers["x-speech-substitution"].startswith("maya=remote:basic:espeak-ng")
    assert 'sesame_rung_attempts_total{outcome="loop",rung="remote"} 1.0' in metrics


def test_a_gateway_passes_the_primarys_voice_on_and_says_so() -> None:
    with (
        serving(create_app(ServiceSettings(), [Rung(tone(1), name="csm")])) as upstream,
        serving(create_app(gateway(str(upstream.base_url)))) as client,
    ):
        answer = client.post(ROUTE, json={"text": "Hello"})
        health = client.get("/health").json()
    assert answer.status_code == 200
    assert answer.headers["x-speech-engine"] == "remote"
    assert "x-speech-substitution" not in answer.headers
    assert (health["status"], health["badge"]["label"]) == ("healthy", "Sesame API")


def test_a_key_that_we_demand_is_never_shown_to_the_primary() -> None:
    def act(handler: BaseHTTPRequestHandler) -> None:
        is_health = handler.path == "/health"
        (reply(body=json.dumps(HEALTH).encode()) if is_health else spoken_wav)(handler)

    with answering(act) as server:
        settings = gateway(
            server.url, server_key=SecretStr("ours"), api_key=SecretStr(KEY), host="127.0.0.1"
        )
        with serving(create_app(settings)) as client:
            answer = client.post(
                ROUTE, json={"text": "Hello"}, headers={"Authorization": "Bearer ours"}
            )
    assert answer.status_code == 200
    shown = {headers.get("authorization") for _, headers, _ in server.seen}
    assert shown == {f"Bearer {KEY}"}


def test_a_request_with_too_many_hops_is_a_loop() -> None:
    hops = ",".join(f"{number:032x}" for number in range(9))
    with serving(create_app(ServiceSettings(), [broken()])) as client:
        answer = client.post(ROUTE, json={"text": "Hello"}, headers={HEADER: hops})
    assert answer.status_code == 508


def free_ports() -> tuple[int, int]:
    with answering(spoken_wav) as one, answering(spoken_wav) as two:
        first, second = (int(server.url.rpartition(":")[2]) for server in (one, two))
    return first, second
