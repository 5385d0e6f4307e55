"""What bounds a conversation with a server elsewhere, and what its failures mean.

It knows HTTP and no API: who is asked, for what, and how the answer sounds is the rung's business.
"""

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from service.engines.incoming import MAX_BODY_BYTES
from service.errors import AudioError, EngineError, RungError, SettingsError

__all__ = [
    "READ_SECONDS",
    "Refusal",
    "Server",
    "open_client",
    "refusal",
    "retry_after_of",
    "unreached",
]

CONNECT_SECONDS = 3.0  # for a name, a connection and TLS
READ_SECONDS = 20.0  # between two bytes; the chain's own limits are shorter
MAX_REFUSAL_BYTES = 65_536  # of an answer that is no success: only a word of it is read
LONGEST_RETRY_AFTER = 86_400.0  # seconds; who names more is asked again after a day

TIMEOUTS = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)


@dataclass(frozen=True)
class Server:
    """Who is asked, in the words of an error.

    + name: for people; + host: where it is
    + key: the setting that holds the key shown to it
    + address: the setting that says where it is, or which model is asked for
    """

    name: str
    host: str
    key: str
    address: str


@dataclass(frozen=True)
class Refusal:
    """What an answer that is no success means.

    + failure: its class; + what, next_step: may hold the fields of a `Server` in braces
    """

    failure: str
    what: str
    next_step: str


LOOK_AGAIN = "the next rung speaks; python -m service.rungs says whether it is back"
CORRECT_KEY = "correct {key}, then restart the service"
CORRECT_ADDRESS = "correct {address}; python -m service.rungs says what is there"
SHORTEN = "send a shorter or plainer text; python -m service.rungs checks the settings of {name}"

STATUSES: Mapping[int, Refusal] = {
    400: Refusal("unspeakable", "{name} refuses the request", SHORTEN),
    401: Refusal("credentials", "{name} refuses the key", CORRECT_KEY),
    402: Refusal("payment", "{name} wants a payment", "settle it with {name}"),
    403: Refusal("credentials", "the key lacks a right at {name}", CORRECT_KEY),
    404: Refusal("wrong_address", "{name} has nothing at this address", CORRECT_ADDRESS),
    405: Refusal("wrong_address", "{name} takes no text at this address", CORRECT_ADDRESS),
    408: Refusal("transient", "{name} waited too long for the request", LOOK_AGAIN),
    410: Refusal("wrong_address", "{name} has given this address up", CORRECT_ADDRESS),
    413: Refusal("unspeakable", "the text is too long for {name}", SHORTEN),
    415: Refusal("wrong_address", "{name} takes no JSON at this address", CORRECT_ADDRESS),
    422: Refusal("unspeakable", "{name} cannot say this text, or refuses a field", SHORTEN),
    429: Refusal("busy", "{name} is asked too often", "ask less, or get a larger plan"),
    508: Refusal(
        "loop", "{name} got the request back from itself", "let {address} name another server"
    ),
}
"""Statuses with a meaning of their own; `refusal` says what the others come to."""


def refusal(
    status: int, headers: Mapping[str, str], server: Server, meaning: Refusal | None = None
) -> EngineError:
    """Say what an answer that is no success means.

    + headers: of the answer, their names in any case where they are httpx's
    + meaning: where the body told more than the status
    """
    wait = retry_after_of(headers)
    found = meaning or _meaning(status, told=wait is not None)
    return EngineError(
        f"{found.what.format_map(vars(server))}: HTTP {status} from {server.host}",
        found.next_step.format_map(vars(server)),
        failure=found.failure,
        retry_after=wait,
    )


def _meaning(status: int, *, told: bool) -> Refusal:
    """Give what a status means; `told`: it came with a time."""
    if status in STATUSES:
        return STATUSES[status]
    if status < 300:
        return Refusal("wrong_address", "this is no answer of {name}", CORRECT_ADDRESS)
    if status < 400:
        return Refusal("wrong_address", "{name} sends us to another address", CORRECT_ADDRESS)
    if status < 500:
        return STATUSES[400]
    if status == 503 and told:
        return Refusal("busy", "{name} is busy", LOOK_AGAIN)
    return Refusal("transient", "{name} failed", LOOK_AGAIN)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in both its forms (RFC 9110, 10.2.3): seconds from now, at most a day."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(float(said), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), LONGEST_RETRY_AFTER)


