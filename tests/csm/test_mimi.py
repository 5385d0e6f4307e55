"""Our codec against transformers' `MimiModel`, with the same random weights."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from service.csm.mimi import CodecConfig, Mimi
from tests.csm.mimi_oracle import Pair, assert_same_audio, transformers_mimi
from tests.csm.mimi_weights import REAL, TINY, random_codes, random_weights, speechlike

LONG = 130  # frames; more than the window of either size


def _pair(config: CodecConfig, folder: Path) -> Pair:
    weights = random_weights(config)
    codec = Mimi(config)
    codec.load(weights)
    oracle = transformers_mimi(config, weights, folder)
    (folder / "model.safetensors").unlink()
    return Pair(config, codec, oracle)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return _pair(TINY, tmp_path_factory.mktemp("tiny-mimi"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return _pair(REAL, tmp_path_factory.mktemp("real-mimi"))


@pytest.fixture(params=["tiny", pytest.param("real", marks=pytest.mark.full_width)])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


def test_audio_is_described_by_the_codes_of_transformers(pair: Pair) -> None:
    audio = speechlike(LONG, pair.config)

    codes = pair.codec.encode(audio)

    assert codes.shape == (1, pair.config.num_quantizers, LONG)
    assert torch.equal(codes, pair.oracle.encode(audio).audio_codes)
    assert min(len(book.unique()) for book in codes[0]) > 20


@pytest.mark.parametrize("samples", [1, 2, 15, 47, 48, 49, 120, 167, 768, 769])
def test_a_frame_that_is_not_full_is_described_as_by_transformers(tiny: Pair, samples: int) -> None:
    audio = speechlike(20, tiny.config)[..., :samples]

    codes = tiny.codec.encode(audio)

    assert codes.shape[2] == -(-samples // tiny.config.frame_samples)
    assert torch.equal(codes, tiny.oracle.encode(audio).audio_codes)


def test_a_clip_of_any_length_is_described_as_by_transformers_at_full_size(real: Pair) -> None:
    audio = speechlike(4.35, real.config)

    assert torch.equal(real.codec.encode(audio), real.oracle.encode(audio).audio_codes)


def test_clips_of_a_batch_are_described_each_by_itself(tiny: Pair) -> None:
    audio = speechlike(20, tiny.config, batch=3)

    codes = tiny.codec.encode(audio)

    assert torch.equal(codes, tiny.oracle.encode(audio).audio_codes)
    assert torch.equal(codes[1:2], tiny.codec.encode(audio[1:2]))


def test_codes_sound_as_in_transformers_whole_and_streamed(pair: Pair) -> None:
    codes = random_codes(LONG, pair.config)
    expected = pair.oracle.decode(codes).audio_values
    state = pair.codec.stream(1)

    whole = pair.codec.decode(codes)
    blocks = [
        pair.codec.decode_step(step, state)
        for step in torch.split(codes, [1, 2, LONG - 9, 3, 1, 1, 1], dim=-1)
    ]

    assert expected.shape == (1, 1, LONG * pair.config.frame_samples)
    assert_same_audio(whole, expected)
    assert_same_audio(torch.cat(blocks, dim=-1), expected)


@pytest.mark.parametrize("steps", [[1] * 40, [2, 1, 3, 1, 1, 7, 25], [17, 23], [40]], ids=str)
def test_a_stream_sounds_the_same_however_it_is_cut(tiny: Pair, steps: list[int]) -> None:
    codes = random_codes(sum(steps), tiny.config, batch=2)
    state = tiny.codec.stream(2)

    blocks = [tiny.codec.decode_step(step, state) for step in torch.split(codes, steps, dim=-1)]

    assert [block.shape[-1] // tiny.config.frame_samples for block in blocks] == steps
    assert_same_audio(torch.cat(blocks, dim=-1), tiny.oracle.decode(codes).audio_values)


def test_codes_and_audio_belong_to_each_other_in_both(tiny: Pair) -> None:
    audio = speechlike(25, tiny.config, batch=2)

    again = tiny.codec.decode(tiny.codec.encode(audio))

    torch.testing.assert_close(again, tiny.oracle(audio).audio_values, rtol=0, atol=2e-5)


def test_a_checkpoint_has_the_names_and_shapes_that_transformers_writes(
    tiny: Pair, tmp_path: Path
) -> None:
    tiny.oracle.save_pretrained(tmp_path)

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        written = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - a handle, not a mapping
    assert written == tiny.codec.checkpoint_names()
