"""The configuration report: every rung looked at, without a character spent.

It knows the settings and what an engine says of itself, and nothing of how an engine finds that
out or of how a person is shown it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel

from service.engines.chain import Chain
from service.engines.engine import Engine, Finding
from service.settings import ServiceSettings

__all__ = ["CLOUDS", "Inspection", "RungReport", "RungState", "RungsReport", "look_at", "states_of"]

CLOUDS = ("huggingface", "elevenlabs")
"""The rungs that stand in for the primary voice and to which text goes."""

LOOK_SECONDS = 10.0  # for one rung; they are looked at side by side
KEEP_SECONDS = 30.0  # for which a look counts: nobody is to hammer the clouds through us

RESTART = "docker restart sesame-csm-offline"

logger = logging.getLogger(__name__)

StateName = Literal["ready", "loading", "open", "latched", "off", "unknown"]


class QuotaReport(BaseModel):
    """What an account may still spend, in characters."""

    used: int | None
    limit: int | None
    left: int | None
    resets_at: datetime | None


class RungReport(BaseModel):
    """One rung.

    ready: it would speak; narrow: its key may speak, and not be asked about more; invalid: it can
    never speak as it is set; unreachable: nobody can tell now; off: it is not to speak.
    """

    name: str
    asked_for: bool
    """Whether the settings ask for it."""
    state: StateName
    """What the chain last observed: open and latched are its breaker's, unknown is nobody's."""
    reason: str | None
    """Why the chain does not ask it."""
    host: str | None
    """Where it sends text; null when text stays here."""
    finding: Literal["ready", "narrow", "invalid", "unreachable", "off"]
    detail: str
    next_step: str
    quota: QuotaReport | None

    @property
    def fit(self) -> bool:
        """Whether it would speak, or is not to; a fallback that was asked for has to."""
        if self.finding == "off":
            return not (self.asked_for and self.name in CLOUDS)
        return self.finding in ("ready", "narrow") and self.state != "latched"


class FallbackReport(BaseModel):
    """Whether text may leave this host when the primary voice fails."""

    enabled: bool
    asked: bool | None
    """`SESAME_FALLBACK_ENABLED`; null where it is not set and the credentials decide."""
    hosts: list[str]
    """Hosts that may receive text, the primary voice's own included."""


class RungsReport(BaseModel):
    """How the chain is set, rung by rung, in the order in which they are asked."""

    mode: Literal["offline", "online"]
    fallback: FallbackReport
    warnings: list[str]
    """Settings that cannot do what they seem to be for."""
    rungs: list[RungReport]
    ok: bool
    """Whether every rung that was asked for would speak."""
    age_seconds: float
    """For how long the findings are known."""


@dataclass(frozen=True)
class RungState:
    """Where a rung stands in the chain that speaks, and why."""

    name: StateName
    reason: str | None = None

    @classmethod
    def of(cls, chain: Chain, rung: Engine) -> Self:
        """Give what the chain observed: the rung's own state, or that of its breaker."""
        breaker = chain.breakers[rung.name]
        if rung.state.name != "ready" or breaker.state == "closed":
            return cls(rung.state.name, rung.state.reason)
        return cls("latched" if breaker.state == "latched" else "open", breaker.reason)