def unreached(error: httpx.HTTPError | httpx.InvalidURL, server: Server) -> EngineError:
    """Say why a request got no answer. What breaks off a body, the client says itself."""
    if isinstance(error, httpx.TimeoutException):
        return EngineError(f"{server.host} did not answer in time", LOOK_AGAIN, failure="timeout")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        return EngineError(
            f"{server.host} cannot be asked: the address or the key cannot be sent",
            CORRECT_ADDRESS.format_map(vars(server)),
            failure="wrong_address",
        )
    what, outcome, next_step = _reason(error)
    return EngineError(
        f"{server.host} {what}",
        next_step.format_map(vars(server)),
        outcome=outcome,
        failure="transient",
    )


CHECK_NETWORK = (
    "check the network, a proxy and {address}; python -m service.rungs says when it is back"
)
CHECK_TLS = "check the clock, a proxy and the certificates of this host, and {address}"


def _reason(error: BaseException) -> tuple[str, str, str]:
    """Give what happened to a connection, in a line and in a word, and what to do."""
    if isinstance(error, httpx.ProxyError):
        return "cannot be reached through the proxy", "proxy", CHECK_NETWORK
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return "is a name that is not known here", "unknown_host", CHECK_NETWORK
        if isinstance(cause, ssl.SSLError):
            return (
                f"cannot be trusted: TLS failed ({cause.reason or 'no reason'})",
                "tls",
                CHECK_TLS,
            )
        if isinstance(cause, ConnectionRefusedError):
            return "refuses the connection", "refused", CHECK_NETWORK
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached", "unreachable", CHECK_NETWORK
    return "closed the connection", "reset", LOOK_AGAIN


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def open_client(server: Server, base_url: str) -> httpx.AsyncClient:
    """Open a client whose every answer is bounded.

    It follows no redirect: one is refused before its body is read. It takes no compressed body and
    no more than 64 MiB of any. What goes wrong within a body it raises as RungError: cut off,
    reset, stalled; what goes wrong before is httpx's own, for `unreached`. A proxy of the
    environment is used, but not for this host's own servers.

    Raises SettingsError where the proxy or certificate settings of the environment cannot be used.
    """
    loopback = _is_loopback(base_url)
    verify: bool | ssl.SSLContext = True
    if loopback and base_url.startswith("http:"):
        # No TLS can be met there; a context that trusts nobody spares reading every authority.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.AsyncClient(
            timeout=TIMEOUTS,
            trust_env=not loopback,
            verify=verify,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"request": [_bound_request], "response": [_bound_response(server)]},
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise SettingsError(
            "the proxy or certificate settings of the environment cannot be used; correct or unset"
            " HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from error


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _bound_request(request: httpx.Request) -> None:
    """Set the time limits: an SDK gives one number for all of them, or none."""
    request.extensions["timeout"] = TIMEOUTS.as_dict()


def _bound_response(server: Server) -> Callable[[httpx.Response], object]:
    async def bound(response: httpx.Response) -> None:
        if response.status_code < 300:
            encoding = response.headers.get("content-encoding", "identity").lower()
            if encoding != "identity":
                raise AudioError(f"{server.host} compresses its answer unasked", "compressed")
            endless: RungError = AudioError(f"{server.host} sends without end", "too_long")
            response.stream = _BoundedBody(response.stream, MAX_BODY_BYTES, endless, server)
            return
        refused = refusal(response.status_code, response.headers, server)
        if response.is_redirect or "content-encoding" in response.headers:
            raise refused
        response.stream = _BoundedBody(response.stream, MAX_REFUSAL_BYTES, refused, server)

    return bound


class _BoundedBody(httpx.AsyncByteStream):
    """The body of an answer, its failures in our words; `endless` is raised after `most` bytes."""

    def __init__(
        self,
        body: httpx.SyncByteStream | httpx.AsyncByteStream,
        most: int,
        endless: RungError,
        server: Server,
    ) -> None:
        if not isinstance(body, httpx.AsyncByteStream):
            raise TypeError("the client is asynchronous")
        self._body = body
        self._left = most
        self._endless = endless
        self._server = server
        self._begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                self._begun = True
                self._left -= len(piece)
                if self._left < 0:
                    raise self._endless
                yield piece
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    async def aclose(self) -> None:
        await self._body.aclose()

    def _broken(self, error: httpx.HTTPError) -> RungError:
        if isinstance(error, httpx.TimeoutException):
            return EngineError(
                f"{self._server.host} went silent in the middle of its answer",
                LOOK_AGAIN,
                failure="stalled" if self._begun else "timeout",
            )
        if isinstance(error, httpx.RemoteProtocolError):
            return AudioError(f"{self._server.host} cut its answer off", "truncated")
        return EngineError(
            f"{self._server.host} reset the connection in the middle of its answer",
            LOOK_AGAIN,
            failure="transient",
            outcome="reset",
        )
