"""The model hub, or a mirror that speaks its protocol: what a repository holds, and its bytes.

Only here is `huggingface_hub` imported: for addresses, headers, and what the Hub's refusals mean.
Its own download is not used: it loses up to 10 MiB at each cut, gives up at a reset, and takes
more bytes than it was promised. It knows nothing of folders or of which files a model needs.
"""

import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2
from huggingface_hub import __version__ as client_version
from huggingface_hub import hf_hub_url, hf_raise_for_status, is_offline_mode
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import parse_ratelimit_headers

from service import __version__
from service.model_cache.refusals import RefusedError

__all__ = ["HUB_URL", "Body", "Hub", "Kept", "Listing", "is_repository"]

HUB_URL = "https://huggingface.co"
TOKEN_FORM = "hf_"  # noqa: S105 (how every token of Hugging Face begins, and no token)
TIMEOUTS = httpx2.Timeout(connect=10, read=30, write=30, pool=30)  # seconds
MOST_REDIRECTS = 5
STORE_REFUSES = (401, 403, 404, 410, 451)
"""Of where the hub passes a file on to: its addresses expire, and some networks forbid it."""

SHA256_LETTERS = 64
MOST_BYTES = 16 * 2**20
"""Of a listing, or of a small file that is read at once."""
MOST_REFUSAL_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Kept:
    """What the hub says of a file without sending it.

    digest: SHA-256 of a large file, the git blob id of a small one; None where it says neither
    """

    size: int | None
    digest: str | None

    @property
    def sha256(self) -> str | None:
        """The digest, where it is one of the content itself."""
        return self.digest if self.digest and len(self.digest) == SHA256_LETTERS else None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at a commit, by path."""

    commit: str
    files: Mapping[str, Kept]


@dataclass(frozen=True, slots=True)
class Body:
    """A file's bytes from `start` on; `total` is the size of the file where the hub says it."""

    start: int
    total: int | None
    pieces: Iterator[bytes]


def is_repository(name: str) -> bool:
    """Say whether a repository can be named so."""
    try:
        hf_hub_url(name, "config.json")
    except HFValidationError:
        return False
    return True


