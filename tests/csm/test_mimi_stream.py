"""Streams in one batch: each begins, goes on and ends by itself."""

import pytest
import torch
from torch import Tensor

from service.csm.mimi import DecodeStream, Mimi
from tests.csm.mimi_oracle import TOLERANCE, assert_same_audio
from tests.csm.mimi_weights import TINY, random_codes, random_weights, speechlike


@pytest.fixture(scope="module")
def codec() -> Mimi:
    codec = Mimi(TINY)
    codec.load(random_weights(TINY))
    return codec


def slots(*chosen: int, batch: int = 3) -> Tensor:
    return torch.isin(torch.arange(batch), torch.tensor(chosen))


def run(codec: Mimi, codes: Tensor, state: DecodeStream, step: int = 1) -> Tensor:
    steps = torch.split(codes, step, dim=-1)
    return torch.cat([codec.decode_step(codes, state) for codes in steps], dim=-1)


def test_a_stream_does_not_hear_its_neighbours(codec: Mimi) -> None:
    codes = random_codes(20, TINY, batch=3)
    other_neighbours = random_codes(20, TINY, batch=3, seed=9)
    other_neighbours[1] = codes[1]

    audio = run(codec, codes, codec.stream(3))
    among_others = run(codec, other_neighbours, codec.stream(3))

    assert torch.equal(audio[1], among_others[1])
    assert not torch.isclose(audio[0], among_others[0]).all()
    assert_same_audio(audio[1:2], codec.decode(codes[1:2]))


def test_a_stream_that_begins_later_sounds_as_one_that_begins_alone(codec: Mimi) -> None:
    state = codec.stream(3)
    run(codec, random_codes(30, TINY, batch=3), state)  # past the window, so that rings are full
    codes = random_codes(30, TINY, batch=3, seed=4)

    state.reset(slots(0, 2))
    audio = run(codec, codes, state, step=3)

    assert_same_audio(audio[[0, 2]], codec.decode(codes[[0, 2]]))


def test_a_stream_goes_on_undisturbed_when_another_begins(codec: Mimi) -> None:
    codes = random_codes(30, TINY, batch=3)
    state = codec.stream(3)

    first = run(codec, codes[..., :13], state)
    state.reset(slots(0, 2))
    second = run(codec, codes[..., 13:], state)

    assert_same_audio(torch.cat((first, second), dim=-1)[1:2], codec.decode(codes[1:2]))


def test_streams_that_began_at_different_times_run_in_one_batch(codec: Mimi) -> None:
    codes = random_codes(40, TINY, batch=3)
    begins = [0, 5, 23]
    state = codec.stream(3)

    audio = []
    for frame in range(40):
        state.reset(slots(*[slot for slot in range(3) if begins[slot] == frame]))
        audio.append(codec.decode_step(codes[..., frame : frame + 1], state))

    whole = torch.cat(audio, dim=-1)
    for slot, begin in enumerate(begins):
        alone = codec.decode(codes[slot : slot + 1, :, begin:])
        assert_same_audio(whole[slot : slot + 1, :, begin * TINY.frame_samples :], alone)


def test_a_broken_stream_breaks_no_other_and_not_its_successor(codec: Mimi) -> None:
    codes = random_codes(8, TINY, batch=3)
    state = codec.stream(3)
    for tensor in state.tensors:
        if tensor.is_floating_point():
            tensor[1] = torch.nan

    broken = run(codec, codes, state)
    assert broken[1].isnan().any()
    assert_same_audio(broken[[0, 2]], codec.decode(codes[[0, 2]]))

    state.reset(slots(1))
    mended = run(codec, codes, state)
    assert_same_audio(mended[1:2], codec.decode(codes[1:2]))


def test_the_memory_of_a_stream_keeps_its_shape_and_place(codec: Mimi) -> None:
    state = codec.stream(3)
    before = [(tensor.shape, tensor.data_ptr()) for tensor in state.tensors]

    run(codec, random_codes(30, TINY, batch=3), state, step=7)
    state.reset(slots(1))

    assert [(tensor.shape, tensor.data_ptr()) for tensor in state.tensors] == before


def test_a_step_never_asks_for_the_value_of_a_tensor() -> None:
    # Tensors on this device have none, so that asking fails. Nor can a graph capture a question.
    codec = Mimi(TINY).to("meta")
    state = codec.stream(2)

    audio = codec.decode_step(random_codes(2, TINY, batch=2).to("meta"), state)
    state.reset(torch.zeros(2, dtype=torch.bool, device="meta"))

    assert audio.shape == (2, 1, 2 * TINY.frame_samples)


def test_codes_that_the_codec_lacks_add_nothing() -> None:
    weights = random_weights(TINY)
    weights["quantizer.acoustic_residual_vector_quantizer.layers.2.codebook.embed_sum"][5] = 0
    codec = Mimi(TINY)
    codec.load(weights)
    silent = random_codes(6, TINY)
    silent[:, 3] = 5
    beyond = silent.clone()
    beyond[:, 3] = TINY.codebook_size + torch.arange(6)

    torch.testing.assert_close(codec.decode(beyond), codec.decode(silent), rtol=0, atol=TOLERANCE)


@pytest.fixture
def half() -> Mimi:
    codec = Mimi(TINY)
    codec.load(random_weights(TINY))
    return codec.to(torch.bfloat16)


def test_bfloat16_takes_audio_in_float32(half: Mimi) -> None:
    codes = half.encode(speechlike(10, TINY))

    assert codes.shape == (1, 6, 10)
    assert len(codes.unique()) > 20


def test_bfloat16_streams_stay_near_float32(codec: Mimi, half: Mimi) -> None:
    codes = random_codes(60, TINY)

    audio = run(half, codes, half.stream(1)).float()

    expected = codec.decode(codes)
    error = (audio - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.05


@pytest.mark.parametrize("shape", [(3, 6, 0), (2, 6, 1), (3, 5, 1), (3, 6)])
def test_codes_of_another_shape_are_refused(codec: Mimi, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Codes to decode must be \[3, 6, t ≥ 1\], not \["):
        codec.decode_step(torch.zeros(shape, dtype=torch.int64), codec.stream(3))


@pytest.mark.parametrize("shape", [(1, 1, 0), (1, 2, 100), (1, 100)])
def test_audio_of_another_shape_is_refused(codec: Mimi, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Audio to encode must be \[B, 1, S ≥ 1\], not \["):
        codec.encode(torch.zeros(shape))
