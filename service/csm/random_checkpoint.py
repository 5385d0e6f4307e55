"""Writes a checkpoint with random weights in the layout of `sesame/csm-1b`.

For tests, benchmarks and dry runs, where the real weights are not to be had:

    python -m service.csm.random_checkpoint --size tiny FOLDER

What it says is noise, yet its files are what the real ones are: configuration, index, safetensors
shards, tokenizer and prompt clips. Each size writes the same bytes for the same seed.
"""

import argparse
import json
import math
import sys
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor

from service.csm.checkpoint import CODEC_PREFIX, csm_shapes
from service.csm.config import CsmConfig
from service.csm.mimi import Mimi
from service.csm.prompt import BEGIN_OF_TEXT, END_OF_TEXT

__all__ = ["SIZES", "main", "write"]

INDEX = "transformers.safetensors.index.json"
SHARD_BYTES = 2 * 10**9

LOGIT_SCALE = 4.0
"""Standard deviation of the logits: the top 50 codes are neither one code nor a lottery."""

LAYER_SCALE = 0.01  # Mimi's own at the start of its training
LOUD_CODES = 0.25  # share of the first codebook's; the others are soft
SOFT_LEVEL = 0.03  # of a loud one
ACOUSTIC_LEVEL = 0.004  # each code of the other codebooks

CODEC_OUT_SCALE = 0.3
"""How far the codec's last convolution is turned down, so that its audio stays within -1 to 1."""


def _rope(context: int, scale: float) -> dict[str, float | str]:
    # The depth decoder's factors are as small as its context: both stacks have the wavelengths of
    # Llama 3.2.
    return {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 0.125 * scale,
        "high_freq_factor": 0.5 * scale,
        "original_max_position_embeddings": context,
    }


CSM_1B: Mapping[str, Any] = {
    "architectures": ["CsmForConditionalGeneration"],
    "model_type": "csm",
    "transformers_weights": INDEX,
    "dtype": "float32",
    "num_codebooks": 32,
    "vocab_size": 2051,
    "text_vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000,
    "rope_scaling": _rope(1024, 1),
    "attention_bias": False,
    "mlp_bias": False,
    "tie_codebooks_embeddings": True,
    "bos_token_id": 128_000,
    "pad_token_id": 128_002,
    "audio_token_id": 128_002,
    "audio_eos_token_id": 128_003,
    "codebook_pad_token_id": 2050,
    "codebook_eos_token_id": 0,
    "depth_decoder_config": {
        "model_type": "csm_depth_decoder_model",
        "num_codebooks": 32,
        "vocab_size": 2051,
        "backbone_hidden_size": 2048,
        "hidden_size": 1024,
        "intermediate_size": 8192,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 33,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000,
        "rope_scaling": _rope(16, 1 / 64),
        "attention_bias": False,
        "mlp_bias": False,
    },
    "codec_config": {"model_type": "mimi"},
}

