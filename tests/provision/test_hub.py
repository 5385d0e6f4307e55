"""Whether a token may have a model, asked of servers that answer as the hub does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from provision._docker import Refusal
from provision._hub import Unclear, judge_access
from provision._model import Hub

TOKEN = "hf_a_token_of_nobody"
SHARD = "transformers-00001-of-00002.safetensors"


class _Hub(HTTPServer):
    """Answers every question with one status, and keeps what it was asked."""

    def __init__(self, status: int, location: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status, self.location = status, location
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: _Hub

    def do_HEAD(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def hub(status: int, location: str | None = None) -> Iterator[_Hub]:
    with _Hub(status, location) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def judge(endpoint: str, token: str | None = TOKEN) -> Refusal | Unclear | None:
    return judge_access(Hub(endpoint, "sesame/csm-1b", "c92a71e1"), SHARD, token)


@pytest.mark.parametrize(
    ("status", "token", "reason", "remedy"),
    [
        (401, None, "there is no token", "accept the conditions, make a token"),
        (401, TOKEN, "the token is wrong or has expired", "make a new one"),
        (403, TOKEN, "has not accepted the model's conditions", "open https://huggingface.co/se"),
        (404, TOKEN, "it has no such file at c92a71e1", "check that model_mirror="),
    ],
)
def test_a_refusal_says_what_to_do(
    status: int, token: str | None, reason: str, remedy: str
) -> None:
    with hub(status) as server:
        refusal = judge(server.url, token)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert remedy in refusal.remedy
    assert TOKEN not in str(refusal)


@pytest.mark.parametrize("status", [200, 302, 307])
def test_who_gets_the_file_or_the_way_to_it_may_have_the_model(status: int) -> None:
    with hub(500) as elsewhere, hub(status, elsewhere.url) as server:
        assert judge(server.url) is None
        assert server.asked == [("/sesame/csm-1b/resolve/c92a71e1/" + SHARD, f"Bearer {TOKEN}")]
        assert elsewhere.asked == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_says_nothing_about_the_token(status: int) -> None:
    with hub(status) as server:
        assert isinstance(judge(server.url), Unclear)


def test_a_hub_that_does_not_answer_here_may_answer_the_host() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        unclear = judge(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert isinstance(unclear, Unclear)
    assert "does not answer here: " in unclear.why