class Hub:
    """One endpoint, asked with or without a token.

    The token goes to the endpoint's own origin and to no other: where the Hub passes a file on to
    its store, the client leaves it out. What is raised never quotes it.

    + endpoint: the address before `/api/models`
    + token: None: ask as nobody; the environment's and the client's own are never taken

    Raises RefusedError: `HF_HUB_OFFLINE` forbids to ask, or Hugging Face has no token of that form.
    """

    def __init__(self, endpoint: str = HUB_URL, token: str | None = None) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._origin = _origin(httpx2.URL(self._endpoint))
        self.host = httpx2.URL(self._endpoint).netloc.decode("ascii")
        self._has_token = token is not None
        if is_offline_mode():
            raise RefusedError("offline")
        if token is not None and self._endpoint == HUB_URL and not token.startswith(TOKEN_FORM):
            raise RefusedError("not_a_token")
        headers = {
            "User-Agent": f"sesame-csm/{__version__}; hf_hub/{client_version}",
            "Accept-Encoding": "identity",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx2.Client(
            headers=headers,
            timeout=TIMEOUTS,
            follow_redirects=True,
            max_redirects=MOST_REDIRECTS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def listing(self, repository: str, revision: str) -> Listing:
        """Ask which files a repository holds, and at which commit.

        Raises RefusedError.
        """
        url = f"{self._endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}"
        facts = _Facts(self.host, repository, revision, "the list of its files")
        with self._answer("GET", url, facts, params={"blobs": "true"}) as answer:
            body = _bounded(answer.iter_raw(), MOST_BYTES, facts)
        try:
            return _listing(json.loads(body))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise facts.refusal("not_a_hub", found="its list of files cannot be read") from None

    def look(self, repository: str, revision: str, path: str) -> Kept:
        """Ask for a file's size and digest: the question that a gated repository answers last.

        Raises RefusedError.
        """
        facts = _Facts(self.host, repository, revision, path)
        url = self._url(repository, revision, path)
        # A redirect within the Hub is a name that has changed; the one to its store says it all.
        for _ in range(MOST_REDIRECTS):
            with self._answer("HEAD", url, facts, follow=False) as answer:
                headers, onward = answer.headers, answer.next_request
            if onward is None or _origin(onward.url) != self._origin:
                break
            url = str(onward.url)
        else:
            raise facts.refusal("redirects")
        own = "" if onward else headers.get("Content-Length", "")
        size = headers.get("X-Linked-Size", own)
        digest = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/")
        return Kept(int(size) if size.isdigit() else None, digest.strip('"') or None)

    def read(self, repository: str, revision: str, path: str) -> bytes:
        """Read a small file at once. Raises RefusedError."""
        facts = _Facts(self.host, repository, revision, path)
        with self._answer("GET", self._url(repository, revision, path), facts) as answer:
            return _bounded(answer.iter_raw(), MOST_BYTES, facts)

    @contextmanager
    def open(self, repository: str, revision: str, path: str, start: int = 0) -> Iterator[Body]:
        """Give a file's bytes, from byte `start` on if the hub will.

        Raises RefusedError, in the middle of the bytes too.
        """
        facts = _Facts(self.host, repository, revision, path, at=start)
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._url(repository, revision, path)
        with self._answer("GET", url, facts, headers=headers) as answer:
            yield self._body(answer, facts)

    def _url(self, repository: str, revision: str, path: str) -> str:
        return hf_hub_url(repository, path, revision=revision, endpoint=self._endpoint)

    def _body(self, answer: httpx2.Response, facts: "_Facts") -> Body:
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise facts.refusal("compressed")
        length = answer.headers.get("Content-Length", "")
        pieces = self._pieces(answer, facts)
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            return Body(0, int(length) if length.isdigit() else None, pieces)
        given = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if given is None:
            raise facts.refusal("not_a_hub", found="a part of a file without Content-Range")
        return Body(int(given[1]), None if given[2] == "*" else int(given[2]), pieces)

    def _pieces(self, answer: httpx2.Response, facts: "_Facts") -> Iterator[bytes]:
        for piece in answer.iter_raw():
            facts.at += len(piece)
            yield piece

    @contextmanager
    def _answer(
        self,
        method: str,
        url: str,
        facts: "_Facts",
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> Iterator[httpx2.Response]:
        """Ask, and give a good answer, its body unread. What goes wrong in it is refused too."""
        begun = False
        try:
            with self._client.stream(
                method, url, headers=headers, params=params, follow_redirects=follow
            ) as answer:
                begun = True
                self._judge(answer, facts)
                yield answer
        except HfHubHTTPError as error:
            raise self._refused(error, facts) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unreached(error, facts, begun=begun) from None

    def _judge(self, answer: httpx2.Response, facts: "_Facts") -> None:
        """Raise unless it is a good answer of a hub's."""
        if answer.status_code >= 400:
            # What it says is in its headers; a body without end is not read.
            _read_at_most(answer.iter_raw(), MOST_REFUSAL_BYTES)
            hf_raise_for_status(answer)
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise facts.refusal("not_a_hub", found="it sends a web page")

    def _refused(self, error: HfHubHTTPError, facts: "_Facts") -> RefusedError:
        answer = error.response
        status = answer.status_code
        said = f"{error.server_message or ''} {answer.headers.get('X-Error-Message', '')}"
        if _origin(answer.url) != self._origin and status in STORE_REFUSES:
            return facts.refusal("store", store=answer.url.host, found=status)
        size = RANGE_SIZE.fullmatch(answer.headers.get("Content-Range", ""))
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size:
            facts.found = size[1]
        else:
            facts.found = status
        for row in MEANINGS:
            if row.means(error, status, said, has_token=self._has_token):
                return facts.refusal(row.kind, seconds=_seconds(answer.headers))
        return facts.refusal("unexpected")


CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
RANGE_SIZE = re.compile(r"bytes \*/(\d+)")


@dataclass
class _Facts:
    """What a refusal may say of a question."""

    host: str
    repository: str
    revision: str
    path: str
    at: int = 0
    found: object = None

    def refusal(self, kind: str, **more: object) -> RefusedError:
        return RefusedError(kind, **{**vars(self), **more})


@dataclass(frozen=True)
class _Meaning:
    """What one answer of the Hub's means; a field that is None leaves it open."""

    kind: str
    error: type[HfHubHTTPError] = HfHubHTTPError
    statuses: range | None = None
    says: str | None = None
    has_token: bool | None = None

    def means(self, error: HfHubHTTPError, status: int, said: str, *, has_token: bool) -> bool:
        return (
            isinstance(error, self.error)
            and (self.statuses is None or status in self.statuses)
            and (self.says is None or self.says in said)
            and self.has_token in (None, has_token)
        )


def _status(status: int) -> range:
    return range(status, status + 1)


MEANINGS = (
    _Meaning("expired_token", says="is expired"),
    _Meaning("wrong_token", says="Invalid credentials"),
    _Meaning("token_right", says="fine-grained token", statuses=_status(403)),
    _Meaning("licence_pending", GatedRepoError, says="awaiting a review"),
    _Meaning("licence_denied", GatedRepoError, says="rejected"),
    # It is a RepositoryNotFoundError too.
    _Meaning("no_token", GatedRepoError, has_token=False),
    _Meaning("wrong_token", GatedRepoError, _status(401)),
    _Meaning("no_licence", GatedRepoError),
    _Meaning("disabled", DisabledRepoError),
    _Meaning("no_revision", RevisionNotFoundError),
    _Meaning("no_file", RemoteEntryNotFoundError),
    # Asked by nobody, the Hub says 401 of what it does not have; over http the library cannot tell.
    _Meaning("wrong_token", statuses=_status(401), has_token=True),
    _Meaning("no_repository", statuses=_status(401)),
    _Meaning("no_repository", RepositoryNotFoundError),
    _Meaning("forbidden", statuses=_status(403)),
    _Meaning("not_a_hub", statuses=range(404, 406)),
    _Meaning("proxy", statuses=_status(407)),
    _Meaning("timeout", statuses=_status(408)),
    _Meaning("range", statuses=_status(416)),
    _Meaning("too_many", statuses=_status(429)),
    _Meaning("failing", statuses=range(500, 600)),
)
"""What the Hub's answers mean; the first that fits counts."""


def _listing(info: Mapping[str, Any]) -> Listing:
    """Read the Hub's answer. Raises AttributeError, KeyError, TypeError: it is none."""
    files = {}
    for file in info["siblings"]:
        large = file.get("lfs") or {}
        size, digest = large.get("size", file.get("size")), large.get("sha256", file.get("blobId"))
        files[str(file["rfilename"])] = Kept(size, digest)
    return Listing(str(info["sha"]), files)


def _unreached(
    error: httpx2.HTTPError | httpx2.InvalidURL, facts: _Facts, *, begun: bool
) -> RefusedError:
    """Say why there was no answer, or not all of it."""
    if isinstance(error, httpx2.TooManyRedirects):
        return facts.refusal("redirects")
    if isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
        return facts.refusal("not_a_hub", found="it redirects to what is no address of the web")
    if isinstance(error, httpx2.TimeoutException):
        return facts.refusal("stalled" if begun else "timeout")
    if begun:
        return facts.refusal("cut")
    if isinstance(error, httpx2.ProxyError):
        return facts.refusal("proxy")
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return facts.refusal("unknown_host")
        if isinstance(cause, ssl.SSLError):
            return facts.refusal("tls", found=cause.reason or "no reason given")
        if isinstance(cause, ConnectionRefusedError):
            return facts.refusal("connection_refused")
    return facts.refusal("unreachable")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _seconds(headers: httpx2.Headers) -> float | None:
    """Give the wait that the hub asks for, by either header it uses."""
    wait = headers.get("Retry-After", "")
    if wait.isdigit():
        return float(wait)
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit and limit.remaining == 0 else None


def _bounded(pieces: Iterator[bytes], most: int, facts: _Facts) -> bytes:
    body = _read_at_most(pieces, most)
    if len(body) > most:
        raise facts.refusal("not_a_hub", found=f"{facts.path} is longer than {most} bytes")
    return body


def _read_at_most(pieces: Iterator[bytes], most: int) -> bytes:
    """Read, and stop once there is more than `most` bytes."""
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > most:
            break
    return bytes(body)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
