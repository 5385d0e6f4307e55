"""The sizes of a CSM checkpoint, read from its `config.json`. It knows no tensors.

The layout is the one of transformers' `CsmConfig`: the backbone at the top level, the depth decoder
under `depth_decoder_config`, the codec under `codec_config`. A key that is left out has the value
of `sesame/csm-1b`, as it has there: files are saved without the keys that equal the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.csm.mimi.config import CodecConfig

__all__ = ["ConfigError", "CsmConfig", "RopeScaling", "TransformerConfig"]

ROPE_THETA = 500_000.0


class ConfigError(ValueError):
    """A configuration that this package cannot run: another model's, or a variant of CSM."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How Llama 3 stretches its rotary embedding over longer contexts.

    Wavelengths above `positions / low` are stretched by `factor`, those below `positions / high`
    are kept, those between are blended.
    """

    factor: float
    low: float
    high: float
    positions: int


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """One Llama-shaped stack. `positions` is how many tokens its cache may hold."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    norm_eps: float
    positions: int
    rope_theta: float
    rope_scaling: RopeScaling | None


@dataclass(frozen=True, slots=True)
class CsmConfig:
    """The two stacks, the vocabularies and the codec.

    `audio_vocabulary` counts the rows of a codebook's embedding; only the first
    `codec.codebook_size` of them are codes that the codec can decode, and only those have rows in
    the heads.
    """

    backbone: TransformerConfig
    depth: TransformerConfig
    codebooks: int
    audio_vocabulary: int
    text_vocabulary: int
    codec: CodecConfig

    @property
    def codes(self) -> int:
        """How many values a code can take: 0 to `codes - 1`."""
        return self.codec.codebook_size

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> "CsmConfig":
        """Read the content of a `config.json`.

        Raises:
            ConfigError: The table is of another model, or asks for what CSM does not do.
        """
        _expect(table, "model_type", wanted="csm")
        _expect(table, "tie_codebooks_embeddings", wanted=True, default=True)
        depth = dict(table.get("depth_decoder_config") or {})
        config = cls(
            backbone=_transformer(table, _BACKBONE),
            depth=_transformer(depth, _DEPTH),
            codebooks=int(table.get("num_codebooks", 32)),
            audio_vocabulary=int(table.get("vocab_size", 2051)),
            text_vocabulary=int(table.get("text_vocab_size", 128_256)),
            codec=CodecConfig.read(table.get("codec_config") or {}),
        )
        _expect(depth, "num_codebooks", wanted=config.codebooks, default=32)
        _expect(depth, "vocab_size", wanted=config.audio_vocabulary, default=2051)
        _expect(depth, "backbone_hidden_size", wanted=config.backbone.width, default=2048)
        if config.depth.positions <= config.codebooks:
            raise ConfigError(
                f"the depth decoder has {config.depth.positions} positions"
                f" and needs {config.codebooks + 1}, one more than codebooks"
            )
        if not 2 <= config.codebooks <= config.codec.num_quantizers:
            raise ConfigError(
                f"num_codebooks must be 2 to {config.codec.num_quantizers},"
                f" as many as the codec has: {config.codebooks}"
            )
        if config.codes > config.audio_vocabulary:
            raise ConfigError(
                f"the codec has {config.codes} codes and the model only"
                f" {config.audio_vocabulary} rows for them"
            )
        return config


_BACKBONE: Mapping[str, int] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
}
_DEPTH: Mapping[str, int] = {
    "hidden_size": 1024,
    "intermediate_size": 8192,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 33,
}


def _transformer(table: Mapping[str, Any], defaults: Mapping[str, int]) -> TransformerConfig:
    _expect(table, "hidden_act", wanted="silu", default="silu")
    _expect(table, "attention_bias", wanted=False, default=False)
    _expect(table, "mlp_bias", wanted=False, default=False)
    size = {key: int(table.get(key, value)) for key, value in defaults.items()}
    heads, kv_heads = size["num_attention_heads"], size["num_key_value_heads"]
    if heads % kv_heads:
        raise ConfigError(f"{heads} attention heads cannot share {kv_heads} key-value heads")
    # transformers 4 wrote `rope_theta` beside `rope_scaling`; transformers 5 writes both into
    # `rope_parameters`.
    rope = dict(table.get("rope_parameters") or table.get("rope_scaling") or {})
    return TransformerConfig(
        width=size["hidden_size"],
        layers=size["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_width=int(table.get("head_dim") or size["hidden_size"] // heads),
        ffn_width=size["intermediate_size"],
        norm_eps=float(table.get("rms_norm_eps", 1e-5)),
        positions=size["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta") or table.get("rope_theta") or ROPE_THETA),
        rope_scaling=_rope_scaling(rope),
    )


def _rope_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return None
    if kind != "llama3":
        raise ConfigError(f"rope_type is {kind!r}; CSM uses llama3 or default")
    return RopeScaling(
        factor=float(rope["factor"]),
        low=float(rope["low_freq_factor"]),
        high=float(rope["high_freq_factor"]),
        positions=int(rope["original_max_position_embeddings"]),
    )


def _expect(table: Mapping[str, Any], key: str, *, wanted: object, default: object = None) -> None:
    found = table.get(key, default)
    if found != wanted:
        raise ConfigError(f"{key} is {found!r} and must be {wanted!r}")
