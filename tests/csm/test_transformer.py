"""The stack over its cache: positions, slots and the rotary embedding."""

import pytest
import torch

from service.csm.config import RopeScaling, TransformerConfig
from service.csm.transformer import Cache, Transformer, rope_frequencies

CONFIG = TransformerConfig(
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    ffn_width=48,
    norm_eps=1e-5,
    positions=64,
    rope_theta=500_000.0,
    rope_scaling=None,
)


@pytest.fixture
def stack() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG).requires_grad_(requires_grad=False)


def cache(slots: int) -> Cache:
    return Cache.empty(CONFIG, slots, 64, device=torch.device("cpu"), dtype=torch.float32)


def tokens(count: int, seed: int) -> torch.Tensor:
    return torch.randn(1, count, CONFIG.width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("context", "low", "high"), [(1024, 0.125, 0.5), (16, 1 / 512, 1 / 128), (8192, 1, 4)]
)
def test_stretched_frequencies_equal_transformers(context: int, low: float, high: float) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        head_dim=64,
        max_position_embeddings=context,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 32.0,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": context,
        },
    )
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config)
    found = rope_frequencies(64, 500_000.0, RopeScaling(32.0, low, high, context))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_a_run_gives_the_same_whole_in_pieces_and_step_by_step(stack: Transformer) -> None:
    x = tokens(12, seed=1)
    whole_cache, pieces_cache, steps_cache = cache(1), cache(1), cache(1)
    whole = stack(x, whole_cache, whole_cache.run(0, 12))
    pieces = [
        stack(x[:, start : start + length], pieces_cache, pieces_cache.run(start, length))
        for start, length in ((0, 5), (5, 1), (6, 6))
    ]
    steps = [
        stack(x[:, [at]], steps_cache, steps_cache.step(torch.tensor([at]), reach=16))
        for at in range(12)
    ]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-5)


def test_slots_at_different_positions_do_not_see_each_other(stack: Transformer) -> None:
    first, second = tokens(9, seed=1), tokens(4, seed=2)
    expected = [
        stack(x, fresh, fresh.run(0, x.shape[1]))[:, -1]
        for x, fresh in ((first, cache(1)), (second, cache(1)))
    ]
    shared = cache(3)
    for slot, x in ((0, first), (1, second)):
        stack(x[:, :-1], shared.slots(slot, 1), shared.run(0, x.shape[1] - 1))
    last = torch.cat((first[:, -1:], second[:, -1:]))
    found = stack(last, shared.slots(0, 2), shared.step(torch.tensor([8, 3]), reach=64))
    torch.testing.assert_close(found[:, 0], torch.cat(expected), rtol=0, atol=1e-5)


def test_what_a_slot_held_before_is_forgotten(stack: Transformer) -> None:
    x = tokens(5, seed=3)
    used, fresh = cache(1), cache(1)
    stack(tokens(40, seed=4), used, used.run(0, 40))
    again = stack(x, used, used.run(0, 5))
    torch.testing.assert_close(again, stack(x, fresh, fresh.run(0, 5)), rtol=0, atol=1e-6)
