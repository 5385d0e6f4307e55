"""The voice at Hugging Face: inference providers behind its router, or a dedicated endpoint.

The one module of the running service that imports `huggingface_hub`. It knows nothing of the other
rungs.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from json import JSONDecodeError
from typing import Any, TypeVar, cast

import httpx
import httpx2
import numpy as np
from huggingface_hub import (
    HfApi,
    InferenceClient,
    ModelInfo,
    constants,
    is_offline_mode,
    set_client_factory,
)
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._providers._common import (
    _fetch_inference_provider_mapping as provider_mappings,
)

from service.audio import SAMPLE_RATE, Samples
from service.engines.bridge import CALL, Answer, Bridge, Call
from service.engines.engine import EngineState, Finding, SpeechRequest
from service.engines.incoming import (
    MAX_BODY_BYTES,
    Incoming,
    longest_seconds,
    media_type_of,
    most_bytes,
)
from service.engines.wire import Server, open_client, refusal, unreached
from service.errors import AudioError, EngineError, RungError
from service.text import prose
from service.voices import Persona, Personas

__all__ = ["ROUTER_URL", "HuggingFaceVoice"]

ROUTER_URL = "https://router.huggingface.co"
TASK = "text-to-speech"
RIGHT = "inference.serverless.write"
"""What a fine-grained token needs to call inference providers."""

BLOCK = SAMPLE_RATE // 2  # samples: an answer comes whole, and goes on in blocks of half a second
TOKEN_FORM = "hf_"  # noqa: S105 (how every token begins, and no token)
NO_TOKEN = (
    "HF_TOKEN is not a token of Hugging Face: it does not begin with hf_",
    "make one at huggingface.co/settings/tokens, set HF_TOKEN and restart the service",
)
SHOWN = ("accept", "content-type", "prefer", "user-agent")
"""Headers of the client's that go out."""

UNREADABLE = (AttributeError, LookupError, StopIteration, TypeError, ValueError)
"""What the client raises over an answer that it cannot make sense of, besides its own errors."""

T = TypeVar("T")

# Else it asks the hub which tool runs it, before the first text, and keeps the answer in a file.
constants.HF_HUB_DISABLE_TELEMETRY = True
# Its own client follows redirects, with the text, and waits without end.
set_client_factory(lambda: httpx2.Client(transport=Bridge(), follow_redirects=False, timeout=None))


