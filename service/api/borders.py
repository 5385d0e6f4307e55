"""What every request passes before it is read: id and log line, server key, method, curl's type.

Plain ASGI, and it knows no route but those that stay open.
"""

import hmac
import logging
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.refusals import refusal
from service.errors import ServerKeyError
from service.logs import fields, request_id
from service.metrics import Metrics

__all__ = ["CurlType", "GuidesUrl", "Head", "RequestLog", "ServerKey", "note"]

OPEN_PATHS = ("/", "/health", "/livez", "/readyz")
# The names of kept audio cannot be guessed; the page's files are the same for everyone.
OPEN_FOLDERS = ("/audio/", "/web/")
GUIDES_URL = "/api/v1/generate"
BELOW_GUIDES_URL = (
    "/audio/",
    "/ci/shape",
    "/health",
    "/metrics",
    "/model/status",
    "/tts",
    "/voices",
)
DIALECTS = {
    "/api/v1/generate": "sesame",
    "/generate": "sesame",
    "/tts": "sesame",
    "/v1/audio/speech": "openai",
}
ELEVENLABS = "/v1/text-to-speech/"
OUTCOMES = {200: "ok", 429: "queue_full", 499: "left"}
"""What became of a request to speak, where that is no plain refusal and no failure."""

# Asked every few seconds by whoever watches; only bad news is worth a line.
QUIET_PATHS = ("/health", "/livez", "/readyz")
FORM = "application/x-www-form-urlencoded"
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

logger = logging.getLogger(__name__)


def note(scope: Scope, **values: object) -> None:
    """Add values to the log line of a request."""
    scope["state"]["noted"].update(values)


class RequestLog:
    """Give each request an id, put it on the answer; write one line and count it when it is over.

    + metrics: where requests to speak are counted
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with an id, and log how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        came = Headers(scope=scope).get("x-request-id", "")
        current = came if SANE_ID.fullmatch(came) else uuid.uuid4().hex
        request_id.set(current)
        noted: dict[str, Any] = {}
        scope.setdefault("state", {})["noted"] = noted
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = current
            await send(message)

        started = time.perf_counter()
        dialect = _dialect(scope)
        try:
            with self._metrics.answering(dialect) if dialect else nullcontext():
                await self._app(scope, receive, send_with_id)
        finally:
            if dialect:
                self._metrics.answered(dialect, _outcome(status, noted), noted)
            if status != 200 or scope["path"] not in QUIET_PATHS:
                line = {
                    "method": scope["method"],
                    "path": scope["path"][:80],
                    "status": status,
                    **noted,
                    "ms": (time.perf_counter() - started) * 1000,
                }
                logger.info(fields(line))


def _dialect(scope: Scope) -> str | None:
    """Name the dialect in which something is to be spoken; None: nothing is."""
    if scope["method"] != "POST":
        return None
    path = scope["path"]
    return "elevenlabs" if path.startswith(ELEVENLABS) else DIALECTS.get(path)


def _outcome(status: int, noted: Mapping[str, Any]) -> str:
    status = noted.get("status", status)
    if "cut_off" in noted:
        return "cut_off"
    is_refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return OUTCOMES.get(status, "refused" if is_refused else "failed")


class ServerKey:
    """Let only those in who show the key. It is compared as bytes, in constant time.

    + key: what callers must show as `Authorization: Bearer`, `xi-api-key` or `X-API-Key`
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] != "http" or _is_open(scope["path"]) or self._shown(scope):
            await self._app(scope, receive, send)
            return
        error = ServerKeyError(
            "this service wants its server key",
            "send Authorization: Bearer KEY, with the value of SESAME_SERVER_KEY",
        )
        await refusal(error, scope["path"])(scope, receive, send)

    def _shown(self, scope: Scope) -> bool:
        matches = [hmac.compare_digest(key, self._key) for key in _keys(scope)]
        return any(matches)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _keys(scope: Scope) -> list[bytes]:
    keys = []
    for name, value in scope["headers"]:
        if name in (b"xi-api-key", b"x-api-key"):
            keys.append(value.strip())
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            keys.append(value[7:].strip())
    return keys


class GuidesUrl:
    """Answer `/api/v1/generate/health` as `/health`, and so on.

    The guide's SESAME_URL holds the whole route, and some of Maya's clients append to it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its path mended."""
        if scope["type"] == "http" and scope["path"].startswith(f"{GUIDES_URL}/"):
            path = scope["path"].removeprefix(GUIDES_URL)
            if path in BELOW_GUIDES_URL:
                scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


class Head:
    """Answer HEAD where GET is answered: monitors ask so. The server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as a GET."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class CurlType:
    """Take curl's default content type for JSON: `curl -d '{"text": "…"}'` names a form.

    Only where no browser speaks: with such a form any web page could post here, and a browser then
    names the page's origin.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its type mended."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if headers.get("content-type") == FORM and "origin" not in headers:
                mended = MutableHeaders(scope={**scope, "headers": list(scope["headers"])})
                mended["content-type"] = "application/json"
                scope = {**scope, "headers": mended.raw}
        await self._app(scope, receive, send)
