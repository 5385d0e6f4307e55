"""A results file as a table for people. It measures nothing."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["table"]

COLUMNS = {
    "precision": "precision",
    "batch": "batch",
    "ms_per_frame": "ms a frame",
    "floor_ms_per_frame": "floor",
    "real_time_factor": "real-time factor",
    "first_audio_ms": "first audio, ms",
    "first_audio_cold_ms": "the same, cold persona",
    "load_seconds": "load, s",
    "memory_mib": "memory, MiB",
}
"""Of a result: its key, and what stands above it."""


def table(results: Mapping[str, Any]) -> str:
    """Write a results file of `benchmarks.csm` as Markdown."""
    machine, peer = results["machine"], results["peer"]
    where = (
        f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores,"
        f" {machine['memory_gib']} GiB; memory read at"
        f" {results['memory_gigabytes_a_second']} GB/s; torch {machine['torch']}."
    )
    lines = [
        where,
        f"`{results['command']}`",
        "",
        _row(COLUMNS.values()),
        _row("---" for _ in COLUMNS),
        *(_row(_cell(result[key]) for key in COLUMNS) for result in results["results"]),
        "",
        f"Streams in real time: {results['real_time_streams']}.",
    ]
    if peer is not None:
        lines.append(
            f"{peer['name']} ({peer['version']}): {peer['ms_per_frame']} ms a frame;"
            f" ours is {results['ratio']} times as fast at batch 1 in {_first(results)}."
        )
    return "\n".join([*lines, f"CUDA: {results['cuda']}.", ""])


def _first(results: Mapping[str, Any]) -> str:
    return str(results["results"][0]["precision"])


def _cell(value: float | str | None) -> str:
    return "" if value is None else str(value)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of a results file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("file", type=Path)
    file = parser.parse_args(arguments).file
    sys.stdout.write(table(json.loads(file.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
