"""The model in ONNX Runtime: its graphs, its rounding, and whose rounding disturbs whom."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.csm import (
    CSM,
    Precision,
    Prefix,
    Rows,
    Sampling,
    State,
    TorchCSM,
    Turn,
    admit,
    generate,
    load,
    prompt_rows,
    remember,
)
from service.csm.model import BROKEN
from service.csm.packed import PackedCSM
from service.csm.quantise import QuantiseError
from service.csm.sampling import CANDIDATES, LARGEST_TOP_K
from tests.csm.conftest import Pair

GREEDY = Sampling(temperature=0)
TEXTS = ("Hello.", "A text of another length.", "And a third one, for the third slot.")

ERRORS: dict[Precision, float] = {"bf16": 0.0102, "int8": 0.0234, "int4": 0.232}
"""Most that the logits of a precision may be off, relative to those of float32 in their root mean
square: twice what was measured."""

DEPTH_ERRORS: dict[Precision, float] = {"int8": 0.028, "int4": 0.286}
"""The same of the depth decoder's logits, given the same hidden states and codes."""


def plain(model: TorchCSM) -> PackedCSM:
    """Run a model's own float32 weights by the graphs."""
    return PackedCSM(model.config, model.state_dict().items(), bits=None)


def rows_of(pair: Pair, text: str) -> Rows:
    return prompt_rows(pair.tokenizer, [Turn(0, text)], pair.model.config.codebooks)


def persona_of(pair: Pair, model: CSM) -> Prefix:
    books = pair.model.config.codebooks
    codes = torch.randint(100, (books, 21), generator=torch.Generator().manual_seed(8))
    return remember(model, prompt_rows(pair.tokenizer, [Turn(0, "The clip.", codes)], books))


def spoken(pair: Pair, model: CSM, frames: int, prefix: Prefix | None = None) -> Tensor:
    rows = rows_of(pair, TEXTS[1])
    return torch.stack(list(generate(model, rows, GREEDY, frames=frames, prefix=prefix)))


def speaking(pair: Pair, model: CSM, sampling: Sampling = GREEDY) -> State:
    """Give a state with three slots of different lengths."""
    state = model.state(len(TEXTS), positions=256)
    for slot, text in enumerate(TEXTS):
        admit(model, state, slot, rows_of(pair, text), sampling, frames=99)
    return state


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_graphs_say_what_torch_says(pair: Pair) -> None:
    packed = plain(pair.model)
    # Widths show in the first frames, positions in many: of the wide one a few will do.
    frames = 100 if pair.model.config.backbone.width < 100 else 20
    expected = spoken(pair, pair.model, frames, persona_of(pair, pair.model))
    assert torch.equal(spoken(pair, packed, frames, persona_of(pair, packed)), expected)


@torch.inference_mode()
def test_the_graphs_say_it_in_slots_of_different_lengths(pair: Pair) -> None:
    packed = plain(pair.model)
    ours, theirs = speaking(pair, packed), speaking(pair, pair.model)
    for _ in range(12):
        assert torch.equal(packed.step(ours, 3), pair.model.step(theirs, 3))
    # Some leave: the first two go on.
    for _ in range(4):
        assert torch.equal(packed.step(ours, 2), pair.model.step(theirs, 2))


@torch.inference_mode()
@pytest.mark.parametrize("candidates", [CANDIDATES, LARGEST_TOP_K])
def test_the_graphs_draw_what_torch_draws(tiny: Pair, candidates: int) -> None:
    sampling = Sampling(temperature=1.3, top_k=50, seed=11)
    packed = plain(tiny.model)
    ours, theirs = speaking(tiny, packed, sampling), speaking(tiny, tiny.model, sampling)
    for _ in range(5):
        expected = tiny.model.step(theirs, 3)
        assert torch.equal(packed.step(ours, 3, candidates=candidates), expected)


