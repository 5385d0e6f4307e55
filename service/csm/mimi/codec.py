"""Mimi: 24 kHz audio to 12.5 frames of codes a second, and back, whole or block by block.

After Défossez et al., 2024 (arXiv:2410.00037). Knows nothing of CSM, files or requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor, nn

from service.csm.mimi import seanet, weights
from service.csm.mimi.config import CodecConfig
from service.csm.mimi.convolution import (
    CausalConvolution,
    CausalTransposedConvolution,
    Depthwise,
    overlaps_of,
)
from service.csm.mimi.quantizer import Quantizer
from service.csm.mimi.transformer import BLOCK_POSITIONS, Transformer, Window


@dataclass(frozen=True, slots=True)
class DecodeStream:
    """What decoding remembers of a batch of streams between two steps.

    Its tensors never change shape or place, so that a captured graph can go on using them.

    Attributes:
        overlaps: One a convolution, `[B, columns, C]`.
        window: Of the transformer.
    """

    overlaps: list[Tensor]
    window: Window

    @property
    def tensors(self) -> list[Tensor]:
        """All of the memory; the first dimension of each tensor is the slot."""
        return [*self.overlaps, self.window.position, *self.window.keys, *self.window.values]

    def reset(self, slots: Tensor) -> None:
        """Let new streams begin in some slots; the others go on undisturbed.

        Args:
            slots: Which, `[B]` bool, on the stream's device.
        """
        for tensor in self.tensors:
            # Rings too, though nothing would attend to them: a NaN there would outlive its stream.
            tensor.masked_fill_(slots.view(-1, *[1] * (tensor.dim() - 1)), 0)


class Mimi(nn.Module):
    """The codec. Its weights are arbitrary until `load`.

    Args:
        config: Its shape.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        width, stride = config.hidden_size, config.latent_stride
        self.encoder = seanet.encoder(config)
        self.encoder_transformer = Transformer(config)
        self.downsample = CausalConvolution(width, width, 2 * stride, stride=stride, bias=False)
        self.quantizer = Quantizer(config)
        self.upsample = CausalTransposedConvolution(Depthwise(width, stride), width, stride)
        self.decoder_transformer = Transformer(config)
        self.decoder = seanet.decoder(config)
        self.block_frames = BLOCK_POSITIONS // stride
        self.requires_grad_(requires_grad=False)

    def checkpoint_names(self) -> dict[str, Size]:
        """Return name and shape of every tensor in a checkpoint of this codec."""
        names: dict[str, Size] = {}
        for source in weights.sources(self).values():
            names |= source.shapes
        return names | weights.marks(self.quantizer)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint; they are copied, into this codec's type and device.

        Args:
            tensors: By the names of `checkpoint_names`. Others are ignored, and the
                `codebook.initialized` marks may be missing.

        Raises:
            ValueError: tensors are missing, or have another shape.
        """
        self._refuse_other_shapes(tensors)
        own = self.state_dict()
        for name, source in weights.sources(self).items():
            own[name].copy_(source.fold([tensors[part] for part in source.shapes]))

    def encode(self, audio: Tensor) -> Tensor:
        """Describe audio by codes.

        Args:
            audio: `[B, 1, S]` samples at 24 kHz, about -1 to 1; *S* is at least 1. A last frame
                that is not full is filled up inside, as upstream does.

        Returns:
            `[B, K, ceil(S / frame_samples)]` int64, from 0 to `codebook_size - 1`.

        Raises:
            ValueError: the shape is another.
        """
        if audio.dim() != 3 or audio.shape[1] != 1 or audio.shape[2] == 0:
            raise ValueError(f"Audio to encode must be [B, 1, S ≥ 1], not {list(audio.shape)}")
        audio = audio.to(self._like().dtype)
        batch = audio.shape[0]
        overlaps = overlaps_of(self.encoder, batch, audio)
        window = self.encoder_transformer.start(batch, audio)
        hidden = []
        # In blocks, so that a long clip does not take memory by its length.
        samples = self.block_frames * self.config.frame_samples
        for block in torch.split(audio.transpose(1, 2), samples, dim=1):
            x = self.encoder(block, iter(overlaps))  # [B, positions, D]
            hidden.append(self.encoder_transformer(x, window))
        latents = self._downsample(torch.cat(hidden, dim=1))  # [B, T, D]
        return self.quantizer.encode(latents)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the audio that codes describe: `decode_step` on a stream of its own."""
        return self.decode_step(codes, self.stream(codes.shape[0]))

    def stream(self, batch: int) -> DecodeStream:
        """Return the start of `batch` streams, of this codec's type and on its device."""
        like = self._like()
        overlaps = overlaps_of(self.upsample, batch, like) + overlaps_of(self.decoder, batch, like)
        return DecodeStream(overlaps, self.decoder_transformer.start(batch, like))

    def decode_step(self, codes: Tensor, state: DecodeStream) -> Tensor:
        """Decode the next frames of every stream in a batch.

        However a stream is cut into steps, its audio is the same.

        Args:
            codes: `[B, K, t]` int64 from 0 on, *t* at least 1. Codes from `codebook_size` on (CSM
                has a few that Mimi has not) add nothing to their frame.
            state: From `stream`; moved on by *t* frames.

        Returns:
            `[B, 1, t * frame_samples]` samples at 24 kHz, about -1 to 1, not clipped.

        Raises:
            ValueError: the shape is another.
        """
        wanted = (state.window.position.shape[0], self.config.num_quantizers)
        if codes.dim() != 3 or codes.shape[:2] != wanted or codes.shape[2] == 0:
            raise ValueError(
                f"Codes to decode must be [{wanted[0]}, {wanted[1]}, t ≥ 1], "
                f"not {list(codes.shape)}"
            )
        blocks = torch.split(codes, self.block_frames, dim=-1)
        return torch.cat([self._decode_block(block, state) for block in blocks], dim=-1)

    def _decode_block(self, codes: Tensor, state: DecodeStream) -> Tensor:
        overlaps = iter(state.overlaps)
        latents = self.quantizer.decode(codes)  # [B, t, D]
        x = self.upsample(latents, overlaps)  # [B, t * stride, D]
        x = self.decoder_transformer(x, state.window)
        y: Tensor = self.decoder(x, overlaps)  # [B, t * frame_samples, 1]
        return y.transpose(1, 2)

    def _downsample(self, x: Tensor) -> Tensor:
        # Alone among the convolutions, this one is padded with the first and the last column.
        rest = -x.shape[1] % self.config.latent_stride
        x = torch.cat((x, x[:, -1:].expand(-1, rest, -1)), dim=1)
        y: Tensor = self.downsample(x, iter([x[:, :1].repeat(1, self.downsample.overlap[0], 1)]))
        return y

    def _like(self) -> Tensor:
        """Return a tensor of this codec's type and device: a norm, for norms stay as they are."""
        return self.decoder_transformer.layers[0].get_parameter("input_layernorm.weight")

    def _refuse_other_shapes(self, tensors: Mapping[str, Tensor]) -> None:
        marks = weights.marks(self.quantizer)
        names = {n: shape for n, shape in self.checkpoint_names().items() if n not in marks}
        if missing := sorted(names.keys() - tensors.keys()):
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ValueError(f"The codec's weights lack {', '.join(missing[:3])}{more}")
        for name, shape in names.items():
            if tensors[name].shape != shape:
                raise ValueError(
                    f"The codec's {name} must be {list(shape)}, not {list(tensors[name].shape)}"
                )
