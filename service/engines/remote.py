"""The voice at SESAME_URL: another service of our contract, or one of two simpler kinds of server.

It knows nothing of the other rungs, and nothing of what stands behind the server that it asks.
"""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, cast

import httpx

from service.audio import SAMPLE_RATE, Samples
from service.engines import instance as instances
from service.engines.engine import EngineState, Finding, Memory, SpeechRequest
from service.engines.incoming import Incoming, blocks_of, longest_seconds, media_type_of
from service.engines.wire import Refusal, Server, open_client, refusal, unreached
from service.errors import EngineError, RungError, SettingsError
from service.text import LONGEST_TEXT, Pause, prose
from service.voices import Persona, Personas

__all__ = ["RemoteVoice"]

Form = Literal["sesame", "openai", "raw"]

NO_KEY = "local"  # what the guide's clients say where there is no key
OPENAI_MODEL = "tts-1"  # the name that servers of this form know, whatever they run
PCM, PCM_RATE = "audio/pcm", 24_000  # Hz; OpenAI's name for 16-bit mono without a header
MAX_REPORT_BYTES = 65_536  # of an answer about itself

LASTING = ("credentials", "payment", "wrong_address")
"""Classes of failure that neither the network nor time will mend."""

OWN = ("csm", "remote")
"""Engines of our contract that speak with a persona's own voice, unless they say otherwise."""

CACHE_CONTROL: Mapping[Memory, Mapping[str, str]] = {
    "use": {},
    "renew": {"Cache-Control": "no-cache"},
    "none": {"Cache-Control": "no-store"},
}

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,79}")
"""What may stand in a header of ours of what stood in one of theirs."""

NAME_A_VOICE = (
    "give the persona's voice.toml a table [remote] with a voice that is there, or set"
    " SESAME_MISSING_VOICE"
)
SEE_HEALTH = "GET /health there says what it lacks; the next rung speaks meanwhile"

REFUSALS: Mapping[str, Refusal] = {
    "voice_unknown": Refusal("no_voice", "{name} does not know the voice", NAME_A_VOICE),
    "voice_offline": Refusal("busy", "no rung of {name} can speak", SEE_HEALTH),
    # The time that it was given is over: it is not asked a second time.
    "deadline_exceeded": Refusal("timeout", "no rung of {name} spoke in time", SEE_HEALTH),
    "speech_cut_off": Refusal("transient", "{name} broke off before it was heard", SEE_HEALTH),
}
"""The words of `code` in an answer of our contract that is no success, where the status tells less.
"""

OPENAI_REFUSAL = Refusal("unspeakable", "{name} refuses the text or the voice", NAME_A_VOICE)


@dataclass(frozen=True)
class _Place:
    """Where a server of one form is.

    + speech: what is posted to; + report: what is asked about itself, for nothing
    """

    form: Form
    speech: httpx.URL
    report: httpx.URL


