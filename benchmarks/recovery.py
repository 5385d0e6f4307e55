"""Whether the voice goes on when the primary is killed, and comes home when it is there again.

    python -m benchmarks.recovery --json FILE --svg FILE

Real processes: a gateway of ours whose primary is a second service of ours (the basic voice), and
behind that a server that stands in for ElevenLabs. Clients ask all the time; the primary is killed
at one third and started again at two thirds. The picture wants matplotlib.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import describe
from benchmarks.processes import HOST, free_ports, service, stand_in
from benchmarks.table import table

__all__ = ["main"]

TEXT = "The voice goes on."
FAILED = "no voice"
COLOURS = {"remote": "#2563eb", "elevenlabs": "#ea580c", FAILED: "#111827"}
PATIENCE = 30.0  # seconds for an answer


@dataclass(frozen=True)
class Answer:
    """One answer: when it was asked for, how long it took [s], and who spoke."""

    asked: float
    took: float
    engine: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what was measured."""
    options = _parser().parse_args(arguments)
    results = measure(options.seconds, options.clients)
    sys.stdout.write(table(results))
    if options.json:
        text = json.dumps(results, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.svg:
        draw(results, options.svg)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery")
    parser.add_argument("--seconds", type=float, default=45.0, help="of load (default: 45)")
    parser.add_argument("--clients", type=int, default=8, help="at once (default: 8)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it there")
    return parser


def measure(seconds: float, clients: int) -> dict[str, Any]:
    """Run all of it; give the results as the JSON file has them."""
    ports = free_ports(3)
    primary, cloud, gateway = ports
    with (
        stand_in("elevenlabs", cloud),
        service(primary) as first,
        service(
            gateway,
            SESAME_MODE="online",
            SESAME_URL=f"http://{HOST}:{primary}",
            SESAME_BASIC_VOICE="false",
            ELEVENLABS_API_KEY="sk_" + "0" * 48,
            ELEVENLABS_BASE_URL=f"http://{HOST}:{cloud}",
        ),
    ):
        answers, killed, restarted = asyncio.run(_load(seconds, clients, gateway, primary, first))
    return {
        "benchmark": "recovery",
        "machine": describe("cpu"),
        "command": "python -m benchmarks.recovery --json FILE --svg FILE",
        "clients": clients,
        "seconds": seconds,
        "killed_at": round(killed, 2),
        "restarted_at": round(restarted, 2),
        "answers": len(answers),
        "failed": sum(answer.engine == FAILED for answer in answers),
        "slowest_ms": round(max(answer.took for answer in answers) * 1000),
        "median_ms": _median_ms(answers),
        "home_after_seconds": _home_after(answers, restarted),
        "by_second": _by_second(answers),
    }


async def _load(
    seconds: float, clients: int, gateway: int, primary: int, first: subprocess.Popen[bytes]
) -> tuple[list[Answer], float, float]:
    answers: list[Answer] = []
    started = time.monotonic()
    url = f"http://{HOST}:{gateway}/api/v1/generate"

    async def client() -> None:
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
            while (asked := time.monotonic() - started) < seconds:
                engine = await _ask(http, url)
                answers.append(Answer(asked, time.monotonic() - started - asked, engine))

    async with asyncio.TaskGroup() as running:
        for _ in range(clients):
            running.create_task(client())
        await asyncio.sleep(seconds / 3)
        killed = time.monotonic() - started
        first.send_signal(signal.SIGKILL)
        await asyncio.sleep(seconds / 3)
        restarted = time.monotonic() - started
        with service(primary, wait=False):
            await asyncio.sleep(seconds / 3 + 1)
    return answers, killed, restarted


async def _ask(http: httpx.AsyncClient, url: str) -> str:
    try:
        answer = await http.post(url, json={"text": TEXT})
    except httpx.TransportError:
        return FAILED
    return answer.headers["X-Speech-Engine"] if answer.is_success else FAILED


def _median_ms(answers: Sequence[Answer]) -> dict[str, int]:
    took: dict[str, list[float]] = {}
    for answer in answers:
        took.setdefault(answer.engine, []).append(answer.took)
    return {name: round(sorted(each)[len(each) // 2] * 1000) for name, each in took.items()}


def _home_after(answers: Sequence[Answer], restarted: float) -> float | None:
    """Give the seconds from the restart to the first answer of the primary."""
    home = [
        answer.asked + answer.took
        for answer in answers
        if answer.engine == "remote" and answer.asked > restarted
    ]
    return round(min(home) - restarted, 2) if home else None


def _by_second(answers: Sequence[Answer]) -> dict[str, list[int]]:
    last = int(max(answer.asked for answer in answers))
    counted = Counter((answer.engine, int(answer.asked)) for answer in answers)
    engines = [name for name in COLOURS if any(name == engine for engine, _ in counted)]
    return {name: [counted[name, second] for second in range(last + 1)] for name in engines}


def draw(results: dict[str, Any], file: Path) -> None:
    """Draw the share of each engine over time."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 (only for who wants the picture)

    figure, axes = plt.subplots(figsize=(9, 3.2))
    counts = results["by_second"]
    totals = [max(sum(each), 1) for each in zip(*counts.values(), strict=True)]
    shares = [
        [100 * count / total for count, total in zip(each, totals, strict=True)]
        for each in counts.values()
    ]
    axes.stackplot(
        range(len(totals)),
        shares,
        labels=list(counts),
        colors=[COLOURS[name] for name in counts],
        step="post",
    )
    for name in ("killed_at", "restarted_at"):
        axes.axvline(results[name], color="white", linestyle="--")
        axes.annotate(
            f" {name.removesuffix('_at')}", (results[name], 50), color="white", weight="bold"
        )
    axes.set(xlim=(0, len(totals) - 1), ylim=(0, 100), xlabel="seconds", ylabel="% of requests")
    axes.legend(loc="lower left")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
