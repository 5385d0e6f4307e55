"""Our codec against Kyutai's own Mimi, the `moshi` package, with the same random weights."""

import pytest
import torch

from service.csm.mimi import CodecConfig, Mimi
from tests.csm.mimi_oracle import Pair, assert_same_audio, moshi_mimi
from tests.csm.mimi_weights import REAL, TINY, random_codes, random_weights, speechlike


@pytest.fixture(scope="module", params=[TINY, REAL], ids=["tiny", "real"])
def pair(request: pytest.FixtureRequest) -> Pair:
    config: CodecConfig = request.param
    weights = random_weights(config, seed=7)
    codec = Mimi(config)
    codec.load(weights)
    return Pair(config, codec, moshi_mimi(config, weights))


def test_audio_is_described_by_the_same_codes(pair: Pair) -> None:
    audio = speechlike(15, pair.config)

    codes = pair.codec.encode(audio)

    assert torch.equal(codes, pair.oracle.encode(audio))


def test_codes_sound_the_same(pair: Pair) -> None:
    codes = random_codes(15, pair.config)

    assert_same_audio(pair.codec.decode(codes), pair.oracle.decode(codes))


def test_a_stream_sounds_the_same(pair: Pair) -> None:
    # No longer than the window of the tiny codec: beyond it, moshi's ring of keys is too short for
    # two positions a step, and its streams differ from its own whole decoding.
    codes = random_codes(10, pair.config, batch=2)
    state = pair.codec.stream(2)

    ours, theirs = [], []
    with pair.oracle.streaming(2):
        for frame in torch.split(codes, 1, dim=-1):
            ours.append(pair.codec.decode_step(frame, state))
            theirs.append(pair.oracle.decode(frame))

    assert_same_audio(torch.cat(ours, dim=-1), torch.cat(theirs, dim=-1))
