"""The thread that owns a scheduler: utterances and tasks in, events out, from and to any thread.

It knows no requests and no event loop, and never decides what to do about a failure.
"""

import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from service.csm.generate import GenerationError
from service.csm.prompt import PromptError
from service.csm.scheduler import Ended, Event, Failed, Scheduler, Utterance

__all__ = ["Worker", "WorkerDownError"]

T = TypeVar("T")
Listener = Callable[[Event], None]

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)

logger = logging.getLogger(__name__)


class WorkerDownError(GenerationError):
    """The thread has ended, and with it everything that was being spoken."""


@dataclass(frozen=True, slots=True)
class _Order:
    number: int
    utterance: Utterance
    listener: Listener


@dataclass(frozen=True, slots=True)
class _Cancel:
    number: int


@dataclass(frozen=True, slots=True)
class _Task(Generic[T]):
    task: Callable[[], T]
    future: Future[T]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.task())
        except BaseException as error:  # noqa: BLE001 (whoever waits for the result gets it)
            self.future.set_exception(error)


class _Stop:
    """The last message."""


_Message = _Order | _Cancel | _Task[Any] | type[_Stop]


class Worker:
    """Runs a scheduler until stopped, and tasks that need the model between two frames.

    Listeners are called on its thread, must not block and must not raise.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._inbox: queue.SimpleQueue[_Order | _Cancel | _Task[Any] | type[_Stop]] = (
            queue.SimpleQueue()
        )
        self._waiting: deque[_Order] = deque()
        self._speaking: dict[int, _Order] = {}  # by ticket
        self._numbers = itertools.count()
        self._moved = time.monotonic()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="csm", daemon=True)
        self.error: BaseException | None = None
        """What ended the thread, if it was not `stop`."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, patience: float = 10.0) -> None:
        """End the thread after the frame in hand; who still waits is told.

        + patience: seconds to wait for it; a thread that hangs is left behind.
        """
        self._inbox.put(_Stop)
        self._thread.join(patience)

    def submit(self, utterance: Utterance, listener: Listener) -> int:
        """Have an utterance spoken as soon as a slot is free; return the number to cancel it by.

        The listener gets its blocks, and at last either `Ended` or `Failed`; their tickets are the
        scheduler's.
        """
        order = _Order(next(self._numbers), utterance, listener)
        self._inbox.put(order)
        if not self._thread.is_alive():
            listener(Failed(-1, WorkerDownError(f"the model's thread has ended: {self.error!r}")))
        return order.number

    def cancel(self, number: int) -> None:
        """Stop speaking within one frame; the listener hears nothing more."""
        self._inbox.put(_Cancel(number))

    def run(self, task: Callable[[], T]) -> Future[T]:
        """Run a task on the model's thread, between two frames."""
        future: Future[T] = Future()
        self._inbox.put(_Task(task, future))
        if not self._thread.is_alive():
            future.cancel()
        return future

    @property
    def busy(self) -> int:
        """How many utterances are being spoken."""
        return self.scheduler.busy

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    @property
    def still_seconds(self) -> float:
        """For how long no frame has come although one was due; 0 while there is nothing to do."""
        due = self.scheduler.busy or self._waiting or not self._inbox.empty()
        return time.monotonic() - self._moved if due else 0.0

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._listen()
                self._admit()
                self._step()
        except BaseException as error:
            self.error = error
            logger.exception("the model's thread ends")
        finally:
            self._dismiss()

    def _listen(self) -> None:
        """Take what has come in; wait for it when there is nothing to speak."""
        wait = not self._speaking and not self._waiting
        while True:
            try:
                message = self._inbox.get(block=wait)
            except queue.Empty:
                return
            if wait:
                self._moved = time.monotonic()
                wait = False
            match message:
                case _Order():
                    self._waiting.append(message)
                case _Cancel():
                    self._forget(message.number)
                case _Task():
                    message.run()
                    self._moved = time.monotonic()
                case _:
                    self._stopping = True
                    return

    def _admit(self) -> None:
        """Let one waiting utterance in: the prompts of several would hold up all who speak."""
        if not self._waiting or not self.scheduler.free:
            return
        order = self._waiting.popleft()
        try:
            self._speaking[self.scheduler.admit(order.utterance)] = order
        except (GenerationError, PromptError, *OUT_OF_MEMORY) as error:
            order.listener(Failed(-1, _as_generation_error(error)))

    def _step(self) -> None:
        try:
            events = self.scheduler.step()
        except OUT_OF_MEMORY as error:
            # The frame was not taken and can be asked for again, with one utterance less.
            self._fail_latest(error)
            return
        self._moved = time.monotonic()
        for event in events:
            order = self._speaking[event.ticket]
            if isinstance(event, Ended | Failed):
                del self._speaking[event.ticket]
            order.listener(event)

    def _fail_latest(self, error: BaseException) -> None:
        ticket = max(self._speaking)
        order = self._speaking.pop(ticket)
        self.scheduler.cancel(ticket)
        order.listener(Failed(ticket, _as_generation_error(error)))

    def _forget(self, number: int) -> None:
        self._waiting = deque(order for order in self._waiting if order.number != number)
        for ticket, order in list(self._speaking.items()):
            if order.number == number:
                del self._speaking[ticket]
                self.scheduler.cancel(ticket)
                logger.info("a listener left; slots busy: %d", self.scheduler.busy)

    def _dismiss(self) -> None:
        """Tell everybody who still waits that nothing more will come."""
        why = f"the model's thread has ended: {self.error!r}" if self.error else "it was stopped"
        with suppress(queue.Empty):
            while True:
                message = self._inbox.get(block=False)
                if isinstance(message, _Order):
                    self._waiting.append(message)
                elif isinstance(message, _Task):
                    message.future.cancel()
        for order in (*self._speaking.values(), *self._waiting):
            order.listener(Failed(-1, WorkerDownError(why)))
        self._speaking.clear()
        self._waiting.clear()


def _as_generation_error(error: BaseException) -> GenerationError:
    if isinstance(error, GenerationError):
        return error
    if isinstance(error, OUT_OF_MEMORY):
        return GenerationError("there is not enough memory for one more; use fewer slots")
    return GenerationError(str(error))
