"""Continuous batching: who joins, who leaves, and what the others notice of it: nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from service.csm import (
    CSM,
    Block,
    Ended,
    Event,
    Failed,
    Mimi,
    NotFiniteError,
    PromptTooLongError,
    Sampling,
    Scheduler,
    State,
    TextTokenizer,
    Turn,
    Utterance,
    generate,
    load,
    prompt_rows,
    remember,
)
from service.csm.guards import CIRCLING, FALL, RISE, Samples
from service.csm.scheduler import BLOCK_FRAMES, Step

FRAME = 1_920  # samples
CLIP = torch.randint(128, (32, 21), generator=torch.Generator().manual_seed(8))


class Model(NamedTuple):
    csm: CSM
    codec: Mimi
    tokenizer: TextTokenizer

    def state(self, slots: int = 3) -> State:
        return self.csm.state(slots, positions=256)

    def scheduler(self, slots: int = 3) -> Scheduler:
        return Scheduler(self.csm, self.codec, self.state(slots), slots)

    def utterance(self, text: str, frames: int = 9, seed: int = 0) -> Utterance:
        rows = prompt_rows(self.tokenizer, [Turn(0, text)], codebooks=32)
        return Utterance(rows, Sampling(seed=seed), frames)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Model:
    csm, codec = load(tiny_folder)
    return Model(csm, codec, TextTokenizer(tiny_folder / "tokenizer.json"))


def run(scheduler: Scheduler) -> Iterator[Event]:
    while scheduler.busy:
        yield from scheduler.step()


def audio(events: list[Event], ticket: int) -> Samples:
    return np.concatenate(
        [event.samples for event in events if isinstance(event, Block) and event.ticket == ticket]
    )


def spoken_alone(model: Model, utterance: Utterance) -> Samples:
    scheduler = model.scheduler()
    ticket = scheduler.admit(utterance)
    return audio(list(run(scheduler)), ticket)


def test_the_audio_is_that_of_the_frames(model: Model) -> None:
    utterance = model.utterance("Hello.", frames=23)
    frames = list(generate(model.csm, utterance.rows, utterance.sampling, frames=23))
    whole = model.codec.decode(torch.stack(frames, dim=-1)[None])[0, 0].numpy()
    spoken = spoken_alone(model, utterance)
    assert spoken.size == whole.size
    # However it was cut into blocks: no click, no gap. Only the two edges are faded.
    np.testing.assert_allclose(spoken[RISE:-FALL], whole[RISE:-FALL], atol=1e-5)


def test_the_first_block_comes_after_two_frames_and_blocks_grow(model: Model) -> None:
    scheduler = model.scheduler()
    scheduler.admit(model.utterance("Hello.", frames=30))
    blocks = [sum(isinstance(event, Block) for event in scheduler.step()) for _ in range(20)]
    came = [frame for frame, block in enumerate(blocks, start=1) if block]
    assert came == np.cumsum(BLOCK_FRAMES).tolist()


def test_blocks_stay_small_where_frames_take_long(model: Model) -> None:
    scheduler = model.scheduler()
    scheduler.admit(model.utterance("Hello.", frames=30))
    scheduler.frame_seconds = 100.0
    assert any(isinstance(event, Block) for event in scheduler.step())


def test_an_utterance_sounds_the_same_whoever_comes_and_goes(model: Model) -> None:
    long, short, late = (
        model.utterance("A longer text.", frames=16, seed=1),
        model.utterance("Short.", frames=4, seed=2),
        model.utterance("And a late one.", frames=9, seed=3),
    )
    scheduler = model.scheduler()
    events: list[Event] = []
    # The short one has the first slot: when it ends, another one moves.
    tickets = [scheduler.admit(short), scheduler.admit(long)]
    for _ in range(5):
        events += scheduler.step()
    tickets.append(scheduler.admit(late))
    events += run(scheduler)
    for ticket, utterance in zip(tickets, (short, long, late), strict=True):
        np.testing.assert_allclose(audio(events, ticket), spoken_alone(model, utterance), atol=1e-4)


def test_an_utterance_ends_at_its_budget(model: Model) -> None:
    scheduler = model.scheduler()
    ticket = scheduler.admit(model.utterance("Hello.", frames=7))
    events = list(run(scheduler))
    assert events[-1] == Ended(ticket, "budget", 7)
    assert audio(events, ticket).size == 7 * FRAME


def always(code: int) -> Step:
    """Give a step that never says anything but one code."""
    return lambda batch, _reach, _candidates: torch.full((batch, 32), code)


def test_frames_in_circles_end_it(model: Model) -> None:
    scheduler = Scheduler(model.csm, model.codec, model.state(), 3, step=always(5))
    ticket = scheduler.admit(model.utterance("Hello.", frames=200))
    assert list(run(scheduler))[-1] == Ended(ticket, "loop", CIRCLING)


def test_a_frame_of_zeros_ends_it(model: Model) -> None:
    scheduler = Scheduler(model.csm, model.codec, model.state(), 3, step=always(0))
    ticket = scheduler.admit(model.utterance("Hello."))
    assert list(run(scheduler)) == [Ended(ticket, "ended", 0)]


def test_long_silence_ends_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = model.scheduler()
    scheduler.admit(model.utterance("Hello.", frames=200))
    monkeypatch.setattr(
        type(model.codec),
        "decode_step",
        lambda _codec, codes, _stream: torch.zeros(1, 1, codes.shape[-1] * FRAME),
    )
    ended = list(run(scheduler))[-1]
    assert isinstance(ended, Ended)
    assert (ended.ending, ended.frames) == ("silence", 28)


def test_a_cancelled_utterance_frees_its_slot_at_once(model: Model) -> None:
    scheduler = model.scheduler(slots=1)
    ticket = scheduler.admit(model.utterance("Hello.", frames=100))
    scheduler.step()
    scheduler.cancel(ticket)
    assert (scheduler.busy, scheduler.free) == (0, 1)
    assert scheduler.step() == []


def test_no_more_are_admitted_than_there_are_slots(model: Model) -> None:
    scheduler = model.scheduler(slots=1)
    scheduler.admit(model.utterance("Hello."))
    with pytest.raises(RuntimeError, match="all 1 slots are taken"):
        scheduler.admit(model.utterance("Hello."))


def test_what_does_not_fit_is_refused_with_numbers_and_takes_no_slot(model: Model) -> None:
    scheduler = model.scheduler()
    with pytest.raises(PromptTooLongError, match="256"):
        scheduler.admit(model.utterance("Hello.", frames=1_000))
    assert scheduler.free == 3


def test_numbers_that_are_not_finite_fail_one_utterance_alone(model: Model) -> None:
    prefix = remember(model.csm, prompt_rows(model.tokenizer, [Turn(0, "Clip", CLIP)], 32))
    broken = type(prefix)(prefix.keys.clone().fill_(torch.nan), prefix.values)
    good = model.utterance("Hello.", frames=6, seed=4)
    scheduler = model.scheduler()
    failing = scheduler.admit(Utterance(good.rows, good.sampling, 6, broken))
    ticket = scheduler.admit(good)
    events = list(run(scheduler))
    failed = next(event for event in events if isinstance(event, Failed))
    assert failed.ticket == failing
    assert isinstance(failed.error, NotFiniteError)
    np.testing.assert_allclose(audio(events, ticket), spoken_alone(model, good), atol=1e-4)
    # And whoever gets its slot next is not spoiled.
    again = scheduler.admit(good)
    later = audio(list(run(scheduler)), again)
    np.testing.assert_allclose(later, spoken_alone(model, good), atol=1e-4)


def test_a_seed_gives_the_same_audio_again(model: Model) -> None:
    first, second = (model.utterance("Hello.", seed=seed) for seed in (7, 8))
    np.testing.assert_array_equal(spoken_alone(model, first), spoken_alone(model, first))
    assert np.abs(spoken_alone(model, first) - spoken_alone(model, second)).max() > 1e-3
