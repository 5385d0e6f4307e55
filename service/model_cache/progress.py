"""How far it is, for a person: a bar on a terminal, lines in a log. All of it on standard error.

It knows paths and numbers of bytes, and nothing of where they come from.
"""

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["Bar", "Form", "Lines", "Teller", "teller"]

Form = Literal["auto", "bar", "lines"]
KIB, MIB = 2**10, 2**20
EVERY_SECONDS = 5.0  # between two lines of one file, at the least


class Teller(Protocol):
    """Is told what happens, and tells it on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin(self, label: str, at: int, total: int) -> None:
        """Say that a file is begun with `at` of `total` bytes there."""

    def advance(self, count: int) -> None:
        """Say that `count` more bytes are there; a negative number takes them back."""

    def finish(self, outcome: str) -> None:
        """Say that the file is done, and how."""

    def note(self, text: str) -> None:
        """Say anything else."""


class Lines:
    """Lines for a log: one for each finished file, and at most one every five seconds.

    + clock: seconds, monotonic
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._label = ""
        self._at = self._total = self._begun_with = 0
        self._begun = self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def begin(self, label: str, at: int, total: int) -> None:
        """Note where a file begins."""
        self._label, self._at, self._total, self._begun_with = label, at, total, at
        self._begun = self._told = self._clock()

    def advance(self, count: int) -> None:
        """Write a line if it is time for one."""
        self._at += count
        now = self._clock()
        if now - self._told >= EVERY_SECONDS:
            self._told = now
            self.note(f"{self._label}: {self._far(now)}")

    def finish(self, outcome: str) -> None:
        """Write the line of a finished file."""
        self.note(f"{self._label}: {amount(self._total)}, {outcome}")

    def note(self, text: str) -> None:
        """Write a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _far(self, now: float) -> str:
        done = f"{self._at / MIB:,.0f} of {amount(self._total)}"
        rate = (self._at - self._begun_with) / (now - self._begun)
        if rate <= 0:
            return done
        left = (self._total - self._at) / rate
        return f"{done}, {amount(rate)}/s, {left:,.0f} s left"


class Bar:
    """A bar for each file. Drawn wherever it is asked for: a container's terminal is outside it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(
                file=stream or sys.stderr, force_terminal=True, highlight=False, markup=False
            ),
        )
        self._task = TaskID(0)
        self._label = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, label: str, at: int, total: int) -> None:
        """Draw a bar."""
        self._label = label
        self._task = self._progress.add_task(label, total=total, completed=at)

    def advance(self, count: int) -> None:
        """Lengthen it."""
        self._progress.advance(self._task, count)

    def finish(self, outcome: str) -> None:
        """Say beside it how it ended."""
        self._progress.update(self._task, description=f"{self._label}: {outcome}")

    def note(self, text: str) -> None:
        """Write a line above the bars."""
        self._progress.console.print(text, soft_wrap=True)


def teller(form: Form) -> Teller:
    """Give a bar or lines; `auto`: a bar where standard error is a terminal."""
    if form == "bar" or (form == "auto" and sys.stderr.isatty()):
        return Bar()
    return Lines()


def amount(count: float) -> str:
    """Write a number of bytes: whole MiB, or whole KiB, rounded up, where that is less than ten."""
    if count < 10 * MIB:
        return f"{math.ceil(count / KIB):,} KiB"
    return f"{count / MIB:,.0f} MiB"
