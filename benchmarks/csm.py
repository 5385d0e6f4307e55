r"""How fast CSM speaks here, beside transformers on the same weights, in one run.

    python -m benchmarks.csm --size 1b --device auto --precision auto --peer transformers \
        --batch 1,4,16 --json FILE

It writes a random checkpoint of that size first (speed does not depend on the values), or takes
one with `--checkpoint`. The peer and ours take turns, so that a neighbour's load falls on both. It
needs torch, torchaudio, transformers, safetensors and tokenizers, and for int8 and int4 onnx and
onnxruntime.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import bandwidth, describe, held_memory, synchronise
from benchmarks.peer import Transformers
from benchmarks.table import table
from service.csm import (
    CSM,
    FRAME_SECONDS,
    Block,
    Clip,
    CudaGraphs,
    Mimi,
    Prefix,
    Replay,
    Sampling,
    Scheduler,
    State,
    TextTokenizer,
    Turn,
    Utterance,
    clip_rows,
    ladder,
    load,
    prompt_rows,
    random_checkpoint,
    remember,
)
from service.csm.checkpoint import Precision
from service.csm.config import TransformerConfig

__all__ = ["main"]

SAMPLE_RATE = 24_000
# The tokenizer of a random checkpoint has a token a byte. So the texts are as long in bytes as the
# real ones are in tokens of Llama 3: 15 of "The quick brown fox jumps over the lazy dog.", and 111
# of what is said in the model's own clip conversational_a, which has 375 frames.
TEXT = "Good day. "
TRANSCRIPT = ("Good day. " * 11)[:106]
CLIP_SECONDS = 30.0
ROUNDS = 3  # turns of the peer and ours
WARM_UP_FRAMES = 4
PRECISIONS: dict[str, tuple[Precision, ...]] = {"cpu": ("int8", "int4"), "cuda": ("bf16",)}
"""What `auto` measures on a device; the first is what the service takes there."""

WEIGHT_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}


@dataclass
class Speaker:
    """A loaded model, and what a benchmark needs of it."""

    model: CSM
    codec: Mimi
    tokenizer: TextTokenizer
    state: State
    slots: int
    replay: Replay
    device: str
    precision: Precision
    load_seconds: float
    memory_mib: float

    @classmethod
    def load(cls, folder: Path, device: str, precision: Precision, slots: int) -> "Speaker":
        """Load a checkpoint, make room for `slots` and record the graphs where there are any."""
        before, started = held_memory(device), time.perf_counter()
        model, codec = load(folder, device=device, precision=precision)
        tokenizer = TextTokenizer(folder / "tokenizer.json")
        state = model.state(slots)
        sizes = ladder(slots) if device == "cuda" else []
        replay = Replay(model, state, sizes, CudaGraphs() if sizes else None)
        speaker = cls(model, codec, tokenizer, state, slots, replay, device, precision, 0.0, 0.0)
        list(speaker.speak(1, WARM_UP_FRAMES))
        synchronise(device)
        speaker.load_seconds = time.perf_counter() - started
        speaker.memory_mib = held_memory(device) - before
        return speaker

    def scheduler(self) -> Scheduler:
        """Give a scheduler with nobody in it."""
        return Scheduler(self.model, self.codec, self.state, self.slots, self.replay)

    def utterance(self, frames: int, prefix: Prefix | None = None, seed: int = 0) -> Utterance:
        """Write the text as one utterance."""
        rows = prompt_rows(self.tokenizer, [Turn(0, TEXT)], codebooks=self.model.config.codebooks)
        return Utterance(rows, Sampling(seed=seed), frames, prefix)

    def persona(self) -> Prefix:
        """Encode a clip and read it in."""
        samples = np.random.default_rng(0).normal(0, 0.1, int(CLIP_SECONDS * SAMPLE_RATE))
        rows = clip_rows(
            self.codec,
            self.tokenizer,
            Clip(samples.astype(np.float32), TRANSCRIPT),
            speaker=0,
            codebooks=self.model.config.codebooks,
            rows=self.model.config.backbone.positions,
        )
        return remember(self.model, rows)

    def speak(
        self, batch: int, frames: int, prefix: Prefix | None = None
    ) -> Iterator[tuple[float, float]]:
        """Speak in `batch` slots at once; yield each step's seconds: the model's, and in all."""
        scheduler = self.scheduler()
        for seed in range(batch):
            scheduler.admit(self.utterance(frames, prefix, seed))
        while scheduler.busy == batch:
            scheduler.frame_seconds = 0.0
            started = time.perf_counter()
            scheduler.step()
            yield scheduler.frame_seconds, time.perf_counter() - started

    def first_audio(self, prefix: Prefix | None, *, cold: bool = False) -> float:
        """Give the seconds from a request to its first block; cold: the persona is not read in."""
        scheduler = self.scheduler()
        synchronise(self.device)
        started = time.perf_counter()
        scheduler.admit(self.utterance(8, self.persona() if cold else prefix))
        while True:
            for event in scheduler.step():
                if isinstance(event, Block):
                    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the results; return the exit code."""
    options = _parser().parse_args(arguments)
    device = _device(options.device)
    precisions = PRECISIONS[device] if options.precision == "auto" else (options.precision,)
    batches = [int(batch) for batch in options.batch.split(",")]
    with _checkpoint(options) as folder:
        results = _measure(folder, device, precisions, batches, options)
    results["command"] = "python -m benchmarks.csm " + " ".join(arguments or sys.argv[1:])
    results["size"] = options.size
    sys.stdout.write(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(
    folder: Path,
    device: str,
    precisions: Sequence[Precision],
    batches: Sequence[int],
    options: argparse.Namespace,
) -> dict[str, Any]:
    _say("measuring the memory's speed")
    bytes_a_second = bandwidth(device)
    peer = None
    if options.peer == "transformers":
        _say("loading transformers")
        peer = Transformers.load(folder, device)
        peer.frame_seconds(WARM_UP_FRAMES)
    peer_seconds: list[float] = []
    own_seconds: list[float] = []
    results: list[dict[str, Any]] = []
    for precision in precisions:
        _say(f"loading {precision}")
        speaker = Speaker.load(folder, device, precision, max(batches))
        _say(f"reading a clip of {CLIP_SECONDS:g} s in")
        prefix = speaker.persona()
        for batch in batches:
            turns: list[tuple[float, float]] = []
            for turn in range(ROUNDS):
                _say(f"{precision}, batch {batch}, turn {turn + 1} of {ROUNDS}")
                if peer is not None and batch == batches[0] and precision == precisions[0]:
                    peer_seconds.append(peer.frame_seconds(options.peer_frames))
                steps = list(speaker.speak(batch, options.frames, prefix))[1:]
                turns.append((_mean(step[0] for step in steps), _mean(step[1] for step in steps)))
            if batch == batches[0] and precision == precisions[0]:
                own_seconds = [model for model, _ in turns]
            results.append(_result(speaker, batch, turns, prefix))
        del speaker, prefix
    # Again: a neighbour's load at one moment must not pass for the machine's limit.
    bytes_a_second = max(bytes_a_second, bandwidth(device))
    for result in results:
        result["floor_ms_per_frame"] = _ms(result.pop("frame_bytes") / bytes_a_second)
    return {
        "machine": describe(device),
        "memory_gigabytes_a_second": round(bytes_a_second / 1e9, 1),
        "results": results,
        "real_time_streams": max(
            (row["batch"] for row in results if row["real_time_factor"] <= 1), default=0
        ),
        "peer": None
        if peer is None
        else {
            "name": peer.name,
            "version": peer.version,
            "ms_per_frame": _ms(statistics.median(peer_seconds)),
        },
        "ratio": None
        if peer is None
        else round(statistics.median(peer_seconds) / statistics.median(own_seconds), 2),
        "cuda": "measured"
        if device == "cuda"
        else "no GPU could be had; nothing is measured on one",
    }


def _result(
    speaker: Speaker,
    batch: int,
    turns: Sequence[tuple[float, float]],
    prefix: Prefix,
) -> dict[str, Any]:
    model, whole = (statistics.median(turn[index] for turn in turns) for index in (0, 1))
    result: dict[str, Any] = {
        "device": speaker.device,
        "precision": speaker.precision,
        "batch": batch,
        "ms_per_frame": _ms(model),
        "frame_bytes": _frame_bytes(speaker),
        "real_time_factor": round(whole / FRAME_SECONDS, 3),
        "first_audio_ms": None,
        "first_audio_cold_ms": None,
        "load_seconds": round(speaker.load_seconds, 1),
        "memory_mib": round(speaker.memory_mib),
    }
    if batch == 1:
        _say(f"{speaker.precision}, first audio")
        warm = [speaker.first_audio(prefix) for _ in range(ROUNDS)]
        result["first_audio_ms"] = _ms(statistics.median(warm))
        result["first_audio_cold_ms"] = _ms(speaker.first_audio(None, cold=True))
    return result


def _frame_bytes(speaker: Speaker) -> float:
    """Give the bytes of weights that one frame at batch 1 reads: none of them fits a cache."""
    config = speaker.model.config

    def stack(part: TransformerConfig) -> int:
        heads = (part.heads + 2 * part.kv_heads) * part.head_width
        attention = part.width * (heads + part.heads * part.head_width)
        return part.layers * (attention + 3 * part.width * part.ffn_width)

    steps = config.codebooks - 1
    weights = stack(config.backbone) + steps * stack(config.depth)
    weights += config.codes * (config.backbone.width + steps * config.depth.width)
    return weights * WEIGHT_BYTES[speaker.precision]


@contextmanager
def _checkpoint(options: argparse.Namespace) -> Iterator[Path]:
    """Give the checkpoint that was named, or write one and remove it afterwards."""
    if options.checkpoint is not None:
        yield options.checkpoint
        return
    with tempfile.TemporaryDirectory(prefix="csm-benchmark-") as name:
        folder = Path(name)
        _say(f"writing a random checkpoint of size {options.size}")
        random_checkpoint.write(folder, random_checkpoint.SIZES[options.size], clips=0.1)
        yield folder


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(wanted)


def _mean(seconds: Iterator[float]) -> float:
    return statistics.fmean(seconds)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.csm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", choices=sorted(random_checkpoint.SIZES), default="1b")
    parser.add_argument(
        "--checkpoint", type=Path, help="a folder with one, instead of a random one"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16", "int8", "int4"), default="auto"
    )
    parser.add_argument("--peer", choices=("transformers", "none"), default="transformers")
    parser.add_argument("--batch", default="1,4,16", help="batch sizes, with commas between")
    parser.add_argument("--frames", type=int, default=25, help="frames a turn of ours")
    parser.add_argument("--peer-frames", type=int, default=8, help="frames a turn of the peer's")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
