"""A results file as a table for people. It measures nothing."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Write a results file as Markdown."""
    return TABLES[results.get("benchmark", "csm")](results)


def _csm(results: Mapping[str, Any]) -> str:
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
        *_rows(COLUMNS, results["results"]),
        "",
        f"Streams in real time: {results['real_time_streams']}.",
    ]
    if peer is not None:
        lines.append(
            f"{peer['name']} ({peer['version']}): {peer['ms_per_frame']} ms a frame;"
            f" ours is {results['ratio']} times as fast at batch 1 in {_first(results)}."
        )
    return "\n".join([*lines, f"CUDA: {results['cuda']}.", ""])


def _chain(results: Mapping[str, Any]) -> str:
    columns = {
        "figure": "figure",
        "added_p50_ms": "added, p50, ms",
        "added_p99_ms": "p99, ms",
        "target_ms": "target, ms",
    }
    return "\n".join([*_where(results), "", *_rows(columns, results["results"]), ""])


def _api(results: Mapping[str, Any]) -> str:
    columns = {
        "figure": "figure",
        "ours_p50_ms": "ours, p50, ms",
        "bare_p50_ms": "bare",
        "added_p50_ms": "added, p50",
        "added_p99_ms": "p99",
        "target_ms": "target",
    }
    counted = {
        "clients": "clients",
        "ours": "answers a second, ours",
        "bare": "bare",
        "ratio": "ratio",
    }
    livez, memory = results["livez"], results["memory"]
    alive = (
        f"`/livez` while {livez['syntheses']} texts are spoken by {livez['engine']}: p50"
        f" {livez['p50_ms']} ms, p99 {livez['p99_ms']} ms (target: at most {livez['target_ms']:g})."
    )
    resident = (
        f"Memory: {memory['before_mib']} MiB, {memory['after_mib']} after"
        f" {memory['requests']:,} more requests: {memory['growth_percent']:+g} %"
        f" (target: at most {memory['target_percent']:g})."
    )
    return "\n".join(
        [
            *_where(results),
            "",
            *_rows(columns, results["results"]),
            "",
            *_rows(counted, results["requests_a_second"]),
            "",
            alive,
            resident,
            "",
        ]
    )


def _recovery(results: Mapping[str, Any]) -> str:
    medians = ", ".join(f"{name} {ms} ms" for name, ms in results["median_ms"].items())
    rows = {
        "clients": results["clients"],
        "requests": f"{results['answers']} in {results['seconds']:g} s",
        "requests that stayed without a voice": results["failed"],
        "primary killed": f"at {results['killed_at']} s",
        "primary started again": f"at {results['restarted_at']} s",
        "median answer": medians,
        "slowest answer of all": f"{results['slowest_ms']} ms",
        "voice home after that": f"{results['home_after_seconds']} s, the process's start included",
    }
    lines = (_row((name, str(value))) for name, value in rows.items())
    return "\n".join([*_where(results), "", _row(("", "")), _row(("---", "---")), *lines, ""])


def _where(results: Mapping[str, Any]) -> list[str]:
    machine = results["machine"]
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB.",
        f"`{results['command']}`",
    ]


TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "api": _api,
    "csm": _csm,
    "chain": _chain,
    "recovery": _recovery,
}


def _rows(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write a table: of each row its key, and what stands above it."""
    return [
        _row(columns.values()),
        _row("---" for _ in columns),
        *(_row(_cell(row[key]) for key in columns) for row in rows),
    ]


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
