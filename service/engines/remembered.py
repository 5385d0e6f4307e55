"""What was said lately: a short text that is asked for again is not spoken again.

It keeps sound, never a text: the key is a digest that only this process can make.
"""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np

from service.audio import SAMPLE_RATE, Samples
from service.engines.chain import Chain, Speech
from service.engines.engine import SpeechRequest
from service.metrics import Metrics
from service.text import prose

__all__ = ["LONGEST_REMEMBERED", "REMEMBERED_SECONDS", "Remembered"]

LONGEST_REMEMBERED = 200
"""Characters of a text that is remembered at most: a greeting, an answer, an announcement."""

REMEMBERED_SECONDS = 600.0
"""For how long; as long as audio is kept behind its address."""

BLOCK = SAMPLE_RATE  # samples: what is handed over before others have their turn


@dataclass(frozen=True)
class _Utterance:
    """A text that was spoken to its end.

    + spoken: when
    + samples: at 24 kHz, before tempo, rate and container
    """

    speech: Speech
    spoken: float
    samples: Samples

    @property
    def is_old(self) -> bool:
        return monotonic() - self.spoken > REMEMBERED_SECONDS


class Remembered:
    """A chain that says again what it said lately, while the engine that said it is ready.

    Two requests are one if nothing that changes the sound differs. Tempo, rate and container are
    applied afterwards, so one utterance serves every form. With turns before it nothing is
    remembered, nor what broke off or was left by its listener.

    + most_bytes: of all samples together; what was not asked for longest makes room. 0: none
    + metrics: where hits are counted
    """

    def __init__(self, chain: Chain, most_bytes: int, metrics: Metrics) -> None:
        self._chain = chain
        self._most_bytes = most_bytes
        self._metrics = metrics
        self._secret = secrets.token_bytes(32)
        self._utterances: OrderedDict[bytes, _Utterance] = OrderedDict()
        self._bytes = 0

    @asynccontextmanager
    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Speech]:
        """Speak as the chain does, or again what was said; raises what the chain raises."""
        if not self._is_short(request):
            async with self._chain.speak(request) as speech:
                yield speech
            return
        key = self._key(request)
        asked = monotonic()
        said = self._find(key) if request.memory == "use" else None
        self._metrics.looked_up("hit" if said else "miss" if request.memory == "use" else "bypass")
        if said is not None:
            blocks = _again(said.samples)
            async with aclosing(blocks):
                yield replace(
                    said.speech,
                    attempts=f"{said.speech.engine}=cached",
                    queue_seconds=0.0,
                    first_audio_seconds=monotonic() - asked,
                    blocks=blocks,
                    age_seconds=asked - said.spoken,
                )
            return
        async with self._chain.speak(request) as speech:
            if request.memory == "none":
                yield speech
                return
            blocks = self._noting(key, speech)
            async with aclosing(blocks):
                yield replace(speech, blocks=blocks)

    def _is_short(self, request: SpeechRequest) -> bool:
        return (
            self._most_bytes > 0
            and not request.context
            and len(prose(request.segments)) <= LONGEST_REMEMBERED
        )

    def _key(self, request: SpeechRequest) -> bytes:
        """Digest all that changes the sound."""
        told = (
            request.segments,
            request.persona.name,
            request.temperature,
            request.top_k,
            request.seed,
            request.longest_seconds,
        )
        return hashlib.blake2b(repr(told).encode(), key=self._secret, digest_size=32).digest()

    def _find(self, key: bytes) -> _Utterance | None:
        said = self._utterances.get(key)
        if said is None:
            return None
        if said.is_old:
            self._forget(key)
            return None
        speaker = self._chain.speaker
        if speaker is None or speaker.name != said.speech.engine:
            return None
        self._utterances.move_to_end(key)
        return said

    async def _noting(self, key: bytes, speech: Speech) -> AsyncGenerator[Samples]:
        """Yield the blocks of a speech, and remember them once it has come to its end."""
        heard: list[Samples] = []
        async with aclosing(speech.blocks) as blocks:
            async for block in blocks:
                heard.append(block)
                yield block
        samples = np.concatenate(heard)
        samples.flags.writeable = False
        self._remember(key, _Utterance(speech, monotonic(), samples))

    def _remember(self, key: bytes, said: _Utterance) -> None:
        for other in [key, *(key for key, old in self._utterances.items() if old.is_old)]:
            self._forget(other)
        if said.samples.nbytes > self._most_bytes:
            return
        self._utterances[key] = said
        self._bytes += said.samples.nbytes
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._utterances)))

    def _forget(self, key: bytes) -> None:
        said = self._utterances.pop(key, None)
        if said is not None:
            self._bytes -= said.samples.nbytes


async def _again(samples: Samples) -> AsyncGenerator[Samples]:
    for start in range(0, samples.size, BLOCK):
        yield samples[start : start + BLOCK]
        # Encoding a block takes long enough for others to want their turn.
        await asyncio.sleep(0)
