"""One run: find the service, then let every chosen group of checks look at it."""

import functools
from collections.abc import Awaitable, Callable, Sequence

from checks import fallback, health, latency, refusals, speech
from checks.client import Client
from checks.health import Health, observe
from checks.report import CheckError, Report, Result, Verdict

Check = Callable[[Client, Health], Awaitable[list[Result]]]

CHECKS: dict[str, Check] = {
    "health": health.check,
    "speech": speech.check,
    "refusals": refusals.check,
    "fallback": fallback.check,
    # Last, when nothing else is being spoken any more.
    "latency": latency.check,
}


async def run(
    base: str,
    *,
    key: str = "",
    time_limit: float = 30.0,
    only: Sequence[str] = (),
    plan: latency.Plan | None = None,
    drill: fallback.Announce | None = None,
) -> Report:
    """Check the service at `base` and return the report.

    + base: an address from `address.normalise`
    + key: the server key, or empty
    + time_limit: seconds for one answer; the run takes at most four times as long
    + only: names of `CHECKS`; empty means all, in their order
    + plan: what to measure of the latency, and against what
    + drill: is told what a drill of the rungs will spend before it is made; None: there is none
    """
    chosen = [name for name in CHECKS if name in only or not only]
    checks = CHECKS | {
        "fallback": functools.partial(fallback.check, drill=drill),
        "latency": functools.partial(latency.check, plan=plan),
    }
    try:
        client = Client(base, key=key, time_limit=time_limit)
    except CheckError as error:
        return _unidentified(base, chosen, error)
    async with client:
        try:
            observed = await observe(client)
        except CheckError as error:
            return _unidentified(base, chosen, error)
        results: list[Result] = []
        for name in chosen:
            results += await checks[name](client, observed)
    return Report(base, tuple(results), observed.summary())


def _unidentified(base: str, chosen: Sequence[str], error: CheckError) -> Report:
    """Return the report of a run that found no service: nothing more is sent to a stranger."""
    skipped = [
        Result(name, Verdict.UNKNOWN, "not tried: see health.answers", error.next_step)
        for name in chosen
        if name != "health"
    ]
    return Report(base, (Result.of_error("health.answers", error), *skipped), None)
