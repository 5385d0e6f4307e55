"""A model hub on two real sockets: the Hub with its gate, and the store that it passes files to.

Status codes and the headers X-Error-Code and X-Error-Message are those of the real Hub, as its own
client and public records of its answers have them.
"""

import hashlib
import json
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from service.model_cache.manifest import Manifest, ModelFile
from tests.provision.checkpoints import INDEX, SHARDS

REPOSITORY = "sesame/csm-1b"
COMMIT = "c92a71e1c419772e25be7dc14d952c2521a740ab"
TOKEN = "hf_SecretOfTheModelHub0000000000000000"
SMALL = 4 * 2**10
"""Bytes; what is larger lies in the store."""

FILES = {
    "config.json": b'{"model_type": "csm"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b"{" + 6_000 * b" " + b"}",
    INDEX: json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode(),
    SHARDS[0]: hashlib.shake_256(b"first").digest(200_000),
    SHARDS[1]: hashlib.shake_256(b"second").digest(50_000),
    "prompts/conversational_a.wav": b"RIFF" + hashlib.shake_256(b"clip").digest(8_000),
    "model.safetensors": hashlib.shake_256(b"original").digest(9_000),
    "ckpt.pt": b"PK",
    "README.md": b"# CSM",
}
"""What the repository holds, the original format included."""

NEEDED = (
    "config.json",
    "generation_config.json",
    "prompts/conversational_a.wav",
    "tokenizer.json",
    *SHARDS,
    INDEX,
)
RANGE = re.compile(r"bytes=(\d+)-")


@dataclass
class Asked:
    """One request; `act` answers it instead of the hub."""

    place: str
    method: str
    path: str
    headers: Mapping[str, str]
    handler: BaseHTTPRequestHandler
    closing: threading.Event

    def start(self, status: int, length: int | None, **headers: str) -> None:
        """Send the head. `_` in a header's name stands for `-`."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.handler.send_header("Content-Length", str(length))
        self.handler.end_headers()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.start(status, len(body), **headers)
        if self.method != "HEAD":
            self.handler.wfile.write(body)

    def leave(self) -> None:
        self.handler.wfile.flush()
        self.handler.close_connection = True

    def reset(self) -> None:
        """Close so that the other side is told of a fault."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.wfile.flush()
        self.handler.connection.close()
        self.handler.close_connection = True

    def start_of_range(self) -> int:
        found = RANGE.fullmatch(self.headers.get("range", ""))
        return int(found[1]) if found else 0


Act = Callable[[Asked], None]