TINY: Mapping[str, Any] = {
    **CSM_1B,
    "vocab_size": 131,
    "text_vocab_size": 260,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "bos_token_id": 256,
    "pad_token_id": 258,
    "audio_token_id": 258,
    "audio_eos_token_id": 259,
    "codebook_pad_token_id": 130,
    "depth_decoder_config": {
        **CSM_1B["depth_decoder_config"],
        "vocab_size": 131,
        "backbone_hidden_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    },
    "codec_config": {
        "model_type": "mimi",
        "codebook_size": 128,
        "codebook_dim": 16,
        "vector_quantization_hidden_dimension": 16,
        "hidden_size": 32,
        "upsample_groups": 32,
        "num_filters": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
}

SIZES: Mapping[str, Mapping[str, Any]] = {"tiny": TINY, "1b": CSM_1B}
"""The `config.json` of each size."""

GENERATION: Mapping[str, Any] = {
    "do_sample": True,
    "temperature": 0.9,
    "top_k": 50,
    "max_new_tokens": 125,
    "depth_decoder_do_sample": True,
    "depth_decoder_temperature": 0.9,
    "depth_decoder_top_k": 50,
}
"""The `generation_config.json`; this package takes its sampling from each request instead."""

CLIP_SECONDS: Mapping[str, float] = {
    "conversational_a": 30,
    "conversational_b": 30,
    "read_speech_a": 15,
    "read_speech_b": 10,
    "read_speech_c": 7,
    "read_speech_d": 9,
}
"""The clips of the real folder and about how long they are there."""

LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts a text into words (llama-models, `llama3/tokenizer.py`)."""


def write(folder: Path, config: Mapping[str, Any], *, seed: int = 0, clips: float = 1.0) -> None:
    """Write a checkpoint of the sizes in `config`, the content of a `config.json`.

    + seed: of the weights and clips.
    + clips: length of the prompt clips, as a share of the real ones'.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", GENERATION)
    _write_json(folder / "tokenizer.json", _tokenizer(config))
    _write_shards(folder, CsmConfig.read(config), generator)
    (folder / "prompts").mkdir(exist_ok=True)
    for name, seconds in CLIP_SECONDS.items():
        _write_clip(folder / "prompts" / f"{name}.wav", seconds * clips, generator)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m service.csm.random_checkpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--size", choices=SIZES, required=True, help="1b takes 7 GB of disk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    clips = 1.0 if chosen.size == "1b" else 0.25
    write(chosen.folder, SIZES[chosen.size], seed=chosen.seed, clips=clips)
    sys.stdout.write(f"a random checkpoint of size {chosen.size} is in {chosen.folder}\n")
    return 0


def _write_shards(folder: Path, config: CsmConfig, generator: torch.Generator) -> None:
    shapes = csm_shapes(config)
    codec = Mimi(config.codec).checkpoint_names()
    shapes |= {CODEC_PREFIX + name: tuple(shape) for name, shape in codec.items()}
    shards = list(_shards(shapes))
    weight_map = {}
    for index, names in enumerate(shards, start=1):
        file = f"transformers-{index:05}-of-{len(shards):05}.safetensors"
        tensors = {name: _random(name, shapes[name], config, generator) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # it comes out readable by its owner alone
        weight_map.update(dict.fromkeys(names, file))
    total = sum(4 * math.prod(shape) for shape in shapes.values())
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[list[str]]:
    names: list[str] = []
    filled = 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        if names and filled + size > SHARD_BYTES:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += size
    yield names


def _random(
    name: str, shape: tuple[int, ...], config: CsmConfig, generator: torch.Generator
) -> Tensor:
    """Draw one tensor so that what flows through the model keeps its size."""
    if name.startswith(CODEC_PREFIX):
        return _random_codec(name.removeprefix(CODEC_PREFIX), shape, config, generator)
    if len(shape) == 1:  # a norm
        return torch.ones(shape)
    if "embed_t" in name:
        return torch.randn(shape, generator=generator)
    heads = "codebooks_head" in name
    fan_in = shape[1]  # of the heads too: they are [codebook, width, code]
    tensor = torch.randn(shape, generator=generator).mul_(fan_in**-0.5)
    if heads or name == "lm_head.weight":
        tensor.mul_(LOGIT_SCALE)
        # The real model never says a code that its codec lacks. With a logit of 0, neither does
        # this one.
        tensor.narrow(
            2 if heads else 0, config.codes, shape[2 if heads else 0] - config.codes
        ).zero_()
    return tensor


def _random_codec(
    name: str, shape: tuple[int, ...], config: CsmConfig, generator: torch.Generator
) -> Tensor:
    if name.endswith((".initialized", ".cluster_usage", "norm.weight")):
        return torch.ones(shape)
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if name.endswith(".scale"):
        return torch.full(shape, LAYER_SCALE)
    tensor = torch.randn(shape, generator=generator)
    if name.endswith(".embed_sum"):
        return tensor.mul_(_code_levels(name, shape[0], generator))
    scale = _codec_fan_in(name, shape, config) ** -0.5
    if name.startswith("decoder.") and shape[0] == 1:
        scale *= CODEC_OUT_SCALE
    return tensor.mul_(scale)


def _code_levels(name: str, codes: int, generator: torch.Generator) -> Tensor:
    """Give how loud each code of a codebook is, `[codes, 1]`.

    As in the real codec the first codebook says what is heard and the others refine it. So the
    noise has louder and softer frames, like syllables, and is not taken for a steady hiss.
    """
    if "acoustic" in name:
        return torch.full((codes, 1), ACOUSTIC_LEVEL)
    loud = torch.rand(codes, 1, generator=generator) < LOUD_CODES
    return loud.float().clamp(min=SOFT_LEVEL)


def _codec_fan_in(name: str, shape: tuple[int, ...], config: CsmConfig) -> int:
    """Count the products that are added up for one output of a convolution or linear layer."""
    strides = {2 * ratio for ratio in config.codec.upsampling_ratios}
    # A transposed convolution is `[in, out, kernel]`, and its kernel twice its stride: two columns
    # meet in each sample.
    if name.startswith("decoder.") and shape[-1] in strides:
        return 2 * shape[0]
    if name.startswith("upsample."):  # each channel by itself
        return 2
    return math.prod(shape[1:])


def _tokenizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a `tokenizer.json` of Llama 3's form that knows bytes and marks, and no longer words."""
    vocabulary = {
        byte: token for token, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    begin = config["bos_token_id"]
    marks = {
        BEGIN_OF_TEXT: begin,
        END_OF_TEXT: begin + 1,
        "<|AUDIO|>": config["audio_token_id"],
        "<|audio_eos|>": config["audio_eos_token_id"],
    }
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    words = {
        "type": "Split",
        "pattern": {"Regex": LLAMA_3_WORDS},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token, "content": mark, "special": True, **plain}
            for mark, token in marks.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary | marks, "merges": [], "ignore_merges": True},
    }


def _write_clip(path: Path, seconds: float, generator: torch.Generator) -> None:
    """Write something of speech's shape: a gliding voice in syllables, 24 kHz, mono, 16 bits."""
    time = torch.arange(round(24_000 * seconds)) / 24_000
    pitch = 110 + 60 * torch.rand((), generator=generator) + 20 * torch.sin(2.2 * time)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / 24_000
    voice = sum(torch.sin(phase * harmonic) / harmonic for harmonic in range(1, 12))
    syllables = torch.sin(2 * math.pi * 1.9 * time).square()
    breath = torch.randn(time.shape, generator=generator)
    samples = syllables * (0.2 * voice + 0.01 * breath)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes((samples.clamp(-1, 1) * 32_767).to(torch.int16).numpy().tobytes())


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
