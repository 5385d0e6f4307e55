"""Weights of 8 and 4 bits: how they are packed, and how far they are from what they stand for."""

import pytest
import torch
from torch import Tensor

from service.csm.quantise import BLOCK, Bits, Quantised, QuantiseError, dequantise, quantise


def matrix(rows: int = 48, columns: int = 384) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(6))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.007), (4, 0.11)])
def test_rounding_costs_little(bits: Bits, bound: float) -> None:
    weight = matrix()
    error = relative_error(dequantise(quantise(weight, bits)), weight)
    assert bound / 2 < error < bound


@pytest.mark.parametrize("bits", [8, 4])
def test_no_weight_is_more_than_a_step_from_its_rounded_one(bits: Bits) -> None:
    weight = matrix()
    quantised = quantise(weight, bits)
    steps = quantised.scales.abs().repeat_interleave(BLOCK, dim=1)
    assert ((dequantise(quantised) - weight).abs() <= steps * 1.0001).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_farthest_from_zero_in_a_block_is_kept(bits: Bits) -> None:
    weight = torch.linspace(-0.1, 0.1, 256)[None].repeat(2, 1)
    weight[0, 17] = 5.0
    weight[1, 200] = -7.0
    kept = dequantise(quantise(weight, bits))
    torch.testing.assert_close(kept[0, 17], torch.tensor(5.0))
    torch.testing.assert_close(kept[1, 200], torch.tensor(-7.0))


@pytest.mark.parametrize("bits", [8, 4])
def test_an_outlier_coarsens_its_own_block_alone(bits: Bits) -> None:
    weight = matrix()
    loud = weight.clone()
    loud[3, 5] = 1000.0
    changed = dequantise(quantise(loud, bits)) != dequantise(quantise(weight, bits))
    assert changed[3, :BLOCK].any()
    changed[3, :BLOCK] = False
    assert not changed.any()


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_and_what_is_next_to_nothing_stay_zero(bits: Bits) -> None:
    weight = torch.zeros(2, 128)
    weight[1] = 1e-42
    assert not dequantise(quantise(weight, bits)).any()


def test_of_two_numbers_of_4_bits_the_first_is_the_lower_half_of_its_byte() -> None:
    weight = torch.zeros(1, 16)
    weight[0, :3] = torch.tensor([-8.0, 7.0, 1.0])
    assert quantise(weight, 4).packed.flatten()[:2].tolist() == [0xF0, 0x89]


def test_bfloat16_weights_are_taken_as_they_are() -> None:
    weight = matrix().bfloat16()
    found = quantise(weight, 8)
    expected = quantise(weight.float(), 8)
    assert torch.equal(found.packed, expected.packed)
    assert torch.equal(found.scales, expected.scales)


@pytest.mark.parametrize(("columns", "block"), [(1024, 128), (192, 64), (48, 16)])
def test_blocks_are_as_large_as_the_rows_allow(columns: int, block: int) -> None:
    found: Quantised = quantise(matrix(columns=columns), 8)
    assert found.block == block
    assert found.packed.shape == (48, columns // block, block)


def test_rows_without_blocks_are_refused() -> None:
    with pytest.raises(QuantiseError, match="rows of 40 weights have no blocks of 16"):
        quantise(matrix(columns=40), 8)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_not_finite_is_refused(value: float) -> None:
    weight = matrix()
    weight[7, 7] = value
    with pytest.raises(QuantiseError, match="a weight is not finite"):
        quantise(weight, 4)