@dataclass
class ModelHub:
    """What the hub holds and how it answers; tests change its fields.

    + gate: token → status, X-Error-Code and X-Error-Message of what it is not given; None: nobody
    + acts: by path of a file, answers to be given in the place of its bytes, each once
    + served: by path, bytes that differ from what the hub says of them
    """

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    repository: str = REPOSITORY
    commit: str = COMMIT
    gate: dict[str | None, tuple[int, str, str]] = field(default_factory=dict)
    acts: dict[str, deque[Act]] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    seen: list[Asked] = field(default_factory=list)
    url: str = ""
    store: str = ""

    def then(self, path: str, *acts: Act) -> None:
        """Let acts answer the next questions for a file's bytes."""
        self.acts.setdefault(path, deque()).extend(acts)

    def asked_for(self, path: str) -> list[str]:
        """Give the `Range` of each question for a file's bytes, empty where it has none."""
        place = f"/{hashlib.sha256(self.files[path]).hexdigest()}"
        return [
            asked.headers.get("range", "")
            for asked in self.seen
            if asked.method == "GET" and asked.path.partition("?")[0] == place
        ]

    def manifest(self) -> Manifest:
        """Describe the files that the engine reads."""
        return Manifest(
            self.repository,
            self.commit,
            tuple(
                ModelFile(path, len(self.files[path]), hashlib.sha256(self.files[path]).hexdigest())
                for path in sorted(NEEDED)
                if path in self.files
            ),
        )

    def handle(self, asked: Asked) -> None:
        self.seen.append(asked)
        path = asked.path.partition("?")[0]
        if asked.place == "store":
            self._give_from_store(asked, path.removeprefix("/"))
        elif found := re.fullmatch(r"/api/models/(.+)/revision/(.+)", path):
            self._list(asked, found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(asked, found[1], found[2], found[3])
        else:
            refuse(asked, 404, "", "Sorry, we can't find the page you are looking for.")

    def _unknown(self, asked: Asked, repository: str, revision: str) -> bool:
        if repository != self.repository:
            if "authorization" in asked.headers:
                refuse(asked, 404, "RepoNotFound", "Repository not found")
            else:
                refuse(asked, 401, "", "Invalid username or password.")
            return True
        if revision not in (self.commit, "main"):
            refuse(asked, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return True
        return False

    def _list(self, asked: Asked, repository: str, revision: str) -> None:
        if act := self._act("the list"):
            act(asked)
            return
        if self._unknown(asked, repository, revision):
            return
        siblings = [describe(path, content) for path, content in self.files.items()]
        body = {"id": repository, "sha": self.commit, "siblings": siblings, "gated": "auto"}
        asked.answer(200, json.dumps(body).encode(), Content_Type="application/json")

    def _resolve(self, asked: Asked, repository: str, revision: str, path: str) -> None:
        if self._unknown(asked, repository, revision):
            return
        token = asked.headers.get("authorization", "").removeprefix("Bearer ") or None
        if token in self.gate:
            refuse(asked, *self.gate[token])
            return
        content = self.files.get(path)
        if content is None:
            refuse(asked, 404, "EntryNotFound", "Entry not found")
            return
        head = {"X_Repo_Commit": self.commit, "ETag": f'"{git_blob_id(content)}"'}
        if len(content) <= SMALL:
            if act := self._act(path):
                act(asked)
            else:
                asked.answer(200, self.served.get(path, content), **head)
            return
        digest = hashlib.sha256(content).hexdigest()
        asked.answer(
            302,
            b"Found",
            **head,
            X_Linked_ETag=f'"{digest}"',
            X_Linked_Size=str(len(content)),
            Location=f"{self.store}/{digest}?signature=secret-of-the-address",
        )

    def _give_from_store(self, asked: Asked, digest: str) -> None:
        path = next(p for p, c in self.files.items() if hashlib.sha256(c).hexdigest() == digest)
        if act := self._act(path):
            act(asked)
            return
        give(asked, self.served.get(path, self.files[path]))

    def _act(self, path: str) -> Act | None:
        waiting = self.acts.get(path)
        return waiting.popleft() if waiting else None


def refuse(asked: Asked, status: int, code: str, message: str) -> None:
    """Refuse as the Hub does: what is wrong stands in the headers."""
    headers = {"X_Error_Code": code} if code else {}
    asked.answer(status, message.encode(), X_Error_Message=message, **headers)


def give(asked: Asked, content: bytes) -> None:
    """Send a file, or its end where a range is asked for."""
    start = asked.start_of_range()
    if start == 0:
        asked.answer(200, content)
    elif start >= len(content):
        asked.answer(416, Content_Range=f"bytes */{len(content)}")
    else:
        head = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        asked.answer(206, content[start:], **head)


def cut(content: bytes, count: int, *, reset: bool = False) -> Act:
    """Promise what is asked for, send `count` bytes of it, and leave."""

    def act(asked: Asked) -> None:
        start = asked.start_of_range()
        head = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        asked.start(206 if start else 200, len(content) - start, **(head if start else {}))
        asked.handler.wfile.write(content[start : start + count])
        if reset:
            asked.reset()
        else:
            asked.leave()

    return act


def chunked(content: bytes) -> Act:
    """Send without saying how long it is."""

    def act(asked: Asked) -> None:
        asked.start(200, None, Transfer_Encoding="chunked")
        asked.handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))

    return act


def status(code: int, body: bytes = b"", **headers: str) -> Act:
    return lambda asked: asked.answer(code, body, **headers)


def describe(path: str, content: bytes) -> dict[str, Any]:
    """Give the Hub's entry for a file, as `?blobs=true` asks for it."""
    entry: dict[str, Any] = {
        "rfilename": path,
        "size": len(content),
        "blobId": git_blob_id(content),
    }
    if len(content) > SMALL:
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()  # noqa: S324 (git's)


@contextmanager
def serving(hub: ModelHub, address: str = "127.0.0.1") -> Iterator[ModelHub]:
    """Serve the hub and its store on free ports of an address of this machine."""
    closing = threading.Event()
    servers = [_server(hub, place, closing, address) for place in ("hub", "store")]
    hub.url, hub.store = (f"http://{address}:{server.server_address[1]}" for server in servers)
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        closing.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def _server(
    hub: ModelHub, place: str, closing: threading.Event, address: str
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.handle(Asked(place, self.command, self.path, headers, self, closing))

        do_GET = do_HEAD = do_CONNECT = _handle  # noqa: N815 (their names in http.server)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Keep quiet: clients leave early here."""

    return Server((address, 0), Handler)
