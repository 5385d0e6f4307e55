"""Servers of this machine that stand in for those elsewhere, each a process of its own.

    python -m benchmarks.standins elevenlabs PORT

They answer well and at once. What a cloud does wrong is the business of the tests.
"""

import math
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["main", "pcm"]

RATE = 24_000  # Hz
SECONDS = 1.0
BLOCKS = 5


class ElevenLabs(BaseHTTPRequestHandler):
    """The route of theirs that speaks, streamed, and the one that costs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer any question about the account."""
        self._head("application/json", length=2)
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        """Speak a hum."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._head("audio/pcm", length=None)
        audio = pcm()
        step = len(audio) // BLOCKS
        for start in range(0, len(audio), step):
            block = audio[start : start + step]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, kind: str, length: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def pcm() -> bytes:
    """Give a second of a hum, 16-bit mono at 24 kHz."""
    count = round(SECONDS * RATE)
    wave = (int(9_000 * math.sin(2 * math.pi * 220 * n / RATE)) for n in range(count))
    return struct.pack(f"<{count}h", *wave)


def main(arguments: list[str]) -> int:
    """Serve until ended."""
    _, port = arguments
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), ElevenLabs)
    server.daemon_threads = True
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
