"""The model's thread: what comes in from others, and what they are told."""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.csm import (
    CSM,
    Ended,
    Event,
    Failed,
    GenerationError,
    Loaded,
    PromptTooLongError,
    Sampling,
    Scheduler,
    TextTokenizer,
    Turn,
    Utterance,
    Worker,
    WorkerDownError,
    load,
    prompt_rows,
)

PATIENCE = 20  # seconds; only ever waited out when something is wrong
SLOTS = 2


class Gate:
    """A step that waits until the test lets a frame pass, or breaks as the test says."""

    def __init__(self, model: CSM) -> None:
        self.state = model.state(SLOTS, positions=64)
        self.waits = threading.Semaphore(0)
        self.error: BaseException | None = None
        self._model = model
        self._passes = threading.Semaphore(0)

    def let(self, frames: int = 1, error: BaseException | None = None) -> None:
        self.error = error
        self._passes.release(frames)

    def __call__(self, batch: int, reach: int, candidates: int) -> Tensor:
        self.waits.release()
        assert self._passes.acquire(timeout=PATIENCE)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self._model.step(self.state, batch, reach, candidates)


class Listener(queue.SimpleQueue[Event]):
    """Hears one utterance."""

    def end(self) -> Ended | Failed:
        while True:
            event = self.get(timeout=PATIENCE)
            if isinstance(event, Ended | Failed):
                return event


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> Loaded:
    return load(tiny_folder)


@pytest.fixture
def gate(loaded: Loaded) -> Gate:
    return Gate(loaded.model)


@pytest.fixture
def worker(loaded: Loaded, gate: Gate) -> Iterator[Worker]:
    worker = Worker(Scheduler(loaded.model, loaded.codec, gate.state, SLOTS, gate))
    worker.start()
    yield worker
    gate.let(999)
    worker.stop()


@pytest.fixture(scope="module")
def utterance(tiny_folder: Path) -> Utterance:
    tokenizer = TextTokenizer(tiny_folder / "tokenizer.json")
    rows = prompt_rows(tokenizer, [Turn(0, "Hello.")], codebooks=32)
    return Utterance(rows, Sampling(), frames=3)


def test_an_utterance_is_spoken_to_its_listener(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    listener = Listener()
    worker.submit(utterance, listener.put)
    gate.let(3)
    ended = listener.end()
    assert isinstance(ended, Ended)
    assert ended.frames == 3


def test_more_than_there_are_slots_wait_their_turn(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    listeners = [Listener() for _ in range(50)]
    for listener in listeners:
        worker.submit(utterance, listener.put)
    gate.let(999)
    assert all(isinstance(listener.end(), Ended) for listener in listeners)
    assert (worker.busy, worker.waiting) == (0, 0)


def test_a_cancelled_utterance_is_gone_after_the_frame_in_hand(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    long = Utterance(utterance.rows, utterance.sampling, frames=40)
    number = worker.submit(long, Listener().put)
    gate.waits.acquire(timeout=PATIENCE)
    worker.cancel(number)
    freed = worker.run(lambda: worker.busy)
    gate.let(1)
    assert freed.result(PATIENCE) == 0


def test_one_that_still_waits_can_be_cancelled(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    listeners = [Listener() for _ in range(SLOTS + 1)]
    numbers = [worker.submit(utterance, listener.put) for listener in listeners]
    worker.cancel(numbers[-1])
    gate.let(999)
    assert all(isinstance(listener.end(), Ended) for listener in listeners[:-1])
    assert worker.run(lambda: worker.waiting).result(PATIENCE) == 0
    assert listeners[-1].empty()


def test_a_prompt_that_does_not_fit_fails_one_utterance_alone(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    refused, good = Listener(), Listener()
    worker.submit(Utterance(utterance.rows, utterance.sampling, frames=999), refused.put)
    worker.submit(utterance, good.put)
    gate.let(3)
    failed = refused.end()
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, PromptTooLongError)
    assert isinstance(good.end(), Ended)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), MemoryError()])
def test_out_of_memory_fails_the_latest_utterance_alone(
    worker: Worker, gate: Gate, utterance: Utterance, error: BaseException
) -> None:
    first, latest = Listener(), Listener()
    worker.submit(utterance, first.put)
    gate.waits.acquire(timeout=PATIENCE)
    worker.submit(utterance, latest.put)
    gate.let(1)
    gate.waits.acquire(timeout=PATIENCE)
    gate.let(1, error)
    failed = latest.end()
    assert isinstance(failed, Failed)
    assert "not enough memory" in str(failed.error)
    gate.let(2)
    assert isinstance(first.end(), Ended)
    assert worker.error is None


def test_an_error_that_sticks_ends_the_thread_and_tells_everybody(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    listeners = [Listener() for _ in range(SLOTS + 1)]
    for listener in listeners:
        worker.submit(utterance, listener.put)
    gate.let(1, RuntimeError("CUDA error: an illegal memory access was encountered"))
    for listener in listeners:
        failed = listener.end()
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, WorkerDownError)
        assert "illegal memory access" in str(failed.error)
    assert isinstance(worker.error, RuntimeError)


def test_after_that_nothing_is_taken_in_any_more(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    first, later = Listener(), Listener()
    worker.submit(utterance, first.put)
    gate.let(1, RuntimeError("it sticks"))
    first.end()
    worker.stop()
    worker.submit(utterance, later.put)
    assert isinstance(later.end(), Failed)
    with pytest.raises(CancelledError):
        worker.run(lambda: None).result(PATIENCE)


def test_a_task_runs_between_two_frames_and_its_error_comes_back(worker: Worker) -> None:
    assert worker.run(lambda: threading.current_thread().name).result(PATIENCE) == "csm"

    def refuse() -> None:
        raise GenerationError("no")

    with pytest.raises(GenerationError, match="no"):
        worker.run(refuse).result(PATIENCE)


def test_it_is_still_only_while_work_waits(
    worker: Worker, gate: Gate, utterance: Utterance
) -> None:
    assert worker.still_seconds == 0
    listener = Listener()
    worker.submit(utterance, listener.put)
    gate.waits.acquire(timeout=PATIENCE)
    assert worker.still_seconds > 0
    gate.let(3)
    listener.end()
    worker.run(lambda: None).result(PATIENCE)
    assert worker.still_seconds == 0
