"""The peer: transformers' own CSM on the same weights, by its best public recipe."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.machine import synchronise

__all__ = ["Transformers"]

TEXT = "[0]The quick brown fox jumps over the lazy dog."


@dataclass
class Transformers:
    """`CsmForConditionalGeneration.generate`, with sampling, without decoding the audio.

    In bf16, as its documentation has it; on CUDA with static caches, for which `generate` compiles
    the forward passes.
    """

    model: Any
    inputs: dict[str, torch.Tensor]
    device: str

    @classmethod
    def load(cls, folder: Path, device: str) -> "Transformers":
        """Load a checkpoint."""
        transformers.logging.set_verbosity_error()
        model = transformers.CsmForConditionalGeneration.from_pretrained(
            folder, dtype=torch.bfloat16
        ).to(device)
        model.eval()
        # Random weights end when they like: these must not.
        model.config.codebook_eos_token_id = -1
        if device == "cuda":
            # transformers' documentation of CSM, "Making The Model Go Brrr".
            model.generation_config.cache_implementation = "static"
            model.depth_decoder.generation_config.cache_implementation = "static"
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json")
        )
        tokens = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
        return cls(model, {name: tensor.to(device) for name, tensor in tokens.items()}, device)

    @property
    def name(self) -> str:
        """How it is called in the results."""
        return "transformers, bf16" + (", static caches, compiled" if self.device == "cuda" else "")

    @property
    def version(self) -> str:
        """Of the package."""
        return transformers.__version__

    @torch.inference_mode()
    def frame_seconds(self, frames: int) -> float:
        """Give the seconds of one frame: the difference between a long and a short utterance."""
        short = max(2, frames // 4)
        return (self._seconds(frames + short) - self._seconds(short)) / frames

    def _seconds(self, frames: int) -> float:
        synchronise(self.device)
        started = time.perf_counter()
        codes = self.model.generate(
            **self.inputs,
            do_sample=True,
            max_new_tokens=frames,
            output_audio=False,
        )
        synchronise(self.device)
        seconds = time.perf_counter() - started
        if codes.shape[1] != frames:
            raise RuntimeError(f"the peer gave {codes.shape[1]} frames and was asked for {frames}")
        return seconds
