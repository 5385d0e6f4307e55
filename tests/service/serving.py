"""A service behind a real socket, in a thread of the tests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import ASGIApp

from service.connection import Connection

TIMEOUT = 20  # seconds; far beyond what any answer takes


def listen() -> tuple[socket.socket, str]:
    """Take a free port of loopback; give it and its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(app: ASGIApp, at: tuple[socket.socket, str] | None = None) -> Iterator[httpx.Client]:
    """Serve an app on a port of loopback, by default a free one, and give a client of it."""
    listener, url = at or listen()
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", http=Connection)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            # The socket listens before the engines have started: the first answer says they have.
            client.get("/livez")
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
