"""The choice of a code: its distribution, and noise that depends on nothing but its numbers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from service.csm import Sampling
from service.csm.sampling import (
    CANDIDATES,
    LARGEST_TOP_K,
    SEEDS,
    _mix,
    _signed,
    candidates_for,
    frame_noise,
    sample,
)


def noise(
    seeds: list[int],
    frames: list[int],
    *,
    temperature: float = 1.0,
    top_k: int = CANDIDATES,
    codebooks: int = 32,
    candidates: int = CANDIDATES,
) -> Tensor:
    return frame_noise(
        torch.tensor(seeds),
        torch.tensor(frames),
        torch.full((len(seeds),), temperature),
        torch.full((len(seeds),), top_k),
        codebooks=codebooks,
        candidates=candidates,
    )


def test_the_bits_are_those_of_splitmix64() -> None:
    golden = _signed(0x9E3779B97F4A7C15)
    outputs = _mix(torch.tensor(1234567) + torch.arange(1, 4) * golden)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [value % 2**64 for value in outputs.tolist()] == expected


def test_noise_is_gumbel_distributed() -> None:
    values = noise(list(range(50)), [7] * 50).flatten().double()
    assert values.isfinite().all()
    assert values.mean().item() == pytest.approx(0.57722, abs=0.01)
    assert values.var().item() == pytest.approx(math.pi**2 / 6, rel=0.02)


def test_noise_is_the_same_whoever_shares_the_batch() -> None:
    alone = noise([5], [9])
    shared = noise([1, 5, 2**62], [9, 9, 400])
    assert torch.equal(shared[1], alone[0])


@pytest.mark.parametrize("other", [noise([5], [10]), noise([6], [9]), noise([5 + 2**40], [9])])
def test_another_seed_or_frame_gives_unrelated_noise(other: Tensor) -> None:
    pairs = torch.stack((noise([5], [9]).flatten(), other.flatten()))
    assert pairs.corrcoef()[0, 1].abs() < 0.1
    assert len(set(pairs.flatten().tolist())) > 0.99 * pairs.numel()


def test_codebooks_and_frames_never_share_noise() -> None:
    values = noise([5] * 20, list(range(20))).flatten(1)
    assert len(set(values.flatten().tolist())) > 0.99 * values.numel()


def test_more_candidates_change_no_noise_of_the_others() -> None:
    few, all_of_them = noise([5], [9]), noise([5], [9], candidates=LARGEST_TOP_K, top_k=300)
    assert torch.equal(all_of_them[..., :CANDIDATES], few)
    assert all_of_them[..., :300].isfinite().all()
    assert all_of_them[..., 300:].isneginf().all()


@pytest.mark.parametrize(
    ("top_k", "candidates"),
    [(1, CANDIDATES), (CANDIDATES, CANDIDATES), (CANDIDATES + 1, LARGEST_TOP_K)],
)
def test_candidates_are_few_unless_a_request_asks_for_more(top_k: int, candidates: int) -> None:
    assert candidates_for(top_k) == candidates


def test_codes_are_drawn_from_the_distribution_of_transformers() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper

    draws, temperature, top_k = 40_000, 0.7, 12
    logits = torch.randn(1, 200, generator=torch.Generator().manual_seed(3)) * 1.5
    warped = TopKLogitsWarper(top_k)(
        None, TemperatureLogitsWarper(temperature)(None, logits.clone())
    )
    expected = warped.softmax(dim=-1)[0] * draws

    one_book = noise(
        [11] * draws, list(range(draws)), temperature=temperature, top_k=top_k, codebooks=1
    )[:, 0]
    counts = sample(logits.expand(draws, -1), one_book).bincount(minlength=200)

    assert counts[expected == 0].sum() == 0
    likely = expected > 0
    chi_square = ((counts - expected)[likely].square() / expected[likely]).sum()
    assert chi_square < 31.3  # 11 degrees of freedom: one run in a thousand is above


def test_no_temperature_and_top_1_choose_the_most_likely_code() -> None:
    logits = torch.randn(6, 500, generator=torch.Generator().manual_seed(4))
    for still in (noise([1] * 6, [0] * 6, temperature=0), noise([1] * 6, [0] * 6, top_k=1)):
        assert torch.equal(sample(logits, still[:, 0]), logits.argmax(dim=-1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("top_k", 0),
        ("top_k", LARGEST_TOP_K + 1),
        ("seed", -1),
        ("seed", SEEDS),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    values: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be 0 to|^{name} must be 1 to"):
        Sampling(**values)
