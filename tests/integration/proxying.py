"""A web proxy that wants a password, of a test's own."""

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

USER = "deployer"
PASSWORD = "a%40password%25of%24the-proxy"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:a@password%of$the-proxy".encode()).decode()

UPSTREAM_TIMEOUT_SECONDS = 30
PIECE = 65_536


@dataclass(frozen=True)
class Proxy:
    """A running proxy, and what it was asked for: a method and a host each."""

    url: str
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def do_GET(self) -> None:
        if not self._let_in():
            return
        address = urlsplit(self.path)
        self.proxy.asked.append(f"GET {address.hostname}")
        upstream = HTTPConnection(
            address.hostname or "", address.port or 80, timeout=UPSTREAM_TIMEOUT_SECONDS
        )
        headers = {
            name: value for name, value in self.headers.items() if not name.startswith("Proxy-")
        }
        path = address._replace(scheme="", netloc="").geturl()
        try:
            upstream.request("GET", path, headers=headers)
            answer = upstream.getresponse()
        except OSError:
            self.send_error(502)
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.end_headers()
        while piece := answer.read(PIECE):
            self.wfile.write(piece)
        upstream.close()

    def do_CONNECT(self) -> None:
        if not self._let_in():
            return
        host, _, port = self.path.rpartition(":")
        self.proxy.asked.append(f"CONNECT {host}")
        try:
            upstream = socket.create_connection((host, int(port)), UPSTREAM_TIMEOUT_SECONDS)
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        with upstream:
            back = Thread(target=_pass_on, args=(upstream, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, upstream)
            back.join()

    def _let_in(self) -> bool:
        if self.headers["Proxy-Authorization"] == AUTHORIZATION:
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing: what was asked is kept."""


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(PIECE):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever has gone away wants nothing more.
        return


@contextmanager
def password_proxy(address: str) -> Iterator[Proxy]:
    """Serve a proxy on an address of this machine, at a free port."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer((address, 0), Handler) as server:
        server.daemon_threads = True
        Handler.proxy = Proxy(f"http://{USER}:{PASSWORD}@{address}:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Handler.proxy
        finally:
            server.shutdown()
            thread.join()
