"""The voice at ElevenLabs, streamed as it is spoken.

The one module that imports `elevenlabs`. It knows nothing of the other rungs.
"""

from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar, cast

import httpx
from elevenlabs.client import AsyncElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.core.request_options import RequestOptions
from elevenlabs.environment import ElevenLabsEnvironment

from service.audio import SAMPLE_RATE, Samples
from service.engines.engine import EngineState, Finding, Quota, SpeechRequest
from service.engines.incoming import Incoming, blocks_of, longest_seconds, media_type_of
from service.engines.wire import READ_SECONDS, Refusal, Server, open_client, refusal, unreached
from service.errors import EngineError, RungError
from service.text import prose
from service.voices import Persona, Personas

__all__ = ["ElevenLabsVoice"]

PCM: Literal["pcm_24000"] = "pcm_24000"  # our own rate: nothing to resample, and every tier has it
CHUNK_BYTES = 1920  # 40 ms

OPTIONS: RequestOptions = {
    "timeout_in_seconds": round(READ_SECONDS),
    "max_retries": 0,
    "chunk_size": CHUNK_BYTES,
}


@dataclass(frozen=True)
class _Voice:
    voice_id: str
    name: str


ASK_SUPPORT = "look at the account at elevenlabs.io"
NEW_KEY = "make a key at elevenlabs.io, set ELEVENLABS_API_KEY and restart the service"
REFUSALS: Mapping[str, Refusal] = {
    "quota_exceeded": Refusal(
        "quota",
        "the characters of the account are used up",
        "wait for the reset, raise the key's limit or get a larger plan at elevenlabs.io",
    ),
    "invalid_api_key": Refusal("credentials", "the key is unknown", NEW_KEY),
    "needs_authorization": Refusal("credentials", "the key is missing", NEW_KEY),
    "missing_permissions": Refusal(
        "credentials",
        "the key lacks a right",
        "give it the right to text to speech at elevenlabs.io, then restart the service",
    ),
    "payment_required": Refusal("payment", "a payment is due", ASK_SUPPORT),
    "invalid_subscription": Refusal("payment", "the subscription is not valid", ASK_SUPPORT),
    "detected_unusual_activity": Refusal(
        "payment", "the free tier is closed to this host", "get a paid plan at elevenlabs.io"
    ),
    "voice_not_found": Refusal(
        "no_voice",
        "the voice is not known there",
        "correct ELEVENLABS_VOICE_ID, or voice_id in the persona's voice.toml",
    ),
    "model_not_found": Refusal(
        "wrong_address", "the model is not known there", "correct ELEVENLABS_MODEL_ID"
    ),
    "text_too_long": Refusal(
        "unspeakable", "the text is too long for the model", "send a shorter text"
    ),
    "max_character_limit_exceeded": Refusal(
        "unspeakable", "the text is too long for the model", "send a shorter text"
    ),
    "too_many_concurrent_requests": Refusal(
        "busy", "the plan speaks no more at once", "ask less at once, or get a larger plan"
    ),
    "system_busy": Refusal("busy", "ElevenLabs is busy", "the next rung speaks meanwhile"),
}
"""The words of `detail.status` in an answer that is no success, and what each means."""

T = TypeVar("T")


