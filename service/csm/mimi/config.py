"""The shape of a Mimi codec, read from the `codec_config` of a checkpoint's `config.json`.

Knows which variants of the architecture the modules beside it are built for and refuses the rest;
does not know where a configuration comes from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeGuard

# Fields of the transformers configuration that the modules have no branch for, with the one value
# that they are built for. `sesame/csm-1b` and `kyutai/mimi` have exactly these.
BUILT_FOR: Mapping[str, object] = {
    "attention_bias": False,
    "audio_channels": 1,
    "hidden_act": "gelu",
    "pad_mode": "constant",
    "trim_right_ratio": 1.0,
    "use_causal_conv": True,
    "use_conv_shortcut": False,
}
ROPE_THETA = 10_000.0
# Fields of ours that the file does not hold as they are.
DERIVED = ("rope_theta", "latent_stride")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecConfig:
    """Shape of a Mimi codec; the defaults are the codec of `sesame/csm-1b`.

    The fields bear the names of transformers' `MimiConfig`, except the last.

    Attributes:
        sampling_rate: Samples a second, Hz.
        hidden_size: Width of the latents and of both transformers.
        num_filters: Channels of the convolution nearest to the waveform.
        upsampling_ratios: Strides of the decoder, in order; the encoder has them in reverse.
        kernel_size: Width of the first convolution of each convolutional stack.
        last_kernel_size: Width of the last one.
        residual_kernel_size: Width of the first convolution of a residual block.
        num_residual_layers: Residual blocks for each stride.
        dilation_growth_rate: Block *j* of a stride is dilated by this to the power of *j*.
        compress: A residual block is narrower than its surroundings by this factor.
        codebook_size: Entries in a codebook.
        codebook_dim: Width of an entry.
        num_quantizers: Codebooks in all.
        num_semantic_quantizers: How many of them, from the first on, are semantic.
        num_hidden_layers: Layers of each of the two transformers.
        intermediate_size: Width of their feed-forward layers.
        num_attention_heads: Their heads.
        head_dim: Width of a head.
        norm_eps: Added to the variance in a layer norm.
        sliding_window: Positions that a position attends to, itself included.
        rope_theta: Base of the rotary embedding.
        latent_stride: Positions of a transformer in one frame of codes.
    """

    sampling_rate: int = 24_000
    hidden_size: int = 512
    num_filters: int = 64
    upsampling_ratios: tuple[int, ...] = (8, 6, 5, 4)
    kernel_size: int = 7
    last_kernel_size: int = 3
    residual_kernel_size: int = 3
    num_residual_layers: int = 1
    dilation_growth_rate: int = 2
    compress: int = 2
    codebook_size: int = 2048
    codebook_dim: int = 256
    num_quantizers: int = 32
    num_semantic_quantizers: int = 1
    num_hidden_layers: int = 8
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    head_dim: int = 64
    norm_eps: float = 1e-5
    sliding_window: int = 250
    rope_theta: float = ROPE_THETA
    latent_stride: int = 2

    @property
    def frame_samples(self) -> int:
        """Samples in one frame of codes: 1920, or 80 ms, for `sesame/csm-1b`."""
        return math.prod(self.upsampling_ratios) * self.latent_stride

    @classmethod
    def read(cls, mapping: Mapping[str, object]) -> Self:
        """Read the `codec_config` object of a transformers `config.json`.

        A field that is absent has transformers' default, which is also the one above.

        Raises:
            ValueError: a field has the wrong type, or names an architecture that this is not.
        """
        model_type = mapping.get("model_type", "mimi")
        if model_type != "mimi":
            raise ValueError(f"codec_config.model_type must be 'mimi', not {model_type!r}")
        given: dict[str, Any] = {
            field.name: _checked(field.name, mapping[field.name])
            for field in fields(cls)
            if field.name not in DERIVED and mapping.get(field.name) is not None
        }
        given["rope_theta"] = _rope_theta(mapping)
        config = replace(cls(), **given)
        config = replace(
            config,
            head_dim=given.get("head_dim", config.hidden_size // config.num_attention_heads),
            latent_stride=_latent_stride(mapping, config),
        )
        _refuse_other_architectures(config, mapping)
        return config


def _refuse_other_architectures(config: CodecConfig, mapping: Mapping[str, object]) -> None:
    built_for = {
        **BUILT_FOR,
        "num_key_value_heads": config.num_attention_heads,
        "upsample_groups": config.hidden_size,
        "vector_quantization_hidden_dimension": config.codebook_dim,
    }
    for name, wanted in built_for.items():
        if mapping.get(name, wanted) != wanted:
            raise ValueError(
                f"codec_config.{name} must be {wanted!r} for this codec, not {mapping[name]!r}"
            )
    if config.codebook_dim == config.hidden_size:
        # transformers then drops the projections around the quantizer.
        raise ValueError(
            "codec_config.codebook_dim must differ from codec_config.hidden_size for this "
            f"codec; both are {config.hidden_size}"
        )
    if config.num_semantic_quantizers >= config.num_quantizers:
        raise ValueError(
            "codec_config.num_semantic_quantizers must be less than "
            f"codec_config.num_quantizers ({config.num_quantizers}), "
            f"not {config.num_semantic_quantizers}"
        )


def _checked(name: str, value: object) -> int | float | tuple[int, ...]:
    if name == "upsampling_ratios":
        if isinstance(value, list | tuple) and value and all(map(_is_positive_integer, value)):
            return tuple(value)
        raise ValueError(f"codec_config.{name} must be a list of positive integers, not {value!r}")
    if name == "norm_eps":
        if isinstance(value, float) and value > 0:
            return value
        raise ValueError(f"codec_config.{name} must be a positive number, not {value!r}")
    if not _is_positive_integer(value):
        raise ValueError(f"codec_config.{name} must be a positive integer, not {value!r}")
    return value


def _is_positive_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _rope_theta(mapping: Mapping[str, object]) -> float:
    """Base of the rotary embedding: a field until transformers 4, inside a table from 5 on."""
    table = mapping.get("rope_parameters") or {}
    if not isinstance(table, Mapping) or table.get("rope_type", "default") != "default":
        raise ValueError(
            "codec_config.rope_parameters must have the rope_type 'default' for this codec: "
            f"{table!r}"
        )
    theta = table.get("rope_theta", mapping.get("rope_theta", ROPE_THETA))
    if not isinstance(theta, int | float) or theta <= 1:
        raise ValueError(f"codec_config.rope_theta must be a number above 1, not {theta!r}")
    return float(theta)


def _latent_stride(mapping: Mapping[str, object], config: CodecConfig) -> int:
    """Positions in a frame. transformers 4 writes `frame_rate`, and 5 `_frame_rate`, maybe null."""
    rate = mapping.get("frame_rate", mapping.get("_frame_rate"))
    if rate is None:
        return config.latent_stride
    positions = config.sampling_rate / math.prod(config.upsampling_ratios)  # a second
    stride = positions / rate if isinstance(rate, int | float) and rate > 0 else 0
    if stride < 2 or stride != int(stride):
        raise ValueError(
            f"codec_config.frame_rate must divide {positions:g} positions a second by a whole "
            f"number from 2 on, not {rate!r}"
        )
    return int(stride)