class HuggingFaceVoice:
    """One answer for one text, through the official client, in threads of its own.

    The client's every exchange goes over our own bounded one, on the event loop: so it is cancelled
    there and then, follows no redirect, and shows the token to nobody but Hugging Face and the
    endpoint, whatever address a provider answers with.

    + model, provider: of the hub; `auto`: the first provider in the order of the account
    + endpoint: URL of a dedicated endpoint, asked instead of a provider
    + substitute: whether a persona without a voice here is spoken by the first persona's
    + hub, router: where Hugging Face is; by default where its client takes it to be
    """

    name = "huggingface"
    permits = 4
    reserve_seconds = 2.0
    state = EngineState("ready")

    def __init__(
        self,
        token: str,
        model: str,
        provider: str,
        endpoint: str | None,
        personas: Personas,
        *,
        substitute: bool,
        hub: str = constants.ENDPOINT,
        router: str = ROUTER_URL,
    ) -> None:
        self._token = token
        self._model = model
        self._provider = provider
        self._endpoint = endpoint
        self._stand_in = _voice_of_first(personas) if substitute else None
        self._moved = {constants.ENDPOINT: hub, ROUTER_URL: router}
        self._hub = hub
        self._base = endpoint or router
        self._server = Server(
            "Hugging Face",
            httpx.URL(self._base).host,
            key="HF_TOKEN",
            address="SESAME_HUGGINGFACE_URL"
            if endpoint
            else "SESAME_HF_MODEL and SESAME_HF_PROVIDER",
        )
        self._trusted = {_origin(httpx.URL(url)) for url in (hub, router, endpoint) if url}
        self._client = open_client(self._server, self._base)
        self._router = router
        self._threads = ThreadPoolExecutor(self.permits + 1, thread_name_prefix=self.name)

    @property
    def host(self) -> str:
        """The router's host, or the endpoint's."""
        return self._server.host

    def speaks_for(self, persona: Persona) -> bool:
        """A persona has a table for it, or may be stood in for."""
        return self._voice(persona) is not None

    def substitution(self, persona: Persona) -> str | None:
        """Name the voice: another model's is never the persona's own."""
        voice = self._voice(persona)
        return f"huggingface:{voice}" if voice else None

    async def probe(self) -> None:
        """Ask the hub for the model, and the router or the endpoint for anything. Costs nothing.

        Raises RungError.
        """
        if self._endpoint is None:
            await self._ask(lambda _: self._model_info())
        await self._knock()

    async def look(self) -> Finding:
        """Look at token, model and provider, or knock at the endpoint."""
        try:
            if self._endpoint is not None:
                await self._knock()
                return Finding(
                    "narrow", f"{self.host} answers; only speech shows whether it speaks"
                )
            return await self._ask(lambda _: self._find())
        except RungError as error:
            fixable = error.failure in ("credentials", "wrong_address", "payment", "unspeakable")
            return Finding("invalid" if fixable else "unreachable", error.message, error.hint)

    async def start(self) -> None:
        """Forget what the hub told before. Nothing is asked before it is needed."""
        provider_mappings.cache_clear()

    async def stop(self) -> None:
        """Close what is open; a thread that still waits ends with it."""
        await self._client.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks of half a second; they begin when the whole answer is there."""
        voice = self._voice(request.persona)
        if voice is None:
            raise EngineError(
                f"{request.persona.name} has no voice at Hugging Face",
                "give its voice.toml a table [huggingface]",
                failure="no_voice",
            )
        text = prose(request.segments)
        spoken = await self._ask(
            lambda call: self._speech(call, text, voice), most_bytes(longest_seconds(text))
        )
        for at in range(0, spoken.size, BLOCK):
            yield spoken[at : at + BLOCK]

    def _voice(self, persona: Persona) -> str | None:
        return persona.huggingface.voice if persona.huggingface else self._stand_in

    def _speech(self, call: Call, text: str, voice: str) -> Samples:
        """Let the client speak, and decode its answer: `[samples]`. In a thread."""
        if self._endpoint is None and not self._token.startswith(TOKEN_FORM):
            # The client would show it, and the text, to the provider itself.
            raise EngineError(*NO_TOKEN, failure="credentials")
        client = InferenceClient(
            provider=None if self._endpoint else cast("Any", self._provider), token=self._token
        )
        body = client.text_to_speech(
            text, model=self._endpoint or self._model, extra_body={"voice": voice}
        )
        media_type = media_type_of(call.last.content_type if call.last else "")
        incoming = Incoming(media_type, longest=longest_seconds(text))
        return np.concatenate([incoming.feed(body), incoming.finish()])

    def _unreadable(self, call: Call, error: Exception) -> RungError:
        """Say what the client could make nothing of. Its own words may quote the answer."""
        if call.synthesis and call.last is not None and not call.last.body:
            return AudioError("the answer is empty", "empty")
        if call.synthesis:
            what, outcome = "the answer of the provider names no audio", "not_audio"
        elif isinstance(error, JSONDecodeError):
            what, outcome = f"{httpx.URL(self._hub).host} does not answer as the hub does", ""
        else:
            what = f"no provider speaks with {self._model} (SESAME_HF_PROVIDER={self._provider})"
            outcome = ""
        return EngineError(
            what,
            "python -m service.rungs names the providers there are; set SESAME_HF_MODEL and"
            " SESAME_HF_PROVIDER",
            failure="wrong_address",
            outcome=outcome,
        )

    def _model_info(self) -> ModelInfo:
        provider_mappings.cache_clear()
        return HfApi(endpoint=self._hub, token=self._token).model_info(
            self._model, expand=["inferenceProviderMapping", "pipeline_tag"]
        )

    def _find(self) -> Finding:
        """Look at the configuration through the hub. In a thread."""
        if not self._token.startswith(TOKEN_FORM):
            return Finding("invalid", *NO_TOKEN)
        account = HfApi(endpoint=self._hub, token=self._token).whoami()
        info = self._model_info()
        if info.pipeline_tag != TASK:
            return Finding(
                "invalid",
                f"{self._model} is for {info.pipeline_tag or 'an unknown task'}, not for {TASK}",
                "set SESAME_HF_MODEL to a voice, such as hexgrad/Kokoro-82M",
            )
        providers = _providers(info.inference_provider_mapping or [])
        if fault := self._provider_fault(providers):
            return fault
        asked = next(iter(providers), "") if self._provider == "auto" else self._provider
        detail = f"{self._model} at {asked}"
        rights = _rights(account)
        if rights is None:
            return Finding("narrow", f"{detail}; the hub does not tell what the token may do")
        if RIGHT not in rights:
            return Finding(
                "invalid",
                "the token may not call inference providers",
                'edit it at huggingface.co/settings/tokens: allow "Make calls to Inference'
                ' Providers"',
            )
        return Finding("ready", detail)

    def _provider_fault(self, providers: Mapping[str, str]) -> Finding | None:
        """Tell what is wrong with the provider.

        + providers: name → task, in the order of the account
        """
        if self._provider == "hf-inference":
            return None
        speaking = [name for name, task in providers.items() if task == TASK]
        if not speaking:
            return Finding(
                "invalid",
                f"no provider speaks with {self._model}",
                "set SESAME_HF_MODEL to another voice, or SESAME_HUGGINGFACE_URL to an endpoint",
            )
        asked = next(iter(providers)) if self._provider == "auto" else self._provider
        if asked in speaking:
            return None
        return Finding(
            "invalid",
            f"{asked} does not speak with {self._model}",
            f"set SESAME_HF_PROVIDER to one of: {', '.join(speaking)}",
        )

    async def _knock(self) -> None:
        """See that the router or the endpoint is there. Raises RungError.

        Only a post is spoken: what there is to be read, and whether anything, says nothing.
        """
        headers = self._key() if self._endpoint else {}
        refusing = (401, 403, 410, 429) if self._endpoint else ()
        try:
            async with self._client.stream("GET", self._base, headers=headers) as answer:
                if answer.status_code >= 500 or answer.status_code in refusing:
                    raise refusal(answer.status_code, answer.headers, self._server)
        except httpx.HTTPError as error:
            raise unreached(error, self._server) from error
        except EngineError as error:
            if self._endpoint or error.failure != "wrong_address":
                raise

    async def _ask(self, work: Callable[[Call], T], most: int = MAX_BODY_BYTES) -> T:
        """Do work with the client in a thread; leaving early ends the thread before it returns.

        + most: bytes of an answer
        """
        call = Call(partial(self._send, most))

        def run() -> T:
            CALL.set(call)
            try:
                return work(call)
            except UNREADABLE as error:
                raise self._unreadable(call, error) from error

        context = contextvars.copy_context()
        thread = asyncio.get_running_loop().run_in_executor(self._threads, context.run, run)
        try:
            return await asyncio.shield(thread)
        except RungError as error:
            if error.failure == "wrong_address":
                # The provider may be gone from where the hub said that it is.
                provider_mappings.cache_clear()
            raise
        except TimeoutError as error:
            # What their client says of a prediction that is not there after a minute.
            raise EngineError(
                "the provider has no answer yet", "the next rung speaks", failure="timeout"
            ) from error
        finally:
            call.close()
            await asyncio.wait([thread])
            if not thread.cancelled():
                # What nobody waits for any more is nobody's error.
                thread.exception()

    async def _send(self, most: int, request: httpx2.Request) -> Answer:
        """Carry out one exchange of the client's. Raises RungError unless it is a success."""
        if is_offline_mode():
            raise EngineError(
                "HF_HUB_OFFLINE is set: Hugging Face is not asked",
                "unset HF_HUB_OFFLINE",
                failure="wrong_address",
                outcome="offline",
            )
        url = self._address(str(request.url))
        trusted = _origin(url) in self._trusted
        if not trusted and (request.method != "GET" or url.scheme != self._scheme):
            raise EngineError(
                f"an answer names {url.host}, which is not asked",
                "choose another provider",
                failure="wrong_address",
            )
        headers = {name: request.headers[name] for name in SHOWN if name in request.headers}
        try:
            async with self._client.stream(
                request.method,
                url,
                headers=headers | (self._key() if trusted else {}),
                content=request.content or None,
            ) as answer:
                if not answer.is_success:
                    raise self._refusal(answer, trusted=trusted)
                body = bytearray()
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > most:
                        raise AudioError(f"{url.host} sends without end", "too_long")
                return Answer(
                    answer.status_code, answer.headers.get("content-type", ""), bytes(body)
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreached(error, replace(self._server, host=url.host)) from error

    def _refusal(self, answer: httpx.Response, *, trusted: bool) -> RungError:
        if trusted:
            server = replace(self._server, host=answer.url.host)
            return refusal(answer.status_code, answer.headers, server)
        # It says nothing of our key or settings: the next answer lies elsewhere.
        return EngineError(
            f"the audio cannot be fetched: HTTP {answer.status_code} from {answer.url.host}",
            "choose another provider if this lasts",
            failure="transient",
        )

    def _address(self, url: str) -> httpx.URL:
        for known, moved in self._moved.items():
            if url.startswith(f"{known}/"):
                return httpx.URL(moved + url.removeprefix(known))
        return httpx.URL(url)

    @property
    def _scheme(self) -> str:
        """What a provider's audio may be fetched by."""
        return httpx.URL(self._router).scheme

    def _key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _voice_of_first(personas: Personas) -> str | None:
    return next((one.huggingface.voice for one in personas.values() if one.huggingface), None)


def _providers(mappings: Iterable[InferenceProviderMapping]) -> dict[str, str]:
    """Give the task of each provider that is live, in the order of the account."""
    return {one.provider: one.task for one in mappings if one.status == "live"}


def _rights(account: Mapping[str, Any]) -> set[str] | None:
    """Give what a token may do; None where the hub does not tell.

    A token of the roles read and write may call inference providers; a fine-grained one says so.
    """
    token = account.get("auth", {}).get("accessToken", {})
    if token.get("role") in ("read", "write"):
        return {RIGHT}
    grained = token.get("fineGrained")
    if grained is None:
        return None
    scoped = [right for scope in grained.get("scoped", ()) for right in scope["permissions"]]
    return {*scoped, *grained.get("global", ())}
