"""The same weights in two other implementations of Mimi: transformers' and Kyutai's own."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from service.csm.mimi import CodecConfig, Mimi

TOLERANCE = 2e-5  # of samples; the errors are a tenth of it


class Pair(NamedTuple):
    """The same weights, here and in another implementation."""

    config: CodecConfig
    codec: Mimi
    oracle: Any


def assert_same_audio(audio: Tensor, expected: Tensor) -> None:
    """Compare audio that is neither silent nor loud: of such, nothing would be proved."""
    loudness = expected.square().mean(dim=-1).sqrt()
    assert loudness.min() > 0.05
    assert loudness.max() < 0.5
    torch.testing.assert_close(audio, expected, rtol=0, atol=TOLERANCE)


def transformers_json(config: CodecConfig) -> dict[str, Any]:
    """Return the `codec_config` that transformers would write for a codec."""
    fields = asdict(config)
    del fields["latent_stride"]  # it follows from the rest
    theta = fields.pop("rope_theta")
    return fields | {
        "model_type": "mimi",
        "upsampling_ratios": list(config.upsampling_ratios),
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "num_key_value_heads": config.num_attention_heads,
        "upsample_groups": config.hidden_size,
        "vector_quantization_hidden_dimension": config.codebook_dim,
    }


def transformers_mimi(config: CodecConfig, weights: Mapping[str, Tensor], folder: Path) -> Any:
    """Write a checkpoint and let transformers open it, which must not miss or spare a tensor."""
    import transformers

    transformers.MimiConfig(**transformers_json(config)).save_pretrained(folder)
    save_file(dict(weights), folder / "model.safetensors", metadata={"format": "pt"})
    opened: Any = transformers.MimiModel.from_pretrained(folder, output_loading_info=True)
    model, loading = opened
    assert not any(loading.values()), loading
    return model.eval().requires_grad_(requires_grad=False)


def moshi_mimi(config: CodecConfig, weights: Mapping[str, Tensor]) -> Any:
    """Give the weights to moshi, by its names and in its order of a head's elements."""
    from moshi.models import loaders

    positions = config.sampling_rate / (config.frame_samples / config.latent_stride)
    seanet = loaders._seanet_kwargs | {
        "dimension": config.hidden_size,
        "n_filters": config.num_filters,
        "n_residual_layers": config.num_residual_layers,
        "ratios": list(config.upsampling_ratios),
    }
    transformer = loaders._transformer_kwargs | {
        "d_model": config.hidden_size,
        "num_heads": config.num_attention_heads,
        "num_layers": config.num_hidden_layers,
        "context": config.sliding_window,
        "dim_feedforward": config.intermediate_size,
        "input_dimension": config.hidden_size,
        "output_dimensions": [config.hidden_size],
    }
    quantizer = loaders._quantizer_kwargs | {
        "dimension": config.codebook_dim,
        "n_q": config.num_quantizers,
        "bins": config.codebook_size,
        "input_dimension": config.hidden_size,
        "output_dimension": config.hidden_size,
    }
    shape = loaders._mimi_config | {
        "frame_rate": positions / config.latent_stride,
        "seanet": seanet,
        "transformer": transformer,
        "quantizer": quantizer,
    }
    model = loaders.get_mimi(None, shape, num_codebooks=config.num_quantizers)
    model.load_state_dict(dict(_moshi_weights(config, weights)))
    return model.requires_grad_(requires_grad=False)


def _moshi_weights(
    config: CodecConfig, weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.items():
        match name.split("."):
            case ["encoder" | "decoder" as end, "layers", index, *block, "conv", kind]:
                upsampling = end == "decoder" and not block and _is_upsampling(config, int(index))
                conv = "convtr.convtr" if upsampling else "conv.conv"
                yield ".".join([end, "model", index, *block, conv, kind]), tensor
            case ["downsample", "conv", kind]:
                yield f"downsample.conv.conv.conv.{kind}", tensor
            case ["upsample", "conv", kind]:
                yield f"upsample.convtr.convtr.convtr.{kind}", tensor
            case [_, "layers", _, "self_attn", "k_proj" | "v_proj", _]:
                pass  # with q_proj
            case [end, "layers", index, "self_attn", "q_proj", _]:
                layer = f"{end}.layers.{index}.self_attn"
                query, key, value = (weights[f"{layer}.{part}_proj.weight"] for part in "qkv")
                parts = _by_pairs(query, config), _by_pairs(key, config), value
                layer = f"{end}.transformer.layers.{index}.self_attn"
                yield f"{layer}.in_projs.0.weight", torch.cat(parts)
            case [end, "layers", index, *rest] if end.endswith("transformer"):
                part = MOSHI_LAYER[".".join(rest[:-1])]
                yield f"{end}.transformer.layers.{index}.{part}.{rest[-1]}", tensor
            case ["quantizer", part, *rest]:
                half = "rvq_first" if part.startswith("semantic") else "rvq_rest"
                yield ".".join(["quantizer", half, *_moshi_quantizer(rest)]), tensor


MOSHI_LAYER = {
    "self_attn.o_proj": "self_attn.out_projs.0",
    "self_attn_layer_scale": "layer_scale_1",
    "mlp_layer_scale": "layer_scale_2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "input_layernorm": "norm1",
    "post_attention_layernorm": "norm2",
}


def _moshi_quantizer(rest: list[str]) -> list[str]:
    if rest[0] != "layers":
        return rest
    kind = {"embed_sum": "embedding_sum", "initialized": "_initialized"}
    return ["vq", "layers", rest[1], "_codebook", kind.get(rest[-1], rest[-1])]


def _is_upsampling(config: CodecConfig, index: int) -> bool:
    a_ratio = 2 + config.num_residual_layers
    return 0 < index <= len(config.upsampling_ratios) * a_ratio and index % a_ratio == 2


def _by_pairs(projection: Tensor, config: CodecConfig) -> Tensor:
    """Reorder rows: moshi rotates neighbours of a head, and transformers its halves."""
    halves = projection.view(config.num_attention_heads, 2, config.head_dim // 2, -1)
    return halves.transpose(1, 2).reshape(projection.shape)
