"""What a codec reads from `config.json` and from a checkpoint, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from service.csm.mimi import CodecConfig, Mimi
from tests.csm.mimi_oracle import transformers_json
from tests.csm.mimi_weights import REAL, TINY, random_codes, random_weights

# Of `kyutai/mimi` and `sesame/csm-1b`, as transformers 4 wrote it.
PUBLISHED = {
    "model_type": "mimi",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "audio_channels": 1,
    "codebook_dim": 256,
    "codebook_size": 2048,
    "compress": 2,
    "dilation_growth_rate": 2,
    "frame_rate": 12.5,
    "head_dim": 64,
    "hidden_act": "gelu",
    "hidden_size": 512,
    "intermediate_size": 2048,
    "kernel_size": 7,
    "last_kernel_size": 3,
    "layer_scale_initial_scale": 0.01,
    "norm_eps": 1e-05,
    "normalize": False,
    "num_attention_heads": 8,
    "num_filters": 64,
    "num_hidden_layers": 8,
    "num_key_value_heads": 8,
    "num_quantizers": 32,
    "num_residual_layers": 1,
    "num_semantic_quantizers": 1,
    "pad_mode": "constant",
    "residual_kernel_size": 3,
    "rope_theta": 10000.0,
    "sampling_rate": 24000,
    "sliding_window": 250,
    "trim_right_ratio": 1.0,
    "upsample_groups": 512,
    "upsampling_ratios": [8, 6, 5, 4],
    "use_causal_conv": True,
    "use_conv_shortcut": False,
    "vector_quantization_hidden_dimension": 256,
}


@pytest.mark.parametrize("published", [PUBLISHED, {}, {"frame_rate": None}, {"_frame_rate": 12.5}])
def test_the_published_codec_is_the_default(published: dict[str, object]) -> None:
    assert CodecConfig.read(published) == REAL
    assert REAL.frame_samples == 1920


@pytest.mark.parametrize("config", [TINY, REAL])
def test_what_transformers_writes_is_read(config: CodecConfig) -> None:
    from transformers import MimiConfig

    written: Any = MimiConfig(**transformers_json(config))

    assert CodecConfig.read(written.to_dict()) == config


def test_a_head_is_as_wide_as_its_share_unless_said() -> None:
    assert CodecConfig.read(PUBLISHED | {"head_dim": None}).head_dim == 64


def test_another_frame_rate_is_read() -> None:
    config = CodecConfig.read(PUBLISHED | {"frame_rate": 6.25})

    assert (config.latent_stride, config.frame_samples) == (4, 3840)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "encodec", "codec_config.model_type must be 'mimi', not 'encodec'"),
        ("audio_channels", 2, "codec_config.audio_channels must be 1 for this codec, not 2"),
        ("use_causal_conv", False, "codec_config.use_causal_conv must be True"),
        ("hidden_act", "silu", "codec_config.hidden_act must be 'gelu' for this codec, not 'silu'"),
        ("num_key_value_heads", 2, "codec_config.num_key_value_heads must be 8"),
        ("upsample_groups", 1, "codec_config.upsample_groups must be 512"),
        ("vector_quantization_hidden_dimension", 128, "must be 256 for this codec, not 128"),
        ("codebook_size", "2048", "codec_config.codebook_size must be a positive integer"),
        ("codebook_size", True, "codec_config.codebook_size must be a positive integer, not True"),
        ("num_filters", 0, "codec_config.num_filters must be a positive integer, not 0"),
        ("norm_eps", "tiny", "codec_config.norm_eps must be a positive number, not 'tiny'"),
        ("upsampling_ratios", [8, 0], "codec_config.upsampling_ratios must be a list of positive"),
        ("num_semantic_quantizers", 32, "must be less than codec_config.num_quantizers (32)"),
        ("frame_rate", 11, "codec_config.frame_rate must divide 25 positions a second"),
        ("rope_theta", "x", "codec_config.rope_theta must be a number above 1, not 'x'"),
        ("rope_parameters", {"rope_type": "yarn"}, "must have the rope_type 'default'"),
    ],
)
def test_another_architecture_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the message is compared below
        CodecConfig.read(PUBLISHED | {field: value})

    assert message in str(refusal.value)


def test_a_codebook_as_wide_as_the_latents_is_refused() -> None:
    wide = {"codebook_dim": 512, "vector_quantization_hidden_dimension": 512}
    with pytest.raises(ValueError, match="codebook_dim must differ from"):
        CodecConfig.read(PUBLISHED | wide)


def test_missing_weights_are_named() -> None:
    weights = random_weights(TINY)
    for name in [name for name in weights if name.startswith("decoder.layers.1")]:
        del weights[name]

    with pytest.raises(
        ValueError, match=r"lack decoder\.layers\.1\S+, \S+, decoder\S+ and \d+ more$"
    ):
        Mimi(TINY).load(weights)


def test_weights_of_another_shape_are_named() -> None:
    weights = random_weights(TINY) | {"downsample.conv.weight": torch.zeros(32, 32, 8)}

    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the message is compared below
        Mimi(TINY).load(weights)

    assert str(refusal.value) == (
        "The codec's downsample.conv.weight must be [32, 32, 4], not [32, 32, 8]"
    )


def test_weights_of_a_larger_codec_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \[\d"):
        Mimi(TINY).load(random_weights(replace(TINY, hidden_size=48, head_dim=12)))


def test_marks_may_be_missing_and_other_tensors_there() -> None:
    whole = random_weights(TINY)
    partial = {name: whole[name] for name in whole if not name.endswith(".initialized")}
    codec, other = Mimi(TINY), Mimi(TINY)
    codes = random_codes(3, TINY)

    codec.load(whole)
    other.load(partial | {"something.else": torch.zeros(1)})

    assert torch.equal(codec.decode(codes), other.decode(codes))


def test_weights_are_copied() -> None:
    weights = random_weights(TINY)
    codec = Mimi(TINY)
    codec.load(weights)
    codes = random_codes(3, TINY)
    before = codec.decode(codes)

    for tensor in weights.values():
        tensor.zero_()

    assert torch.equal(codec.decode(codes), before)
