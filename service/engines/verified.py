"""What a rung hands over, verified before anybody hears it. It knows no chain and no breaker."""

import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import numpy as np

from service.audio import SAMPLE_RATE, Samples, check_block, is_silent
from service.engines.engine import Engine, SpeechRequest
from service.errors import AudioError, EngineError, RequestError, RungError
from service.text import LONGEST_PAUSE, Pause, Words

__all__ = ["first_heard", "verified"]

# Samples; a text may begin with a pause, and a voice with a breath. Who is silent then is mute.
LONGEST_LEAD_IN = int((LONGEST_PAUSE + 2) * SAMPLE_RATE)

SHORTEST_CHARACTER = 0.02  # seconds; English is spoken at a third of that speed
LONGEST_CHARACTER = 1.5  # seconds; a letter that a voice describes ("Chinese letter") takes 1.4
LONGEST_ANYWAY = 10.0  # seconds, of however short a text
LONGEST_OF_ALL = 2_400.0  # seconds; a stranger's server must not fill our memory

logger = logging.getLogger(__name__)


async def verified(rung: Engine, request: SpeechRequest) -> AsyncGenerator[Samples]:
    """Yield a rung's blocks, each finite and plausible, and at the end long enough for the text.

    They end where the request says at the latest. Raises nothing but RungError, and RequestError
    where the request itself is at fault.
    """
    longest = request.longest_seconds
    left = None if longest is None else round(longest * SAMPLE_RATE)
    most = _longest(request)
    size = 0
    try:
        async with aclosing(rung.speak(request)) as blocks:
            async for block in blocks:
                check_block(block)
                size += block.size
                _check_length(size, most)
                yield block[:left]
                if left is not None:
                    left -= block.size
                    if left <= 0:
                        return
    except (RungError, RequestError):
        raise
    except Exception as error:
        # A defect in one engine must not silence the next.
        logger.exception("rung %s has a defect", rung.name)
        raise EngineError(f"{rung.name} has a defect") from error
    seconds = size / SAMPLE_RATE
    if size and seconds < _shortest(request):
        raise AudioError(f"{seconds:.2f} s of audio are too short for the text", "too_short")


async def first_heard(
    blocks: AsyncGenerator[Samples], lives: Callable[[], None], longest: float | None
) -> Samples:
    """Join blocks until something is heard in them, and give the joined block.

    + lives: is called for each block without samples: work goes on
    + longest: seconds after which the caller wants no more; what is silent until there may be so

    Raises AudioError when nothing can be heard.
    """
    wanted = math.inf if longest is None else round(longest * SAMPLE_RATE)
    lead_in = np.zeros(0, dtype=np.float32)
    async for block in blocks:
        if not block.size:
            lives()
        lead_in = np.concatenate([lead_in, block])
        if not is_silent(lead_in) or lead_in.size >= wanted:
            return lead_in
        if lead_in.size > LONGEST_LEAD_IN:
            break
    raise AudioError("nothing can be heard", "silent")


def _check_length(size: int, most: float) -> None:
    if size > most * SAMPLE_RATE:
        raise AudioError(f"over {most:.0f} s of audio for the text", "too_long")


def _shortest(request: SpeechRequest) -> float:
    """Give the seconds in which nobody could say the text."""
    spoken = sum(character.isalnum() for text in _words(request) for character in text)
    return SHORTEST_CHARACTER * spoken


def _longest(request: SpeechRequest) -> float:
    """Give the seconds in which anybody could say the text."""
    silent = sum(part.seconds for part in request.segments if isinstance(part, Pause))
    spoken = LONGEST_CHARACTER * sum(map(len, _words(request)))
    return min(LONGEST_ANYWAY + spoken + silent, LONGEST_OF_ALL)


def _words(request: SpeechRequest) -> list[str]:
    return [part.text for part in request.segments if isinstance(part, Words)]