class ElevenLabsVoice:
    """Streams 16-bit PCM at 24 kHz through the official client.

    + voice_id: speaks for every persona; None: each persona's own
    + base_url: of a residency host; None: the client's own
    + substitute: whether a persona without a voice here is spoken by the first persona's
    """

    name = "elevenlabs"
    permits = 2  # what the smallest plan speaks at once
    reserve_seconds = 1.5
    state = EngineState("ready")

    def __init__(
        self,
        key: str,
        model_id: str,
        voice_id: str | None,
        base_url: str | None,
        personas: Personas,
        *,
        substitute: bool,
    ) -> None:
        base = base_url or ElevenLabsEnvironment.PRODUCTION.value
        self._model_id = model_id
        self._personas = personas
        self._for_all = _Voice(voice_id, voice_id) if voice_id else None
        self._substitute = substitute
        self._refused: set[str] = set()
        self._server = Server(
            "ElevenLabs",
            httpx.URL(base).host,
            key="ELEVENLABS_API_KEY",
            address="ELEVENLABS_BASE_URL",
        )
        self._http = open_client(self._server, base)
        # Without a key of ours the client would read one from the environment.
        self._api = AsyncElevenLabs(api_key=key, base_url=base, httpx_client=self._http)

    @property
    def host(self) -> str:
        """Where text goes."""
        return self._server.host

    def speaks_for(self, persona: Persona) -> bool:
        """A persona has a voice there that was not refused, or may be stood in for."""
        return self._voice(persona) is not None

    def substitution(self, persona: Persona) -> str | None:
        """Name the voice: a stranger's is never the persona's own."""
        voice = self._voice(persona)
        return f"elevenlabs:{voice.name}" if voice else None

    async def probe(self) -> None:
        """Ask for the subscription; a key that may not is alive too. Raises RungError."""
        try:
            await self._answer(self._api.user.subscription.get(request_options=OPTIONS))
        except _NarrowKeyError:
            return

    async def look(self) -> Finding:
        """Look at subscription, model and voices."""
        try:
            return await self._find()
        except _NarrowKeyError:
            return Finding(
                "narrow",
                "the key may speak at most: it may not read what this check asks for",
                "to see the quota, let the key read the user, models and voices at elevenlabs.io",
            )
        except RungError as error:
            # What neither the network nor time will mend.
            lasting = error.failure not in ("transient", "timeout", "stalled", "busy", "bad_audio")
            return Finding("invalid" if lasting else "unreachable", error.message, error.hint)
        except (AttributeError, TypeError, ValueError):
            return Finding(
                "invalid",
                f"what {self.host} answers is not ElevenLabs'",
                "correct ELEVENLABS_BASE_URL, or unset it",
            )

    async def start(self) -> None:
        """Nothing is asked before it is needed."""

    async def stop(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks of 40 ms and more as they come."""
        voice = self._voice(request.persona)
        if voice is None:
            raise EngineError(
                f"{request.persona.name} has no voice at ElevenLabs",
                "give its voice.toml a table [elevenlabs]",
                failure="no_voice",
            )
        try:
            async with aclosing(self._stream(prose(request.segments), voice)) as blocks:
                async for block in blocks:
                    yield block
        except ApiError as error:
            refused = self._refusal(error)
            if refused.failure == "no_voice":
                self._refused.add(voice.voice_id)
            raise refused from None
        except httpx.HTTPError as error:
            raise unreached(error, self._server) from error

    async def _stream(self, text: str, voice: _Voice) -> AsyncGenerator[Samples]:
        async with self._api.text_to_speech.with_raw_response.stream(
            voice.voice_id,
            text=text,
            model_id=self._model_id,
            output_format=PCM,
            request_options=OPTIONS,
        ) as answer:
            media_type = media_type_of(answer.headers.get("content-type", ""))
            incoming = Incoming(media_type, longest=longest_seconds(text), raw_rate=SAMPLE_RATE)
            pieces = cast("AsyncGenerator[bytes]", answer.data)
            async with aclosing(pieces), aclosing(blocks_of(pieces, incoming)) as blocks:
                async for block in blocks:
                    yield block

    def _voice(self, persona: Persona) -> _Voice | None:
        """Give who speaks for a persona."""
        others = self._personas.values() if self._substitute else ()
        voices = [self._for_all] if self._for_all else _voices([persona, *others])
        return next((voice for voice in voices if voice.voice_id not in self._refused), None)

    async def _find(self) -> Finding:
        account = await self._answer(self._api.user.subscription.get(request_options=OPTIONS))
        resets = account.next_character_count_reset_unix
        quota = Quota(
            account.character_count,
            account.character_limit,
            datetime.fromtimestamp(resets, UTC) if resets else None,
        )
        models = await self._answer(self._api.models.list(request_options=OPTIONS))
        speaking = [model.model_id for model in models if model.can_do_text_to_speech]
        if self._model_id not in speaking:
            return Finding(
                "invalid",
                f"ELEVENLABS_MODEL_ID={self._model_id} is no model that speaks",
                f"set it to one of: {', '.join(speaking)}",
                quota,
            )
        voices = [self._for_all] if self._for_all else _voices(self._personas.values())
        if lost := [voice.name for voice in dict.fromkeys(voices) if not await self._has(voice)]:
            return Finding(
                "invalid",
                f"ElevenLabs does not know the voice {', '.join(lost)}",
                "correct ELEVENLABS_VOICE_ID, or voice_id in the persona's voice.toml",
                quota,
            )
        beyond = getattr(account, "allowed_to_extend_character_limit", False)
        if quota.left is not None and quota.left <= 0 and not beyond:
            return Finding(
                "invalid",
                f"no characters are left on the plan {account.tier}",
                "wait for the reset, or get a larger plan at elevenlabs.io",
                quota,
            )
        return Finding("ready", f"{self._model_id} on the plan {account.tier}", quota=quota)

    async def _has(self, voice: _Voice) -> bool:
        try:
            await self._answer(self._api.voices.get(voice.voice_id, request_options=OPTIONS))
        except RungError as error:
            if error.failure in ("no_voice", "wrong_address"):
                return False
            raise
        return True

    async def _answer(self, asked: Awaitable[T]) -> T:
        """Await an answer of the client's. Raises RungError, or _NarrowKeyError."""
        try:
            return await asked
        except ApiError as error:
            if _word(error.body) == "missing_permissions":
                raise _NarrowKeyError from None
            raise self._refusal(error) from None
        except httpx.HTTPError as error:
            raise unreached(error, self._server) from error

    def _refusal(self, error: ApiError) -> EngineError:
        """Say what the client's error means. Its own words hold headers and body: never shown."""
        headers = httpx.Headers(error.headers)
        meaning = REFUSALS.get(_word(error.body))
        return refusal(error.status_code or 500, headers, self._server, meaning)


class _NarrowKeyError(Exception):
    """The key is known there and may not do this."""


def _voices(personas: Iterable[Persona]) -> list[_Voice]:
    tables = (persona.elevenlabs for persona in personas)
    return [_Voice(table.voice_id, table.name) for table in tables if table]


def _word(body: object) -> str:
    """Give the word by which ElevenLabs names an error: `detail.status`, lately `detail.code`."""
    detail = body.get("detail") if isinstance(body, dict) else None
    if not isinstance(detail, dict):
        return ""
    words = [str(detail.get(name, "")) for name in ("status", "code", "type")]
    if any("payment" in word for word in words):
        return "payment_required"
    return next((word for word in words if word in REFUSALS), "")
