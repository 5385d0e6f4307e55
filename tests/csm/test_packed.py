"""The model that ONNX Runtime runs: its graphs are exact, and its rounding costs what it may."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.csm import (
    CSM,
    CheckpointMismatchError,
    NotFiniteError,
    Precision,
    Rows,
    Sampling,
    TorchCSM,
    Turn,
    admit,
    generate,
    graph,
    load,
    prompt_rows,
    random_checkpoint,
    remember,
)
from service.csm.packed import PackedCSM, Session
from service.csm.quantise import Bits, quantise
from tests.csm.conftest import Pair

GREEDY = Sampling(temperature=0)
TEXT = "The quick brown fox jumps over the lazy dog."
CLIP = torch.randint(128, (32, 21), generator=torch.Generator().manual_seed(8))


def rows_of(pair: Pair, *turns: Turn) -> Rows:
    return prompt_rows(pair.tokenizer, turns, pair.model.config.codebooks)


def persona_of(pair: Pair) -> Rows:
    return rows_of(pair, Turn(0, "What was said in the clip.", CLIP))


def spoken(model: CSM, rows: Rows, sampling: Sampling = GREEDY, frames: int = 12) -> Tensor:
    return torch.stack(list(generate(model, rows, sampling, frames=frames)))


def unrounded(model: TorchCSM) -> PackedCSM:
    """Give the same model as graphs, its products in float32."""
    return PackedCSM(model.config, model.state_dict().items(), None)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def tiny_graphs(tiny: Pair) -> PackedCSM:
    return unrounded(tiny.model)


@pytest.fixture(scope="module")
def tiny_int8(tiny: Pair) -> CSM:
    return load(tiny.folder, precision="int8").model


def test_every_greedy_code_equals_torch(pair: Pair) -> None:
    rows = rows_of(pair, Turn(0, TEXT))
    found = spoken(unrounded(pair.model), rows, frames=100)
    assert torch.equal(found, spoken(pair.model, rows, frames=100))
    assert len(set(map(tuple, found.tolist()))) > 90


def test_every_greedy_code_after_a_prefix_equals_torch(tiny: Pair, tiny_graphs: PackedCSM) -> None:
    rows = rows_of(tiny, Turn(0, TEXT))
    prefix = remember(tiny_graphs, persona_of(tiny))
    found = torch.stack(list(generate(tiny_graphs, rows, GREEDY, frames=100, prefix=prefix)))
    assert torch.equal(found, spoken(tiny.model, persona_of(tiny) + rows, frames=100))


@torch.inference_mode()
def test_slots_of_different_lengths_speak_as_torch_does_alone(
    tiny: Pair, tiny_graphs: PackedCSM
) -> None:
    requests = [rows_of(tiny, Turn(speaker, TEXT[: 9 * speaker + 4])) for speaker in range(4)]
    state = tiny_graphs.state(slots=5)
    for slot, rows in enumerate(requests):
        admit(tiny_graphs, state, slot, rows, GREEDY, frames=30)
    steps = torch.stack([tiny_graphs.step(state, batch=5).clone() for _ in range(30)], dim=1)
    for slot, rows in enumerate(requests):
        assert torch.equal(steps[slot], spoken(tiny.model, rows, frames=30))


@pytest.mark.parametrize("top_k", [50, 100, 2051])
def test_the_same_noise_draws_the_same_codes_as_in_torch(
    tiny: Pair, tiny_graphs: PackedCSM, top_k: int
) -> None:
    rows, sampling = rows_of(tiny, Turn(0, TEXT)), Sampling(seed=5, top_k=top_k)
    found = spoken(tiny_graphs, rows, sampling, frames=30)
    assert torch.equal(found, spoken(tiny.model, rows, sampling, frames=30))


@torch.inference_mode()
def test_rows_read_in_pieces_are_as_if_read_at_once(tiny: Pair, tiny_graphs: PackedCSM) -> None:
    rows = rows_of(tiny, Turn(0, TEXT))
    whole = tiny_graphs.prefill(rows.tokens, rows.mask, tiny_graphs.state(1), 0, 0)
    state = tiny_graphs.state(slots=3)
    pieces = [
        tiny_graphs.prefill(rows.tokens[part], rows.mask[part], state, 1, part.start)
        for part in (slice(0, 20), slice(20, 21), slice(21, len(rows)))
    ]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_how_far_attention_reaches_decides_no_code(tiny: Pair, tiny_graphs: PackedCSM) -> None:
    rows = rows_of(tiny, Turn(0, TEXT))
    state = tiny_graphs.state(slots=1)
    admit(tiny_graphs, state, 0, rows, GREEDY, frames=12)
    full = torch.stack([tiny_graphs.step(state, batch=1)[0].clone() for _ in range(12)])
    assert torch.equal(full, spoken(tiny_graphs, rows))


@torch.inference_mode()
def test_a_slot_that_nobody_empties_stays_within_the_cache(tiny_graphs: PackedCSM) -> None:
    state = tiny_graphs.state(slots=1, positions=8)
    for _ in range(20):
        tiny_graphs.step(state, batch=1)
    assert state.lengths.item() == 7


# Relative root mean square after one layer of the real width, its weights random: a quarter above
# what was measured.
ERRORS: dict[Precision, float] = {"bf16": 0.008, "int8": 0.017, "int4": 0.175}


def depth_hidden(model: TorchCSM, hidden: Tensor, codes: Tensor) -> Tensor:
    """Give what the depth decoder's heads see, `[B, Q - 1, W']`, when these codes are drawn."""
    depth = model.state(slots=len(hidden)).depth
    assert depth
    books = model.config.codebooks - 1
    rows = codes[:, :books] + torch.arange(books) * model.config.audio_vocabulary
    x = model.projection(torch.cat((hidden[:, None], model.audio_embedding(rows)), dim=1))
    every: Tensor = model.depth(x, depth.cache, depth.cache.run(0, books + 1))
    return every[:, 1:]


@torch.inference_mode()
@pytest.mark.full_width
@pytest.mark.parametrize("precision", ERRORS)
def test_the_backbone_is_as_exact_as_its_precision(wide: Pair, precision: Precision) -> None:
    model = load(wide.folder, precision=precision).model
    rows = rows_of(wide, Turn(0, TEXT))
    exact = wide.model.prefill(rows.tokens, rows.mask, wide.model.state(1), 0, 0)
    hidden = model.prefill(rows.tokens, rows.mask, model.state(1), 0, 0)
    error = relative_error(wide.model.head(hidden.float()), wide.model.head(exact))
    assert ERRORS[precision] / 2 < error < ERRORS[precision]


@torch.inference_mode()
@pytest.mark.full_width
@pytest.mark.parametrize("precision", ERRORS)
def test_the_depth_decoder_is_as_exact_as_its_precision(wide: Pair, precision: Precision) -> None:
    model = load(wide.folder, precision=precision).model
    hidden = torch.randn(32, 2048, generator=torch.Generator().manual_seed(5))
    noise = torch.zeros(32, 4, 64)
    if isinstance(model, PackedCSM):
        codes, deep = model.depth_frame(hidden[:, None], noise)
    else:
        assert isinstance(model, TorchCSM)
        codes = torch.randint(2048, (32, 4), generator=torch.Generator().manual_seed(6))
        deep = depth_hidden(model, hidden.bfloat16(), codes)
    error = relative_error(deep, depth_hidden(wide.model, hidden, codes))
    assert ERRORS[precision] / 2 < error < ERRORS[precision]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("loudness", [1, 1000])
def test_a_row_is_rounded_alike_whoever_shares_its_batch(bits: Bits, loudness: int) -> None:
    generator = torch.Generator().manual_seed(7)
    linear = Session(graph.product(quantise(torch.randn(2048, 1024, generator=generator), bits)))
    x = torch.randn(4, 1024, generator=generator)
    x[1:] *= loudness
    alone, shared = torch.empty(1, 2048), torch.empty(4, 2048)
    linear.run({"x": x[:1]}, [alone])
    linear.run({"x": x}, [shared])
    assert relative_error(shared[:1], alone) < 1e-5


@torch.inference_mode()
@pytest.mark.full_width
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_batch_mates_hardly_move_a_frame(wide: Pair, precision: Precision) -> None:
    model = load(wide.folder, precision=precision).model
    assert isinstance(model, PackedCSM)
    hidden = torch.randn(4, 1, 2048, generator=torch.Generator().manual_seed(5))
    hidden[1:] *= 100
    noise = torch.zeros(4, 4, 64)
    alone, deep_alone = model.depth_frame(hidden[:1], noise[:1])
    shared, deep_shared = model.depth_frame(hidden, noise)
    assert torch.equal(shared[:1], alone)
    assert relative_error(deep_shared[:1], deep_alone) < 1e-5


@torch.inference_mode()
@pytest.mark.full_width
def test_in_bf16_batch_mates_move_a_row_by_roundings_alone(wide: Pair) -> None:
    model = load(wide.folder, precision="bf16").model
    rows = rows_of(wide, Turn(0, TEXT))
    alone, together = (model.state(3, positions=128) for _ in range(2))
    for state in (alone, together):
        for slot in range(3):
            admit(model, state, slot, rows, GREEDY, frames=9)
    together.inputs[1:] *= 100
    filled = int(alone.lengths[0])
    model.step(alone, 1)
    model.step(together, 3)
    for kind in ("keys", "values"):
        mine, shared = (
            getattr(state.cache, kind)[:, 0, :, filled].float() for state in (alone, together)
        )
        assert relative_error(shared, mine) < 0.01


def test_a_seed_gives_the_same_codes_again(tiny: Pair, tiny_int8: CSM) -> None:
    rows, sampling = rows_of(tiny, Turn(0, TEXT)), Sampling(seed=3)
    first = spoken(tiny_int8, rows, sampling)
    assert torch.equal(spoken(tiny_int8, rows, sampling), first)
    assert not torch.equal(spoken(tiny_int8, rows, Sampling(seed=4)), first)


@pytest.fixture
def broken_letter(tiny: Pair, tiny_int8: CSM) -> Iterator[str]:
    """A letter whose embedding is not finite."""
    token = tiny.tokenizer.encode(0, "z")[-2]
    row = tiny_int8.text_embedding.weight[token]
    kept = row.clone()
    row[3] = torch.nan
    yield "z"
    row.copy_(kept)


@pytest.mark.parametrize("place", ["clip", "text", "last row"])
def test_numbers_that_are_not_finite_are_an_error_and_spoil_no_later_request(
    tiny: Pair, tiny_int8: CSM, broken_letter: str, place: str
) -> None:
    good, bad = (rows_of(tiny, Turn(0, text)) for text in ("Hm.", f"Hm{broken_letter}."))
    alone = spoken(tiny_int8, good)
    state = tiny_int8.state(slots=1)
    prefix = remember(tiny_int8, bad) if place == "clip" else None
    rows = {"clip": good, "text": bad, "last row": Rows(bad.tokens[:-2], bad.mask[:-2])}[place]
    with pytest.raises(NotFiniteError, match="frame 0"):
        list(generate(tiny_int8, rows, GREEDY, frames=4, prefix=prefix, state=state))
    again = generate(tiny_int8, good, GREEDY, frames=12, state=state)
    assert torch.equal(torch.stack(list(again)), alone)


@pytest.mark.parametrize("name", ["backbone.layers.1.down.weight", "depth.norm.weight"])
def test_a_weight_that_is_not_finite_is_refused_by_name(tiny: Pair, name: str) -> None:
    tensors = {**tiny.model.state_dict(), name: tiny.model.state_dict()[name].clone()}
    tensors[name].view(-1)[5] = torch.inf
    with pytest.raises(ValueError, match=f"^{name}: a weight is not finite"):
        PackedCSM(tiny.model.config, tensors.items(), 8)


def test_shapes_that_the_runtime_cannot_attend_to_are_refused(tmp_path: Path) -> None:
    small = random_checkpoint.SIZES["tiny"]
    depth = {**small["depth_decoder_config"], "num_attention_heads": 4, "head_dim": 8}
    random_checkpoint.write(tmp_path, {**small, "depth_decoder_config": depth}, clips=0.02)
    with pytest.raises(CheckpointMismatchError, match=r"depth decoder are 8 wide.* bf16 or fp32"):
        load(tmp_path, precision="int4")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_whole_numbers_are_refused_away_from_the_cpu(tiny: Pair, precision: Precision) -> None:
    with pytest.raises(ValueError, match=f"{precision} .* the device is cuda: choose bf16 or fp32"):
        load(tiny.folder, device="cuda", precision=precision)


@torch.inference_mode()
def test_a_state_of_the_other_kind_is_refused(tiny: Pair, tiny_graphs: PackedCSM) -> None:
    with pytest.raises(TypeError, match="by a model of another kind"):
        tiny.model.step(tiny_graphs.state(slots=1), batch=1)


def test_a_host_that_does_not_round_needs_no_onnx_runtime() -> None:
    question = "import sys, service.csm; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", question], check=False).returncode == 0
