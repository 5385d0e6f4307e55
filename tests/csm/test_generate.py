"""The frame loop: prefixes, slots that share a batch, seeds, and where an utterance ends."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from service.csm import (
    NotFiniteError,
    PromptTooLongError,
    Remembering,
    Rows,
    Sampling,
    TorchCSM,
    Turn,
    admit,
    frame_budget,
    generate,
    prompt_rows,
    remember,
)
from tests.csm.conftest import Pair

GREEDY = Sampling(temperature=0)
CLIP = torch.randint(128, (32, 21), generator=torch.Generator().manual_seed(8))
PERSONA = Turn(0, "What was said in the clip.", CLIP)


def rows_of(pair: Pair, *turns: Turn) -> Rows:
    return prompt_rows(pair.tokenizer, turns, codebooks=32)


def spoken(pair: Pair, rows: Rows, sampling: Sampling = GREEDY, frames: int = 12) -> Tensor:
    return torch.stack(list(generate(pair.model, rows, sampling, frames=frames)))


def test_a_copied_prefix_speaks_as_the_whole_prompt_does(tiny: Pair) -> None:
    persona, text = rows_of(tiny, PERSONA), rows_of(tiny, Turn(0, "And then?"))
    prefix = remember(tiny.model, persona)
    after_prefix = generate(tiny.model, text, GREEDY, frames=12, prefix=prefix)
    assert torch.equal(torch.stack(list(after_prefix)), spoken(tiny, persona + text))


def test_a_prefix_outlives_the_requests_that_copy_it(tiny: Pair) -> None:
    prefix = remember(tiny.model, rows_of(tiny, PERSONA))
    state = tiny.model.state(slots=1)
    for text in ("One.", "Something else, and longer.", "One."):
        rows = rows_of(tiny, Turn(0, text))
        frames = generate(tiny.model, rows, GREEDY, frames=6, prefix=prefix, state=state)
        alone = spoken(tiny, rows_of(tiny, PERSONA) + rows, frames=6)
        assert torch.equal(torch.stack(list(frames)), alone)


@torch.inference_mode()
def test_requests_that_join_and_leave_a_batch_speak_as_if_alone(tiny: Pair) -> None:
    model = tiny.model
    texts = ("First of all.", "A second voice joins in, later.", "Third!")
    requests = [rows_of(tiny, PERSONA, Turn(speaker, text)) for speaker, text in enumerate(texts)]
    alone = [spoken(tiny, rows, frames=10) for rows in requests]

    state = model.state(slots=4)
    heard: dict[int, list[Tensor]] = {0: [], 1: [], 2: []}
    # Which request starts in which slot before which step; the third takes the slot of the first.
    joins = {0: (0, 0), 4: (1, 1), 10: (0, 2)}
    speaking: dict[int, int] = {}
    for step in range(20):
        if step in joins:
            slot, request = joins[step]
            admit(model, state, slot, requests[request], GREEDY, frames=10)
            speaking[slot] = request
        codes = model.step(state, batch=1 + max(speaking)).clone()
        for slot, request in speaking.items():
            heard[request].append(codes[slot])
    for request, expected in enumerate(alone):
        assert torch.equal(torch.stack(heard[request][:10]), expected)


@torch.inference_mode()
def test_a_seed_gives_the_same_codes_in_any_slot(tiny: Pair) -> None:
    rows = rows_of(tiny, Turn(0, "Again."))
    alone = spoken(tiny, rows, Sampling(seed=77), frames=5)
    state = tiny.model.state(slots=3)
    for slot, seed in enumerate((1, 77, 2)):
        admit(tiny.model, state, slot, rows, Sampling(seed=seed), frames=5)
    steps = torch.stack([tiny.model.step(state, batch=3).clone() for _ in range(5)])
    assert torch.equal(steps[:, 1], alone)
    assert not torch.equal(steps[:, 0], alone)


def test_how_far_attention_reaches_decides_no_code(tiny: Pair) -> None:
    rows = rows_of(tiny, Turn(0, "As far as the eye can see."))
    state = tiny.model.state(slots=1)
    admit(tiny.model, state, 0, rows, GREEDY, frames=8)
    with torch.inference_mode():
        full = [tiny.model.step(state, batch=1)[0].clone() for _ in range(8)]
    assert torch.equal(torch.stack(full), spoken(tiny, rows, frames=8))


@pytest.mark.parametrize("count", [1, 7, 1_000])
def test_a_prompt_that_is_read_little_by_little_is_read_the_same(tiny: Pair, count: int) -> None:
    persona, before = rows_of(tiny, PERSONA), rows_of(tiny, Turn(1, "Said before.", CLIP))
    whole = remember(tiny.model, persona + before)
    reading = Remembering(tiny.model, before, after=remember(tiny.model, persona))
    while reading.read(count):
        pass
    torch.testing.assert_close(reading.prefix.keys, whole.keys, rtol=0, atol=1e-4)
    torch.testing.assert_close(reading.prefix.values, whole.values, rtol=0, atol=1e-4)


def test_reading_nothing_more_changes_nothing(tiny: Pair) -> None:
    prefix = remember(tiny.model, rows_of(tiny, PERSONA))
    reading = Remembering(tiny.model, rows_of(tiny), after=prefix)
    assert not reading.read(64)
    assert torch.equal(reading.prefix.keys, prefix.keys)


@torch.inference_mode()
def test_a_step_never_asks_for_a_value_on_the_device(tiny: Pair) -> None:
    with torch.device("meta"):  # where shapes exist and values do not
        model = TorchCSM(tiny.model.config)
        state = model.state(slots=4)
        assert model.step(state, batch=3).shape == (3, 32)


@torch.inference_mode()
def test_a_slot_that_nobody_empties_stays_within_the_cache(tiny: Pair) -> None:
    state = tiny.model.state(slots=1, positions=8)
    for _ in range(20):
        tiny.model.step(state, batch=1)
    assert state.lengths.item() == 7


def sure_of(code: int, head: nn.Module) -> nn.Linear:
    """Give a head that always says one code."""
    assert isinstance(head, nn.Linear)
    sure = nn.Linear(head.in_features, head.out_features)
    sure.weight.data.zero_()
    sure.bias.data.zero_()[code] = 100.0
    return sure


@pytest.fixture
def scripted(tiny: Pair) -> Iterator[TorchCSM]:
    """The tiny model, saying code 0 in every codebook."""
    model = tiny.model
    head, depth_heads = model.head, model.depth_heads
    model.head = sure_of(0, head)
    model.depth_heads = nn.ModuleList(sure_of(0, deep) for deep in depth_heads)
    yield model
    model.head, model.depth_heads = head, depth_heads


def test_a_frame_of_zeros_ends_the_utterance_and_is_not_kept(
    scripted: TorchCSM, tiny: Pair
) -> None:
    rows = rows_of(tiny, Turn(0, "Hm."))
    assert list(generate(scripted, rows, GREEDY, frames=4)) == []


def test_a_frame_with_one_code_that_is_not_zero_is_speech(scripted: TorchCSM, tiny: Pair) -> None:
    scripted.depth_heads[-1] = sure_of(5, scripted.depth_heads[-1])
    rows = rows_of(tiny, Turn(0, "Hm."))
    frames = list(generate(scripted, rows, GREEDY, frames=4))
    assert [frame.tolist() for frame in frames] == [[0] * 31 + [5]] * 4


def test_numbers_that_are_not_finite_are_an_error_and_spoil_no_later_request(tiny: Pair) -> None:
    rows = rows_of(tiny, Turn(0, "Hm."))
    alone = spoken(tiny, rows)
    state = tiny.model.state(slots=1)
    weight = tiny.model.get_parameter("backbone.layers.0.query_key_value.weight")
    kept = weight.clone()
    try:
        weight.fill_(torch.nan)
        with pytest.raises(NotFiniteError, match="frame 0"):
            list(generate(tiny.model, rows_of(tiny, PERSONA), GREEDY, frames=4, state=state))
    finally:
        weight.copy_(kept)
    again = generate(tiny.model, rows, GREEDY, frames=12, state=state)
    assert torch.equal(torch.stack(list(again)), alone)


@pytest.mark.parametrize("stack", ["backbone", "depth"])
def test_a_single_broken_weight_anywhere_is_noticed(tiny: Pair, stack: str) -> None:
    weight = tiny.model.get_parameter(f"{stack}.layers.1.down.weight")
    kept = weight[3, 3].clone()
    try:
        weight[3, 3] = torch.inf
        with pytest.raises(NotFiniteError):
            spoken(tiny, rows_of(tiny, Turn(0, "Hm.")))
    finally:
        weight[3, 3] = kept


def test_a_prompt_that_does_not_fit_is_refused_with_numbers(tiny: Pair) -> None:
    rows = rows_of(tiny, Turn(0, "x" * 1000))
    with pytest.raises(PromptTooLongError, match=r"1005 rows.* 1100 frames.* 2105; .* 2048"):
        next(generate(tiny.model, rows, GREEDY, frames=1100))


def test_a_prompt_may_fill_the_slot_to_its_last_position(tiny: Pair) -> None:
    rows = rows_of(tiny, Turn(0, "x" * 20))
    state = tiny.model.state(slots=1, positions=len(rows) + 5)
    assert len(list(generate(tiny.model, rows, GREEDY, frames=5, state=state))) == 5


@pytest.mark.parametrize(("text", "frames"), [("", 38), ("Hi.", 38), ("x" * 100, 150)])
def test_the_budget_follows_the_text(text: str, frames: int) -> None:
    assert frame_budget(text) == frames
