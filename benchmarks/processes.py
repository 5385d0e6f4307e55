"""Programs of ours as processes of their own, for as long as a measurement takes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

__all__ = ["HOST", "free_ports", "layer", "service", "stand_in"]

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds for a process to answer


@contextmanager
def service(
    port: int, *, wait: bool = True, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run our service, without a model where none is named.

    + wait: until its health is good
    + environment: its settings
    """
    settings = {"SESAME_MODEL": "", "SESAME_CACHE_BYTES": "0", **environment}
    with _process("service", SESAME_PORT=str(port), **settings) as running:
        if wait:
            _wait_for(f"http://{HOST}:{port}/health")
        yield running


@contextmanager
def stand_in(name: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of `benchmarks.standins`."""
    with _process("benchmarks.standins", name, str(port)) as running:
        _wait_for(f"http://{HOST}:{port}/")
        yield running


@contextmanager
def layer(name: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of `benchmarks.layers`."""
    with _process("benchmarks.layers", name, SESAME_MODEL="", SESAME_PORT=str(port)) as running:
        _wait_for(f"http://{HOST}:{port}/livez")
        yield running


def free_ports(count: int) -> list[int]:
    """Give ports of loopback on which nobody listens."""
    listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def _process(module: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(  # noqa: S603 (our own programs)
        [sys.executable, "-m", module, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


def _wait_for(url: str) -> None:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer within {PATIENCE:g} s")
