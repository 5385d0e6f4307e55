"""Random weights for a Mimi codec, in the layout of a checkpoint, that make a lively codec.

Scaled so that nothing vanishes or explodes on the way: attention is uneven, transformers add as
much as they are given, codes are diverse and decoded audio is neither silent nor loud.
"""

import math

import torch
from torch import Size, Tensor

from service.csm.mimi import CodecConfig, Mimi

TINY = CodecConfig(
    hidden_size=32,
    num_filters=4,
    upsampling_ratios=(4, 3, 2),
    num_residual_layers=2,
    codebook_size=64,
    codebook_dim=16,
    num_quantizers=6,
    num_hidden_layers=2,
    intermediate_size=64,
    num_attention_heads=4,
    head_dim=8,
    sliding_window=21,
)
REAL = CodecConfig()


def random_weights(config: CodecConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint by its name."""
    noise = torch.Generator().manual_seed(seed)
    last = f"decoder.layers.{_last_index(config)}.conv"
    weights = {}
    for name, shape in Mimi(config).checkpoint_names().items():
        weights[name] = _scaled(name, shape, torch.randn(shape, generator=noise))
        if name.startswith(last):
            weights[name] *= 0.1  # from the size of activations to that of samples
    for name in weights:
        if name.endswith("embed_sum"):
            uses = weights[name.replace("embed_sum", "cluster_usage")]
            weights[name] *= uses.clamp(min=1e-5)[:, None]
    return weights


def _last_index(config: CodecConfig) -> int:
    return 2 + len(config.upsampling_ratios) * (2 + config.num_residual_layers)


def _scaled(name: str, shape: Size, noise: Tensor) -> Tensor:
    match name.split("."):
        case [*_, "initialized"]:
            return torch.ones(shape)
        case [*_, "cluster_usage"]:
            noise = 3 * noise.abs()
            noise[: len(noise) // 16] = 0  # entries that training never used
            return noise
        case [*_, "embed_sum"]:
            return 0.3 * noise  # of the mean
        case [*_, "scale"]:
            return 0.4 + 0.1 * noise
        case [*_, "input_layernorm" | "post_attention_layernorm", "weight"]:
            return 1 + 0.1 * noise
        case [*_, "conv", "bias"]:
            return 0.02 * noise
        case [*_, "bias"]:
            return 0.1 * noise
        case _:
            return noise * _gain(name) / math.sqrt(_fan_in(name, shape))


def _gain(name: str) -> float:
    match name.split("."):
        case [*_, "q_proj" | "k_proj", "weight"]:
            return 1.6
        case ["upsample", *_] | [*_, "block", _, "conv", "weight"]:
            return 1
        case _:
            return 1.2


def _fan_in(name: str, shape: Size) -> int:
    """Return how many products meet in one output."""
    if name.startswith("upsample"):
        return 2  # columns, of one channel
    if name.startswith("decoder.layers") and shape[2] % 2 == 0:
        return 2 * shape[0]  # transposed: two columns, of every channel
    return math.prod(shape[1:])


def speechlike(frames: float, config: CodecConfig, batch: int = 1) -> Tensor:
    """Return `[B, 1, S]` of noise and tones that rise and fall, about as loud as speech."""
    samples = int(frames * config.frame_samples)
    noise = torch.Generator().manual_seed(samples)
    time = torch.arange(samples) / config.frame_samples  # in frames
    pitch = torch.tensor([7.3, 11.9, 5.1])[:batch, None]
    tones = torch.sin(2 * torch.pi * (pitch * time + 3 * torch.sin(time / 2)))
    hiss = torch.randn(batch, samples, generator=noise)
    loudness = 0.2 * (1.2 + torch.sin(time * 1.7))
    return (loudness * (tones + 0.5 * hiss))[:, None]


def random_codes(frames: int, config: CodecConfig, batch: int = 1, seed: int = 1) -> Tensor:
    """Return `[B, K, T]`."""
    noise = torch.Generator().manual_seed(seed)
    shape = (batch, config.num_quantizers, frames)
    return torch.randint(0, config.codebook_size, shape, generator=noise)
