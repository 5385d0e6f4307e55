"""What the fallback chain costs: the switch to the next rung, and the way of streamed audio.

    python -m benchmarks.chain --json FILE

Each figure is the difference of two times that are taken in turns. Servers of this machine stand
in for those elsewhere, each a process of its own; the clients are the real ones.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.costless import Costless, babble
from benchmarks.machine import describe
from benchmarks.processes import HOST, free_ports, service, stand_in
from benchmarks.table import table
from service.audio import SAMPLE_RATE
from service.engines.chain import Chain
from service.engines.elevenlabs import ElevenLabsVoice
from service.engines.engine import Engine, SpeechRequest
from service.engines.failures import FAILURES
from service.engines.remote import RemoteVoice
from service.text import segments
from service.voices import Personas, load_personas

__all__ = ["main"]

TEXT = "One, two, three."
KEY = "sk_" + "0" * 48
WARM_UP = 5
FIRST_BYTES = 44 + SAMPLE_RATE // 25 * 2  # a header and the 40 ms of a first block
AT_ONCE = [np.concatenate(babble(1.0))]  # a whole second is its first block

Timed = Callable[[], Awaitable[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chain")
    parser.add_argument("--requests", type=int, default=300, help="pairs a figure (default: 300)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    results = asyncio.run(measure(options.requests))
    sys.stdout.write(table(results))
    if options.json:
        text = json.dumps(results, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


async def measure(requests: int) -> dict[str, Any]:
    """Measure every figure; give the results as the JSON file has them."""
    personas = load_personas()
    cloud, upstream, nobody = free_ports(3)
    with ExitStack() as running:
        running.enter_context(stand_in("elevenlabs", cloud))
        running.enter_context(service(upstream))
        eleven = ElevenLabsVoice(
            KEY, "eleven_flash_v2_5", None, f"http://{HOST}:{cloud}", personas, substitute=True
        )
        remote = _remote(upstream, personas)
        refused = _remote(nobody, personas)
        async with httpx.AsyncClient(trust_env=False) as bare:
            pairs: dict[str, tuple[Timed, Timed, float]] = {
                "switch, connection refused": (
                    _first_audio([refused, Costless(AT_ONCE)], personas),
                    _first_audio([Costless(AT_ONCE)], personas),
                    20.0,
                ),
                "switch, breaker open": (
                    _first_audio([refused, Costless(AT_ONCE)], personas, shut=True),
                    _first_audio([Costless(AT_ONCE)], personas),
                    1.0,
                ),
                "first audio, elevenlabs": (
                    _first_audio([eleven], personas),
                    _bare(
                        bare,
                        f"http://{HOST}:{cloud}/v1/text-to-speech/{'a' * 20}/stream",
                        {"text": TEXT},
                    ),
                    5.0,
                ),
                "first audio, remote": (
                    _first_audio([remote], personas),
                    _bare(
                        bare,
                        f"http://{HOST}:{upstream}/api/v1/generate",
                        {"text": TEXT, "stream": True},
                    ),
                    5.0,
                ),
            }
            rows = [
                await _row(name, requests, ours, own, target)
                for name, (ours, own, target) in pairs.items()
            ]
        for rung in (eleven, remote, refused):
            await rung.stop()
    return {
        "benchmark": "chain",
        "machine": describe("cpu"),
        "command": "python -m benchmarks.chain --json FILE",
        "requests": requests,
        "results": rows,
    }


def _remote(port: int, personas: Personas) -> RemoteVoice:
    return RemoteVoice(
        f"http://{HOST}:{port}", None, personas, form="auto", substitute=True, instance="0" * 32
    )


def _first_audio(rungs: Sequence[Engine], personas: Personas, *, shut: bool = False) -> Timed:
    """Time a fresh chain from the request to the first verified block, the first rung shut or not.

    Fresh, so that what one request finds out does not spare the next one its price.
    """
    request = SpeechRequest(segments(TEXT), personas["maya"])

    async def timed() -> float:
        chain = Chain(rungs, deadline_seconds=8, stall_seconds=5)
        if shut:
            breaker = chain.breakers[rungs[0].name]
            breaker.take()
            breaker.failed(FAILURES["busy"], "shut", seconds=0, retry_after=60)
        started = time.perf_counter()
        async with chain.speak(request) as speech:
            async for _ in speech.blocks:
                return time.perf_counter() - started
        raise RuntimeError("nothing was said")

    return timed


def _bare(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> Timed:
    """Time a bare client that reads the same server until as many bytes are there."""

    async def timed() -> float:
        started = time.perf_counter()
        size = 0
        async with client.stream("POST", url, json=body) as answer:
            async for data in answer.aiter_raw():
                size += len(data)
                if size >= FIRST_BYTES:
                    break
            return time.perf_counter() - started

    return timed


async def _row(
    name: str, requests: int, ours: Timed, own: Timed, target: float
) -> dict[str, float | str]:
    """Take both in turns, and give the percentiles of the difference, in ms."""
    for _ in range(WARM_UP):
        await ours()
        await own()
    added = [1000 * (await ours() - await own()) for _ in range(requests)]
    p50, p99 = np.percentile(added, (50, 99))
    return {
        "figure": name,
        "added_p50_ms": round(float(p50), 2),
        "added_p99_ms": round(float(p99), 2),
        "target_ms": target,
    }


if __name__ == "__main__":
    sys.exit(main())
