"""Whether somebody answers at an address, asked with apt's own client against real sockets."""

import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from provision.facts import Unreachable


class Handler(BaseHTTPRequestHandler):
    """Answers as a registry, as a mirror with and without the file."""

    def do_GET(self) -> None:
        status = {"/v2/": 401, "/InRelease": 200}.get(self.path, 404)
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name upstream)
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_who_asks_for_a_name_answers_and_who_has_nothing_does_not(server: str) -> None:
    fact = Unreachable()
    urls = [f"{server}/v2/", f"{server}/InRelease", f"{server}/none", "http://127.0.0.1:1/"]
    asked = subprocess.run(
        ["sh", "-c", fact.command(urls)], capture_output=True, text=True, check=True
    )
    silent = fact.process(asked.stdout.splitlines())
    assert set(silent) == {"2", "3"}
    assert silent["2"].startswith("404")
    assert "Connection refused" in silent["3"]
