"""The convolutional ends of Mimi: from waveform to latents, and back.

After SEANet (Tagliasacchi et al., 2020, arXiv:2009.02095) as Mimi uses it (Défossez et al., 2024,
arXiv:2410.00037): each stride is a residual block and a strided convolution, ELU between all.
Knows nothing of frames or codes. The modules' names are the checkpoint's.
"""

from torch import Tensor, nn
from torch.nn import functional

from service.csm.mimi.config import CodecConfig
from service.csm.mimi.convolution import (
    CausalConvolution,
    CausalTransposedConvolution,
    Overlaps,
)


class Elu(nn.Module):
    """ELU in the shape of its neighbours: it has no overlap."""

    def forward(self, x: Tensor, _overlaps: Overlaps) -> Tensor:
        """Return `[B, S, C]` for `[B, S, C]`."""
        return functional.elu(x)


class Stack(nn.Module):
    """Layers one after the other, each taking its overlaps from the same iterator."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, overlaps: Overlaps) -> Tensor:
        """Run one block of a stream."""
        for layer in self.layers:
            x = layer(x, overlaps)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions, narrower between them, around which the input is carried."""

    def __init__(self, config: CodecConfig, channels: int, dilation: int) -> None:
        super().__init__()
        narrow = channels // config.compress
        self.block = nn.ModuleList(
            [
                Elu(),
                CausalConvolution(channels, narrow, config.residual_kernel_size, dilation=dilation),
                Elu(),
                CausalConvolution(narrow, channels, 1),
            ]
        )

    def forward(self, x: Tensor, overlaps: Overlaps) -> Tensor:
        """Return `[B, S, C]` for `[B, S, C]`."""
        y = x
        for layer in self.block:
            y = layer(y, overlaps)
        return x + y


def encoder(config: CodecConfig) -> Stack:
    """The stack from `[B, S, 1]` samples to `[B, ceil(S / product of the ratios), hidden]`."""
    channels = config.num_filters
    layers: list[nn.Module] = [CausalConvolution(1, channels, config.kernel_size)]
    for ratio in reversed(config.upsampling_ratios):
        layers += _residual_blocks(config, channels)
        layers += [Elu(), CausalConvolution(channels, 2 * channels, 2 * ratio, stride=ratio)]
        channels *= 2
    layers += [Elu(), CausalConvolution(channels, config.hidden_size, config.last_kernel_size)]
    return Stack(layers)


def decoder(config: CodecConfig) -> Stack:
    """The stack from `[B, S, hidden]` to `[B, S * product of the ratios, 1]` samples."""
    channels = config.num_filters * 2 ** len(config.upsampling_ratios)
    layers: list[nn.Module] = [CausalConvolution(config.hidden_size, channels, config.kernel_size)]
    for ratio in config.upsampling_ratios:
        layers += [Elu(), _upsampling(channels, ratio)]
        channels //= 2
        layers += _residual_blocks(config, channels)
    layers += [Elu(), CausalConvolution(channels, 1, config.last_kernel_size)]
    return Stack(layers)


def _upsampling(channels: int, ratio: int) -> CausalTransposedConvolution:
    outputs = channels // 2
    product = nn.Linear(channels, 2 * ratio * outputs)
    return CausalTransposedConvolution(product, outputs, ratio)


def _residual_blocks(config: CodecConfig, channels: int) -> list[nn.Module]:
    return [
        ResidualBlock(config, channels, config.dilation_growth_rate**index)
        for index in range(config.num_residual_layers)
    ]
