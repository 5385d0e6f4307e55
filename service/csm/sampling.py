"""The choice of a code from logits. It knows neither model nor device, and keeps no state.

Drawing from `softmax(logits / t)` is the same as taking the largest of `logits + t * g`, with
Gumbel noise `g = -log(e)` and `e` exponential: `argmax(p / e)`, the exponential trick, in
logarithms. The noise is a function of (seed, frame, codebook, rank) alone. So it needs no
generator, is drawn for a whole frame at once, in a CUDA graph too, and a request gets the same
noise whoever shares its batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "CANDIDATES",
    "LARGEST_TOP_K",
    "SEEDS",
    "Sampling",
    "candidates_for",
    "frame_noise",
    "sample",
]

CANDIDATES = 64
"""How many of the most likely codes are looked at, unless a request asks for more."""

LARGEST_TOP_K = 2051
"""As many as the rows of a codebook's embedding. No model here has more codes."""

SEEDS = 2**63
"""Seeds are 0 to `SEEDS - 1`."""

RANKS = 4096  # noise counters set aside for one codebook: more than there are codes
CODEBOOKS = 64  # and for one frame


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request draws its codes; the defaults are CSM's own.

    + temperature: 0 (always the most likely code) to 2.
    + top_k: draw from so many of the most likely codes, 1 to `LARGEST_TOP_K`.
    + seed: 0 to `SEEDS - 1`.
    """

    temperature: float = 0.9
    top_k: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be 0 to 2: {self.temperature}")
        if not 1 <= self.top_k <= LARGEST_TOP_K:
            raise ValueError(f"top_k must be 1 to {LARGEST_TOP_K}: {self.top_k}")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"seed must be 0 to {SEEDS - 1}: {self.seed}")


def candidates_for(top_k: int) -> int:
    """Give how many candidates a step needs for the largest `top_k` of its slots.

    Few sizes occur, so that few graphs are captured: the usual number, or all.
    """
    return CANDIDATES if top_k <= CANDIDATES else LARGEST_TOP_K


def sample(logits: Tensor, noise: Tensor) -> Tensor:
    """Choose codes `[B]` from logits `[B, V]` with noise `[B, C]`, one for each rank."""
    values, codes = logits.float().topk(noise.shape[-1], dim=-1)  # [B, C]
    rank = (values + noise).argmax(dim=-1, keepdim=True)  # [B, 1]
    return codes.gather(-1, rank)[:, 0]


def frame_noise(
    seeds: Tensor,
    frames: Tensor,
    temperatures: Tensor,
    top_k: Tensor,
    *,
    codebooks: int,
    candidates: int = CANDIDATES,
) -> Tensor:
    """Draw a frame's noise: `[B, codebooks, candidates]` float32, -inf at ranks past `top_k`.

    + seeds, frames, top_k: `[B]` int64. + temperatures: `[B]` float32; 0 gives no noise.
    """
    device = seeds.device
    ranks = torch.arange(candidates, device=device)  # [C]
    books = torch.arange(codebooks, device=device)[:, None]  # [codebooks, 1]
    counters = (frames[:, None, None] * CODEBOOKS + books) * RANKS + ranks  # [B, codebooks, C]
    uniform = _uniform(seeds[:, None, None], counters)
    noise = temperatures[:, None, None] * -torch.log(-torch.log(uniform))
    return noise.masked_fill(ranks >= top_k[:, None, None], -math.inf)


def _uniform(seeds: Tensor, counters: Tensor) -> Tensor:
    """Give float32 strictly between 0 and 1.

    It is element `counter` of the SplitMix64 sequence of the mixed seed.
    SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
    2014. The seed is mixed first, or the sequences of neighbouring seeds would be shifts of each
    other.
    """
    bits = _mix(_mix(seeds) + (counters + 1) * _signed(0x9E3779B97F4A7C15))
    # 23 bits and a half: float32 holds every such number exactly, and none of them is 0 or 1.
    return (((bits >> 41) & 0x7FFFFF).float() + 0.5) * 2.0**-23


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically; SplitMix64 wants zeros from the left.
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
