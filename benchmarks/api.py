"""What our HTTP layer costs, beside bare Starlette routes that answer with the same bytes.

    python -m benchmarks.api --json FILE

The engine behind it costs nothing (`benchmarks.layers`); each server is a process of its own, and
they are asked in turns by one client on kept-alive connections.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.connection import Answer, Connection, connected, get, post
from benchmarks.layers import SECONDS, STREAM, WHOLE
from benchmarks.machine import MEBIBYTE, describe
from benchmarks.processes import free_ports, layer, service
from benchmarks.table import table
from service.csm import random_checkpoint

__all__ = ["main"]

TEXT = "Hello from Maya, who is here."
ASK_WHOLE = post(WHOLE, {"text": TEXT})
ASK_STREAM = post(
    STREAM, {"model": "csm", "input": TEXT, "voice": "maya", "response_format": "wav"}
)
SPEAK = post(WHOLE, {"text": TEXT, "max_audio_length_ms": round(1000 * SECONDS)})
WARM_UP = 20
CLIENTS = (1, 8, 64)
ROUNDS = 5  # in which the servers take turns while requests a second are counted
SIDE_BY_SIDE = 8  # syntheses while /livez is asked; clients while memory is watched
LIVEZ_TARGET = 50.0  # ms
GROWTH_TARGET = 5.0  # %
BETWEEN = 0.01  # seconds from an answer of /livez to the next question

FIGURES: Mapping[str, tuple[bytes, Callable[[Answer], float], float | None]] = {
    "whole answer": (ASK_WHOLE, lambda answer: answer.whole, None),
    "first byte of a stream": (ASK_STREAM, lambda answer: answer.first, 3.0),
}
"""What is asked, which of the answer's times counts, and the most ms that may be added at p50."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api")
    parser.add_argument("--requests", type=int, default=1_000, help="a figure (default: 1000)")
    parser.add_argument(
        "--lasting", type=int, default=10_000, help="requests for memory (default: 10000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    results = asyncio.run(measure(options.requests, options.lasting))
    sys.stdout.write(table(results))
    if options.json:
        text = json.dumps(results, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


async def measure(requests: int, lasting: int) -> dict[str, Any]:
    """Measure every figure; give the results as the JSON file has them."""
    our_port, bare_port, speaking_port = free_ports(3)
    with ExitStack() as running:
        process = running.enter_context(layer("ours", our_port))
        running.enter_context(layer("bare", bare_port))
        async with connected(our_port) as ours, connected(bare_port) as bare:
            results = [await _overhead(name, requests, ours, bare) for name in FIGURES]
        rates = [await _rates(clients, our_port, bare_port, requests) for clients in CLIENTS]
        memory = await _memory(our_port, process.pid, lasting)
    return {
        "benchmark": "api",
        "machine": describe("cpu"),
        "command": "python -m benchmarks.api --json FILE",
        "requests": requests,
        "audio_seconds": SECONDS,
        "results": results,
        "requests_a_second": rates,
        "memory": memory,
        "livez": await _livez(speaking_port, requests),
    }


async def _overhead(name: str, requests: int, ours: Connection, bare: Connection) -> dict[str, Any]:
    """Ask both in turns; give the percentiles of each and of the difference, in ms."""
    request, took, target = FIGURES[name]
    for _ in range(WARM_UP):
        if (await ours.ask(request)).body != (await bare.ask(request)).body:
            raise RuntimeError("the two servers do not answer with the same bytes")
    pairs = np.array(
        [(took(await ours.ask(request)), took(await bare.ask(request))) for _ in range(requests)]
    )
    added = pairs[:, 0] - pairs[:, 1]
    return {
        "figure": name,
        "ours_p50_ms": _percentile(1000 * pairs[:, 0], 50),
        "bare_p50_ms": _percentile(1000 * pairs[:, 1], 50),
        "added_p50_ms": _percentile(1000 * added, 50),
        "added_p99_ms": _percentile(1000 * added, 99),
        "target_ms": target,
    }


async def _rates(clients: int, our_port: int, bare_port: int, requests: int) -> dict[str, Any]:
    """Count whole answers a second, of both in turns."""
    each = max(requests // ROUNDS // clients, 1)
    seconds = {our_port: 0.0, bare_port: 0.0}
    async with AsyncExitStack() as open_ones:
        connections = {
            port: [await open_ones.enter_async_context(connected(port)) for _ in range(clients)]
            for port in seconds
        }
        for _ in range(ROUNDS):
            for port, those in connections.items():
                seconds[port] += await _together(those, each, ASK_WHOLE)
    count = ROUNDS * each * clients
    ours, bare = count / seconds[our_port], count / seconds[bare_port]
    return {
        "clients": clients,
        "ours": round(ours, 1),
        "bare": round(bare, 1),
        "ratio": round(ours / bare, 3),
    }


async def _together(connections: Sequence[Connection], each: int, *requests: bytes) -> float:
    """Have every connection ask for all of these so often; give the seconds that all took."""

    async def client(connection: Connection) -> None:
        for _ in range(each):
            for request in requests:
                await connection.ask(request)

    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.TaskGroup() as running:
        for connection in connections:
            running.create_task(client(connection))
    return loop.time() - started


async def _memory(port: int, process: int, lasting: int) -> dict[str, Any]:
    """Give what is resident before and after requests of both kinds, from clients side by side."""
    each = max(lasting // (2 * SIDE_BY_SIDE), 1)
    async with AsyncExitStack() as open_ones:
        connections = [
            await open_ones.enter_async_context(connected(port)) for _ in range(SIDE_BY_SIDE)
        ]
        await _together(connections, max(each // 10, 1), ASK_WHOLE, ASK_STREAM)
        before = _resident_mib(process)
        await _together(connections, each, ASK_WHOLE, ASK_STREAM)
        after = _resident_mib(process)
    return {
        "requests": 2 * each * SIDE_BY_SIDE,
        "before_mib": round(before, 1),
        "after_mib": round(after, 1),
        "growth_percent": round(100 * (after / before - 1), 2),
        "target_percent": GROWTH_TARGET,
    }


def _resident_mib(process: int) -> float:
    """Read what is resident of a process (proc(5), statm: pages)."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / MEBIBYTE


async def _livez(port: int, requests: int) -> dict[str, Any]:
    """Ask for life again and again while a small model of random weights speaks."""
    with tempfile.TemporaryDirectory() as folder:
        random_checkpoint.write(Path(folder), random_checkpoint.SIZES["tiny"], clips=0.1)
        with service(port, SESAME_MODEL=folder, SESAME_MAX_STREAMS=str(SIDE_BY_SIDE)):
            return await _livez_while_it_speaks(port, requests)


async def _livez_while_it_speaks(port: int, requests: int) -> dict[str, Any]:
    done = asyncio.Event()
    engines: list[str] = []

    async def speak(connection: Connection) -> None:
        while not done.is_set():
            head = (await connection.ask(SPEAK)).head.decode("latin-1").lower()
            engines.append(head.partition("\r\nx-speech-engine: ")[2].partition("\r\n")[0])

    async with AsyncExitStack() as open_ones:
        first, *others = [
            await open_ones.enter_async_context(connected(port)) for _ in range(SIDE_BY_SIDE + 1)
        ]
        async with asyncio.TaskGroup() as speaking:
            for connection in others:
                speaking.create_task(speak(connection))
            milliseconds = []
            for _ in range(requests):
                milliseconds.append(1000 * (await first.ask(get("/livez"))).whole)
                await asyncio.sleep(BETWEEN)
            done.set()
    return {
        "syntheses": SIDE_BY_SIDE,
        "engine": ", ".join(sorted(set(engines))),
        "answers": len(engines),
        "p50_ms": _percentile(milliseconds, 50),
        "p99_ms": _percentile(milliseconds, 99),
        "target_ms": LIVEZ_TARGET,
    }


def _percentile(values: Sequence[float] | np.ndarray[Any, Any], which: float) -> float:
    return round(float(np.percentile(values, which)), 2)


if __name__ == "__main__":
    sys.exit(main())
