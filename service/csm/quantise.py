"""Weights as whole numbers of 8 or 4 bits, with one scale for each block of a row.

It knows the layout that ONNX Runtime's `MatMulNBits` reads, and neither the model nor the runtime.
"""

import math
import mmap
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Bits", "QuantiseError", "Quantised", "dequantise", "quantise"]

Bits = Literal[4, 8]

BLOCK = 128
"""Weights that share a scale. With 64, a frame of int8 takes a quarter longer; with 32, half."""

SMALLEST_BLOCK = 16  # what `MatMulNBits` takes
SMALLEST_WEIGHT = 1e-30  # its inverse is a float32 still
CHUNK = 2**21
"""Weights quantised at a time. With fewer, torch's threads meet more often than they work, and on
cores that others use too each meeting takes a time slice; with more, they leave the cache."""


class QuantiseError(ValueError):
    """Weights that whole numbers cannot stand for."""


class Quantised(NamedTuple):
    """A matrix `[N, K]`, its rows cut into blocks.

    + packed: `[N, K / block, block * bits / 8]` uint8; of two 4-bit numbers the first is the lower
      half of its byte. Half of the range stands for 0.
    + scales: `[N, K / block]` float32.
    """

    packed: Tensor
    scales: Tensor
    bits: Bits
    block: int


def quantise(weight: Tensor, bits: Bits) -> Quantised:
    """Round a float matrix `[N, K]` to `bits` bits.

    The entry of a block that is farthest from 0 becomes the lowest number, whatever its sign, so
    that none of the numbers is wasted.

    Raises:
        QuantiseError: K is no multiple of 16, or a weight is not finite.
    """
    rows, columns = weight.shape
    block = math.gcd(columns, BLOCK)
    if block < SMALLEST_BLOCK:
        raise QuantiseError(f"its rows of {columns} weights have no blocks of {SMALLEST_BLOCK}")
    blocks = columns // block
    packed = _allocate(rows * columns * bits // 8).view(rows, blocks, block * bits // 8)
    scales = torch.empty(rows, blocks)
    step = max(1, CHUNK // columns)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        _quantise_into(weight[part], packed[part], scales[part], bits)
    if not scales.isfinite().all():
        raise QuantiseError("a weight is not finite")
    return Quantised(packed, scales, bits, block)


def dequantise(weight: Quantised) -> Tensor:
    """Give back the float32 matrix `[N, K]` that a quantised one stands for."""
    numbers = weight.packed
    if weight.bits == 4:
        numbers = torch.stack((numbers & 0xF, numbers >> 4), dim=-1).flatten(-2)
    around_zero = numbers.float() - 2.0 ** (weight.bits - 1)
    return (around_zero * weight.scales[..., None]).flatten(1)


def _allocate(size: int) -> Tensor:
    """Give so many bytes that go back to the system when they are released.

    The runtime keeps weights in an order of its own and releases these. The allocator of C would
    hold on to them: a gigabyte of the full model's.
    """
    return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)


def _quantise_into(weight: Tensor, packed: Tensor, scales: Tensor, bits: Bits) -> None:
    half = 2 ** (bits - 1)
    blocks = weight.float().unflatten(1, (scales.shape[1], -1))  # [n, K / block, block]
    low, high = blocks.aminmax(dim=-1)
    farthest = torch.where(-low > high, low, high)
    # So small a block has no inverse, and is as good as zero: any number times the scale 0.
    scales.copy_(torch.where(farthest.abs() < SMALLEST_WEIGHT, 0, farthest / -half))
    inverse = torch.where(scales == 0, 0, 1 / scales)
    numbers = (blocks * inverse[..., None]).round_().add_(half).clamp_(0, 2 * half - 1)
    numbers = numbers.to(torch.uint8)
    if bits == 4:
        numbers = numbers[..., ::2] | numbers[..., 1::2] << 4
    packed.copy_(numbers)
