"""How a rung that is down comes home: probed by nobody's words until it works again."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from service.engines.breaker import Breaker
from service.engines.engine import Engine
from service.engines.failures import FAILURES, failure_of, in_words
from service.errors import RungError

__all__ = ["Recovery"]

PROBE_SECONDS = 10.0
WATCH_PAUSE = 30.0  # seconds between two looks at a primary voice on another host

logger = logging.getLogger(__name__)


class Recovery:
    """Probes the rungs whose breakers wait for it, one probe at a time for each."""

    def __init__(self, rungs: Sequence[Engine], breakers: Mapping[str, Breaker]) -> None:
        self._rungs = rungs
        self._breakers = breakers
        self._nurses: dict[str, asyncio.Task[None]] = {}
        self._watchers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Look at the rungs on other hosts, so that health is true from the start on."""
        for rung in self._rungs:
            if rung.host is not None:
                self._watchers.append(asyncio.create_task(self._watch(rung)))

    async def stop(self) -> None:
        """Stop every probe."""
        tasks = [*self._watchers, *self._nurses.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nurse(self, rung: Engine) -> None:
        """See to it that a rung is probed until it is well, if its breaker waits for that."""
        nurse = self._nurses.get(rung.name)
        if self._breakers[rung.name].probe_in is not None and (nurse is None or nurse.done()):
            self._nurses[rung.name] = asyncio.create_task(self._probe_until_well(rung))

    async def _watch(self, rung: Engine) -> None:
        """Look at a primary voice again and again; at a cloud once, until somebody needs it."""
        breaker = self._breakers[rung.name]
        while True:
            if breaker.state == "closed" and not await self._is_well(rung):
                self.nurse(rung)
            if rung is not self._rungs[0]:
                return
            await asyncio.sleep(WATCH_PAUSE)

    async def _probe_until_well(self, rung: Engine) -> None:
        breaker = self._breakers[rung.name]
        while (seconds := breaker.probe_in) is not None:
            await asyncio.sleep(seconds)
            breaker.begin_probe()
            if await self._is_well(rung):
                breaker.probed(None)

    async def _is_well(self, rung: Engine) -> bool:
        """Probe a rung; when that fails, its breaker is told."""
        wait = None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await rung.probe()
        except TimeoutError:
            failure, why = FAILURES["timeout"], f"no probe within {PROBE_SECONDS:g} s"
        except RungError as error:
            failure, why, wait = failure_of(error), in_words(error), error.retry_after
        except Exception:
            logger.exception("rung %s has a defect", rung.name)
            failure, why = FAILURES["failed"], f"{rung.name} has a defect"
        else:
            logger.info("rung %s: a probe found that it works", rung.name)
            return True
        breaker = self._breakers[rung.name]
        breaker.probed(failure, why, wait)
        logger.warning(
            "rung %s: a probe failed: %s; its breaker is %s", rung.name, why, breaker.state
        )
        return False