@pytest.mark.parametrize("precision", ERRORS)
@torch.inference_mode()
def test_the_error_of_a_precision_is_bounded_at_the_real_widths(
    wide: Pair, precision: Precision
) -> None:
    model = load(wide.folder, precision=precision).model
    rows = rows_of(wide, " ".join(TEXTS))
    hidden, expected = (
        each.prefill(rows.tokens, rows.mask, each.state(1, positions=128), 0, 0).float()
        for each in (model, wide.model)
    )
    head = wide.model.head
    error = relative(head(hidden), head(expected))
    assert ERRORS[precision] / 20 < error < ERRORS[precision]


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.inference_mode()
def test_so_is_that_of_the_depth_decoder(wide: Pair, precision: Precision) -> None:
    packed, model = load(wide.folder, precision=precision).model, wide.model
    assert isinstance(packed, PackedCSM)
    books, audio_vocabulary = model.config.codebooks, model.config.audio_vocabulary
    rows = rows_of(wide, TEXTS[2])
    state = model.state(1, positions=64)
    hidden = model.prefill(rows.tokens, rows.mask, state, 0, 0)[-8:, None]  # [8, 1, W]
    codes = torch.empty(8, books, dtype=torch.int64)
    deep = torch.empty(8, books - 1, model.config.depth.width)
    positions = torch.arange(1, books, dtype=torch.int32).repeat_interleave(8)
    inputs = {"hidden": hidden.contiguous(), "noise": torch.zeros(8, books, 1), "last": positions}
    packed._depth.run(inputs, [codes, deep])
    # The same codes, read by float32.
    depth = model.state(slots=8).depth
    assert depth
    said = codes[:, :-1] + torch.arange(books - 1) * audio_vocabulary
    x = model.projection(torch.cat((hidden, model.audio_embedding(said)), dim=1))
    expected = model.depth(x, depth.cache, depth.cache.run(0, books))[:, 1:]
    errors = [
        relative(head(deep[:, book]), head(expected[:, book]))
        for book, head in enumerate(model.depth_heads)
    ]
    assert max(errors) < DEPTH_ERRORS[precision]


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.inference_mode()
def test_a_loud_neighbour_spoils_nobody(wide: Pair, precision: Precision) -> None:
    model = load(wide.folder, precision=precision).model
    alone, together = speaking(wide, model), speaking(wide, model)
    together.inputs[1] *= 1_000
    length = int(alone.lengths[0])
    assert torch.equal(model.step(alone, 1)[0], model.step(together, 3)[0])
    for kind in ("keys", "values"):
        mine, shared = (getattr(state.cache, kind)[:, 0, :, length] for state in (alone, together))
        assert relative(shared, mine) < 1e-5


@torch.inference_mode()
def test_in_bf16_neighbours_move_a_row_by_roundings_alone(wide: Pair) -> None:
    model = load(wide.folder, precision="bf16").model
    alone, together = speaking(wide, model), speaking(wide, model)
    together.inputs[1] *= 1_000
    length = int(alone.lengths[0])
    model.step(alone, 1)
    model.step(together, 3)
    for kind in ("keys", "values"):
        mine, shared = (
            getattr(state.cache, kind)[:, 0, :, length].float() for state in (alone, together)
        )
        assert relative(shared, mine) < ERRORS["bf16"]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_seed_says_the_same_again(tiny: Pair, precision: Precision) -> None:
    model = load(tiny.folder, precision=precision).model
    rows = rows_of(tiny, "Again.")
    first, again, other = (
        torch.stack(list(generate(model, rows, Sampling(seed=seed), frames=8)))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@torch.inference_mode()
def test_numbers_that_are_not_finite_break_one_slot_alone(tiny: Pair, precision: Precision) -> None:
    model = load(tiny.folder, precision=precision).model
    sound, broken = speaking(tiny, model), speaking(tiny, model)
    broken.inputs[1] = torch.nan
    expected, found = model.step(sound, 3), model.step(broken, 3)
    assert (found[1] == BROKEN).all()
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


def test_narrow_heads_are_refused_with_the_number(tiny: Pair) -> None:
    config = tiny.model.config
    narrow = replace(config, depth=replace(config.depth, head_width=8))
    with pytest.raises(QuantiseError, match="heads of the depth decoder are 8 wide"):
        PackedCSM(narrow, [], bits=8)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_whole_numbers_are_refused_on_a_gpu(tiny_folder: Path, precision: Precision) -> None:
    with pytest.raises(ValueError, match=f"{precision} runs on the CPU alone"):
        load(tiny_folder, device="cuda", precision=precision)