class Inspection:
    """The report of a chain, its looks kept for a while; the states in it are always the latest.

    + clock: seconds, monotonic
    """

    def __init__(
        self, chain: Chain, settings: ServiceSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chain = chain
        self._settings = settings
        self._clock = clock
        self._looking = asyncio.Lock()
        self._findings: dict[str, Finding] = {}
        self._looked_at: float | None = None

    async def report(self) -> RungsReport:
        """Give the report; who comes while it is being made waits for the same one."""
        async with self._looking:
            if self._looked_at is None or self._clock() - self._looked_at >= KEEP_SECONDS:
                self._findings = await look_at(self._chain.rungs)
                self._looked_at = self._clock()
        return describe(
            self._settings,
            self._chain.rungs,
            self._findings,
            states_of(self._chain),
            age_seconds=self._clock() - self._looked_at,
        )


def states_of(chain: Chain) -> dict[str, RungState]:
    """Give where each rung of a chain stands."""
    return {rung.name: RungState.of(chain, rung) for rung in chain.rungs}


async def look_at(rungs: Iterable[Engine]) -> dict[str, Finding]:
    """Look at all rungs side by side, each within its time."""
    named = {rung.name: rung for rung in rungs}
    findings = await asyncio.gather(*map(_look, named.values()))
    return dict(zip(named, findings, strict=True))


async def _look(rung: Engine) -> Finding:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await rung.look()
    except TimeoutError:
        where = rung.host or "this host"
        return Finding(
            "unreachable",
            f"{where} gave no answer within {LOOK_SECONDS:g} s",
            f"see whether this host reaches {where}, and look again",
        )
    except Exception as error:
        # A defect in one engine must not hide what there is to say of the others.
        logger.exception("rung %s has a defect", rung.name)
        return Finding(
            "unreachable",
            f"the look at it has a defect ({type(error).__name__})",
            "docker logs sesame-csm-offline shows where",
        )


def describe(
    settings: ServiceSettings,
    rungs: Iterable[Engine],
    findings: Mapping[str, Finding],
    states: Mapping[str, RungState],
    *,
    age_seconds: float = 0.0,
) -> RungsReport:
    """Put together what the settings ask for, what was found and what was observed.

    + findings: by the name of the rung, one for each of `rungs`
    + states: by the name of the rung; what is missing there is unknown
    """
    built = {rung.name: rung for rung in rungs}
    reports = [
        _asked_for(rung, findings[rung.name], states.get(rung.name, RungState("unknown")))
        for rung in built.values()
    ]
    reports += [_not_asked_for(name, why) for name, why in _reasons(settings) if name not in built]
    reports.sort(key=lambda rung: ORDER.index(rung.name) if rung.name in ORDER else len(ORDER))
    return RungsReport(
        mode=settings.mode,
        fallback=FallbackReport(
            enabled=settings.fallback_on,
            asked=settings.fallback_enabled,
            hosts=sorted({rung.host for rung in built.values() if rung.host is not None}),
        ),
        warnings=list(settings.warnings),
        rungs=reports,
        ok=all(rung.fit for rung in reports),
        age_seconds=round(age_seconds, 1),
    )


ORDER = ("csm", "remote", *CLOUDS, "basic")


def _asked_for(rung: Engine, found: Finding, state: RungState) -> RungReport:
    detail, next_step = found.detail, found.next_step
    if state.name == "latched" and found.name in ("ready", "narrow"):
        # What shut it out is mended where the account is; the chain cannot know that.
        detail = f"{detail}; the chain has shut it out: {state.reason}"
        next_step = f"have it let in again: {RESTART}"
    quota = found.quota
    return RungReport(
        name=rung.name,
        asked_for=True,
        state=state.name,
        reason=state.reason,
        host=rung.host,
        finding=found.name,
        detail=detail,
        next_step=next_step,
        quota=None
        if quota is None
        else QuotaReport(
            used=quota.used, limit=quota.limit, left=quota.left, resets_at=quota.resets_at
        ),
    )


def _not_asked_for(name: str, why: str) -> RungReport:
    return RungReport(
        name=name,
        asked_for=False,
        state="off",
        reason=None,
        host=None,
        finding="off",
        detail=why,
        next_step="",
        quota=None,
    )


def _reasons(settings: ServiceSettings) -> Iterator[tuple[str, str]]:
    """Say of each rung why it is not asked for, if it is not."""
    if not settings.enabled:
        yield from ((name, "SESAME_ENABLED=false") for name in ORDER)
        return
    online = settings.mode == "online"
    yield "csm", "SESAME_MODE=online" if online else "SESAME_MODEL is empty: no model runs here"
    yield "remote", "SESAME_MODE=offline: the primary voice runs here"
    closed = settings.fallback_enabled is False
    yield "huggingface", "SESAME_FALLBACK_ENABLED=false" if closed else "there is no HF_TOKEN"
    yield (
        "elevenlabs",
        ("SESAME_FALLBACK_ENABLED=false" if closed else "there is no ELEVENLABS_API_KEY"),
    )
    yield "basic", "SESAME_BASIC_VOICE=false"
