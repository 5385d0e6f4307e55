"""A circuit breaker: whether a rung is worth asking, from how it did lately. It knows no rung."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from service.engines.failures import Failure

__all__ = ["Breaker", "BreakerState"]

BreakerState = Literal["closed", "open", "half_open", "latched"]

WINDOW = 60.0  # seconds; what happened before is forgotten
OPENS_AT = 3  # weight of failures
SLOW = 1.0  # seconds; a failure that took longer counts as a time-out does
FIRST_PAUSE = 2.0  # seconds until the first probe
LONGEST_PAUSE = 15.0
JITTER = 0.1  # of a pause, so that several hosts do not knock at once


class Breaker:
    """Closed: calls go through. Open: none does. Half-open: one probe is under way.

    It opens when failures of the last minute weigh `OPENS_AT` and no fewer than the successes. It
    is probed after a pause that doubles with each failure in a row. A probe that succeeds closes
    it on trial: one call at a time, and the first failure opens it again.

    + clock: seconds, monotonic
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, int]] = deque()  # when, and the weight of a failure or 0
        self._state: BreakerState = "closed"
        self._failures = 0  # times it opened since something last was spoken
        self._until: float | None = None
        self._needs_probe = False
        self._on_trial = False
        self._in_flight = 0
        self.reason: str | None = None
        """Why it is not closed, or what was last wrong."""

    @property
    def state(self) -> BreakerState:
        """Where it stands now."""
        self._release()
        return self._state

    @property
    def probe_in(self) -> float | None:
        """Seconds until a probe is due; None where none is."""
        if not self._needs_probe or self._until is None:
            return None
        return max(0.0, self._until - self._clock())

    @property
    def opens_in(self) -> float | None:
        """Seconds until it may be asked again, if that is known and it may not now."""
        if self.state == "closed" or self._until is None:
            return None
        return max(0.0, self._until - self._clock())

    @property
    def admits(self) -> bool:
        """Whether a call may go through now."""
        return self.state == "closed" and not (self._on_trial and self._in_flight)

    def take(self) -> bool:
        """Let a call through, if one may. `spoke`, `failed` or `left` must follow."""
        if not self.admits:
            return False
        self._in_flight += 1
        return True

    def left(self) -> None:
        """A call ended before anything could be learned from it."""
        self._in_flight -= 1

    def spoke(self) -> None:
        """A call was answered well."""
        self._in_flight -= 1
        self._remember(0)
        self._on_trial = False
        self._failures = 0
        if self._state == "closed":
            self.reason = None

    def failed(
        self, failure: Failure, reason: str, *, seconds: float, retry_after: float | None = None
    ) -> None:
        """A call failed.

        + reason: for people
        + seconds: what it took
        + retry_after: seconds that the rung named
        """
        self._in_flight -= 1
        slow = seconds > SLOW
        self._count(failure, reason, OPENS_AT if slow else failure.weight, retry_after)

    def broke_off(self, failure: Failure, reason: str) -> None:
        """A call that `spoke` failed after all."""
        self._count(failure, reason, failure.weight, None)

    def _count(self, failure: Failure, reason: str, weight: int, retry_after: float | None) -> None:
        match failure.breaker:
            case "untouched":
                return
            case "held":
                hold = failure.hold if retry_after is None else retry_after
                self._shut("open", reason, hold, probe=False)
            case "latched":
                self._shut("latched", reason, retry_after, probe=retry_after is not None)
            case "counted":
                self._remember(weight)
                self.reason = reason
                # Calls that were under way when it opened change nothing more.
                if self._state == "closed" and (self._on_trial or self._worn()):
                    self._open(reason)

    def begin_probe(self) -> None:
        """Say that the one probe is under way."""
        self._state = "half_open"
        self._needs_probe = False

    def probed(self, failure: Failure | None, reason: str = "", wait: float | None = None) -> None:
        """Say how the probe went.

        + failure: None when it went well
        + wait: seconds that the rung named
        """
        if failure is None:
            self._state = "closed"
            self._on_trial = True
            self._until = None
            self._calls.clear()
        elif failure.breaker == "latched":
            self._shut("latched", reason, wait, probe=wait is not None)
        else:
            self._open(reason, wait)

    def _open(self, reason: str, at_least: float | None = None) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        # Not for secrets: it only spreads the probes of several hosts.
        pause *= 1 + random.uniform(-JITTER, JITTER)  # noqa: S311
        self._failures += 1
        self._shut("open", reason, max(pause, at_least or 0.0), probe=True)

    def _shut(
        self, state: BreakerState, reason: str, seconds: float | None, *, probe: bool
    ) -> None:
        if self._state == "latched" and state != "latched":
            return
        self._state = state
        self.reason = reason
        self._until = None if seconds is None else self._clock() + seconds
        self._needs_probe = probe
        self._on_trial = False

    def _release(self) -> None:
        """Close again what was only held."""
        held = self._state == "open" and not self._needs_probe
        if held and self._until is not None and self._clock() >= self._until:
            self._state = "closed"
            self._until = None

    def _remember(self, weight: int) -> None:
        now = self._clock()
        self._calls.append((now, weight))
        while self._calls and self._calls[0][0] < now - WINDOW:
            self._calls.popleft()

    def _worn(self) -> bool:
        failures = sum(weight for _, weight in self._calls)
        successes = sum(not weight for _, weight in self._calls)
        return failures >= OPENS_AT and failures >= successes
