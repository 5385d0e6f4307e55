"""How a rung can fail, and what the chain does about each way: the one table, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.errors import RungError

__all__ = ["FAILURES", "Failure", "failure_of", "in_words"]

Again = Literal["never", "once", "when_told"]
Mark = Literal["untouched", "counted", "held", "latched"]


@dataclass(frozen=True)
class Failure:
    """One class of failure. The next rung is asked after each of them.

    + meaning: what happened
    + again: whether the same rung is asked once more: at once, or after the time that it named if
      that still fits
    + breaker: untouched; counted, so that several open it; held open for the time that the rung
      named; latched open until the settings change or that time has come
    + hold: seconds for which it is held where the rung named no time
    + weight: how much it counts; three make a breaker open
    + next_step: what to do about it, where the error itself does not say
    """

    meaning: str
    again: Again = "never"
    breaker: Mark = "counted"
    hold: float = 0.0
    weight: int = 1
    next_step: str = ""


FAILURES: Mapping[str, Failure] = {
    "failed": Failure("the engine on this host could not speak"),
    "transient": Failure("connection refused, reset or closed; 500, 502, 504", again="once"),
    # One of them has cost a listener a share of the deadline; nobody pays it twice.
    "timeout": Failure(
        "no first audio within its share of the deadline",
        weight=3,
        next_step="look at its load, or raise SESAME_DEADLINE_SECONDS",
    ),
    "stalled": Failure(
        "no audio for the stall limit, after some",
        weight=3,
        next_step="look at its load, or raise SESAME_STALL_SECONDS",
    ),
    "bad_audio": Failure(
        "empty, cut short, silent, not finite, or no audio at all",
        next_step="python -m service.rungs --drill shows whether it speaks now",
    ),
    "busy": Failure("429, or 503 with a time", again="when_told", breaker="held", hold=1),
    "loop": Failure("the request came back to where it began", breaker="held", hold=60),
    "queue_full": Failure("all that this host asks of it at once is taken", breaker="untouched"),
    "unspeakable": Failure("it cannot say this text, or a field is refused", breaker="untouched"),
    "no_voice": Failure("it has no voice for this persona", breaker="untouched"),
    "credentials": Failure("the key is refused, or lacks a right", breaker="latched"),
    "quota": Failure("the characters or credits are used up", breaker="latched"),
    "payment": Failure("a payment is due", breaker="latched"),
    "wrong_address": Failure("nothing that speaks is at this address", breaker="latched"),
}


def failure_of(error: RungError) -> Failure:
    """Give the class of an error."""
    return FAILURES[error.failure]


def in_words(error: RungError) -> str:
    """Say what happened and what to do."""
    next_step = error.hint or failure_of(error).next_step
    return f"{error}; {next_step}" if next_step else str(error)