class RemoteVoice:
    """Streams what a server elsewhere answers, and passes on what that says of its speaker.

    | form | SESAME_URL ends with | is asked to speak at | and about itself at |
    |---|---|---|---|
    | `sesame` | no path, or `/generate` | `/api/v1/generate`, or as given | `GET …/health` |
    | `openai` | `/v1`, or `/v1/audio/speech` | `/v1/audio/speech` | `GET …/v1/models` |
    | `raw` | anything else | as given: `{"inputs": TEXT}` | `HEAD` as given |

    For a form that is named, any other path is what stands before its routes. WAV is asked for: it
    streams as well as samples without a header, and says itself what it is.

    + key: shown to that server alone; None or `local`: none is
    + form: `auto` tells it by the table
    + substitute: whether a persona whose voice is unknown there is spoken by the first persona's
    + instance: our own id, by which a request that comes back to us is known

    Raises SettingsError when the URL is none.
    """

    name = "remote"
    permits = 8
    reserve_seconds = 1.5

    def __init__(
        self,
        url: str,
        key: str | None,
        personas: Personas,
        *,
        form: Literal["auto", "sesame", "openai", "raw"] = "auto",
        substitute: bool,
        instance: str,
    ) -> None:
        self._place = _place(url, form)
        self._key = None if key == NO_KEY else key
        self._first = next(iter(personas.values()))
        self._substitute = substitute
        self._instance = instance
        self._refused: set[str] = set()
        self._state = EngineState("ready")
        self._server = Server(
            "the remote voice",
            self._place.speech.host,
            key="SESAME_API_KEY",
            address="SESAME_URL",
        )
        self._client = open_client(self._server, str(self._place.speech))

    @property
    def host(self) -> str:
        """Where text goes."""
        return self._server.host

    @property
    def state(self) -> EngineState:
        """Ready; the reason is what the server last said that it lacks."""
        return self._state

    def speaks_for(self, persona: Persona) -> bool:
        """The server did not refuse its voice, or it may be stood in for."""
        return self._voice(persona) is not None

    def substitution(self, persona: Persona) -> str | None:
        """Name the voice, where it is none of a Sesame's, or stands in for the persona's there."""
        voice = self._voice(persona)
        if voice is None or (self._place.form == "sesame" and voice == _name(persona)):
            return None
        return f"remote:{voice}"

    async def probe(self) -> None:
        """Ask the server about itself. Costs nothing. Raises RungError."""
        await self._report()

    async def look(self) -> Finding:
        """Ask the server about itself, and say in words what it answered."""
        try:
            report = await self._report()
        except RungError as error:
            name: Literal["invalid", "unreachable"] = (
                "invalid" if error.failure in LASTING else "unreachable"
            )
            return Finding(name, error.message, error.hint)
        if report.get("status") not in ("healthy", "degraded"):
            return self._narrow(report)
        detail = f"{_badge(report)}, version {_printable(report.get('version'))}, at {self.host}"
        return Finding("ready", detail, SEE_HEALTH if report["status"] == "degraded" else "")

    async def start(self) -> None:
        """Nothing is asked before it is needed."""

    async def stop(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks of 40 ms and more as they come."""
        voice = self._voice(request.persona)
        if voice is None:
            raise EngineError(
                f"{request.persona.name} has no voice at {self.host}",
                NAME_A_VOICE,
                failure="no_voice",
            )
        try:
            async with aclosing(self._stream(request, voice)) as blocks:
                async for block in blocks:
                    yield block
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreached(error, self._server) from error

    async def _stream(self, request: SpeechRequest, voice: str) -> AsyncGenerator[Samples]:
        headers = self._headers() | {
            instances.HEADER: instances.passed_on(request.via, self._instance),
            **CACHE_CONTROL[request.memory],
        }
        async with self._client.stream(
            "POST", self._place.speech, json=self._question(request, voice), headers=headers
        ) as answer:
            if not answer.is_success:
                raise await self._refusal(answer, voice)
            if self._place.form == "sesame":
                request.remark.substitution = _substitution(answer.headers, voice, request.persona)
            media_type = media_type_of(answer.headers.get("content-type", ""))
            incoming = Incoming(
                media_type,
                longest=longest_seconds(prose(request.segments)) + _silent_seconds(request),
                raw_rate=PCM_RATE if media_type == PCM else None,
            )
            pieces = cast("AsyncGenerator[bytes]", answer.aiter_raw())
            async with aclosing(pieces), aclosing(blocks_of(pieces, incoming)) as blocks:
                async for block in blocks:
                    yield block

    def _question(self, request: SpeechRequest, voice: str) -> dict[str, Any]:
        match self._place.form:
            case "sesame":
                return _asked(request, voice)
            case "openai":
                return {
                    "model": OPENAI_MODEL,
                    "input": prose(request.segments),
                    "voice": voice,
                    "response_format": "wav",
                }
            case "raw":
                return {"inputs": prose(request.segments)}

    def _voice(self, persona: Persona) -> str | None:
        """Give the name by which the server is asked for a persona's voice, or for a stand-in's."""
        if self._place.form == "raw":
            # It has one voice, and nobody can ask for it by name: the first persona's, let us say.
            ours = persona is self._first or persona.remote is not None
            return "raw" if ours or self._substitute else None
        personas = [persona, self._first] if self._substitute else [persona]
        return next((name for one in personas if (name := _name(one)) not in self._refused), None)

    async def _refusal(self, answer: httpx.Response, voice: str) -> EngineError:
        """Say what an answer that is no success means. Its own words are never shown."""
        try:
            code = _code(await answer.aread())
        except RungError:
            code = ""
        meaning = REFUSALS.get(code)
        if meaning is None and self._place.form == "openai" and answer.status_code in (400, 422):
            meaning = OPENAI_REFUSAL
        refused = refusal(answer.status_code, answer.headers, self._server, meaning)
        if refused.failure == "no_voice":
            self._refused.add(voice)
        return refused

    async def _report(self) -> dict[str, Any]:
        """Ask the server about itself: its health, where it has one. Raises RungError."""
        method = "HEAD" if self._place.form == "raw" else "GET"
        try:
            async with self._client.stream(
                method, self._place.report, headers=self._headers()
            ) as answer:
                if self._place.form == "sesame":
                    return await self._health(answer)
                if _is_down(answer.status_code) or (
                    answer.status_code == httpx.codes.UNAUTHORIZED and self._place.form == "openai"
                ):
                    raise refusal(answer.status_code, answer.headers, self._server)
                return {"http": answer.status_code}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreached(error, self._server) from error

    async def _health(self, answer: httpx.Response) -> dict[str, Any]:
        """Read what `GET /health` says, and keep what follows from it. Raises RungError."""
        report = _document(await _bounded(answer))
        status = report.get("status")
        if status in ("loading", "offline"):
            raise EngineError(
                f"the remote voice at {self.host} is {status}",
                SEE_HEALTH,
                failure="transient",
                outcome=status,
            )
        if not answer.is_success:
            raise refusal(answer.status_code, answer.headers, self._server)
        if not report:
            raise EngineError(
                f"what {self.host} answers to GET {self._place.report.path} is no report",
                "correct SESAME_URL, or say with SESAME_REMOTE_FORM what it understands",
                failure="wrong_address",
            )
        degraded = f"it is degraded: {_badge(report)}" if status == "degraded" else None
        self._state = EngineState("ready", degraded)
        voices = report.get("voices")
        if isinstance(voices, list):
            self._refused.difference_update(voice for voice in voices if isinstance(voice, str))
        return report

    def _narrow(self, report: Mapping[str, Any]) -> Finding:
        if report.get("http") == httpx.codes.UNAUTHORIZED:
            return Finding(
                "invalid",
                f"{self.host} refuses the key",
                "correct SESAME_API_KEY, then restart the service",
            )
        return Finding("narrow", f"{self.host} answers; only speech shows whether it speaks")

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}


def _place(url: str, form: Literal["auto", "sesame", "openai", "raw"]) -> _Place:
    try:
        given = httpx.URL(url)
        _ = given.host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise SettingsError(
            f"SESAME_URL is no address: {error}; give one of the form https://HOST/PATH"
        ) from error
    path = given.path.rstrip("/")
    found = _form(path) if form == "auto" else form
    match found:
        case "sesame":
            before = path.removesuffix("/generate").removesuffix("/api/v1")
            speech = path if path.endswith("/generate") else f"{path}/api/v1/generate"
            report = f"{before}/health"
        case "openai":
            before = path.removesuffix("/audio/speech").removesuffix("/v1")
            speech, report = f"{before}/v1/audio/speech", f"{before}/v1/models"
        case "raw":
            speech = report = given.path
    return _Place(found, given.copy_with(path=speech), given.copy_with(path=report))


def _form(path: str) -> Form:
    if path.endswith(("/v1/audio/speech", "/v1")):
        return "openai"
    return "sesame" if not path or path.endswith("/generate") else "raw"


def _name(persona: Persona) -> str:
    """Give what a remote server calls a persona."""
    return persona.remote.voice if persona.remote else persona.name


def _asked(request: SpeechRequest, voice: str) -> dict[str, Any]:
    """Write a request as our own contract has it."""
    longest = request.longest_seconds
    asked = {
        "text": _marked_up(request),
        "voice": voice,
        "format": "wav",
        "sample_rate": SAMPLE_RATE,
        "stream": True,
        "seed": request.seed,
        "temperature": request.temperature,
        "top_k": request.top_k,
        "max_audio_length_ms": None if longest is None else round(longest * 1000),
    }
    return {name: value for name, value in asked.items() if value is not None}


def _marked_up(request: SpeechRequest) -> str:
    """Write what is to be spoken with its pauses, if that is not longer than a text may be."""
    parts = (
        f'<break time="{round(part.seconds * 1000)}ms"/>' if isinstance(part, Pause) else part.text
        for part in request.segments
    )
    text = " ".join(parts)
    return text if len(text) <= LONGEST_TEXT else prose(request.segments)


def _silent_seconds(request: SpeechRequest) -> float:
    return sum(part.seconds for part in request.segments if isinstance(part, Pause))


def _substitution(headers: httpx.Headers, voice: str, persona: Persona) -> str | None:
    """Read who stands in for the persona there; None where nobody does.

    + voice: by this name it was asked for
    """
    engine = _word(headers.get("X-Speech-Engine", ""))
    if not engine:
        # Nothing says whose voice this is.
        return f"remote:{voice}"
    if (told := headers.get("X-Speech-Substitution")) is not None:
        stand_in = _word(told.rpartition("=")[2])
        chained = not stand_in or stand_in.startswith(f"{engine}:")
        return f"remote:{stand_in or engine}" if chained else f"remote:{engine}:{stand_in}"
    if engine not in OWN:
        return f"remote:{engine}"
    spoken = _word(headers.get("X-Speech-Voice", voice))
    # What a table names is the persona's own, even if it is an alias there.
    return None if persona.remote or spoken == voice else f"remote:{spoken or engine}"


def _word(told: str) -> str:
    return told if WORD.fullmatch(told) else ""


def _is_down(status: int) -> bool:
    """Tell whether nobody speaks behind an answer; a method that is not known says nothing."""
    return status >= 500 and status != httpx.codes.NOT_IMPLEMENTED


async def _bounded(answer: httpx.Response) -> bytes:
    """Read a body; of one that is too long for what it should be, nothing."""
    body = b""
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_REPORT_BYTES:
            return b""
    return body


def _document(body: bytes) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _code(body: bytes) -> str:
    """Give the word by which an error is named: our `code`, or in OpenAI's form what it is about.

    Both forms are told apart by `error`, which is a sentence in ours.
    """
    told = _document(body)
    inner = told.get("error")
    if isinstance(inner, dict):
        return "voice_unknown" if inner.get("param") == "voice" else str(inner.get("code", ""))
    return str(told.get("code", ""))


def _badge(report: Mapping[str, Any]) -> str:
    badge = report.get("badge")
    told = badge if isinstance(badge, dict) else {}
    return f"{_printable(told.get('icon'))} {_printable(told.get('label'))}"


def _printable(told: object) -> str:
    """Give a short text of theirs as it may be shown."""
    text = told if isinstance(told, str) else "?"
    return "".join(character for character in text if character.isprintable())[:40]
