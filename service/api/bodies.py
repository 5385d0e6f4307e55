"""What a body must be before anything of it is read: plain, of a size, and there in time.

Plain ASGI, and it knows no route.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.refusals import refusal
from service.errors import BodyTooLargeError, EncodingError, LengthError, SesameError

__all__ = ["BODY_SECONDS", "LARGEST_BODY", "Bodies"]

LARGEST_BODY = 1024 * 1024  # bytes

BODY_SECONDS = 30.0
"""In which a body must have come: 1 MiB at 280 kbit/s."""


class Bodies:
    """Refuse a body that is compressed, over the limit, or too slow.

    An announced one is refused at once, any other as soon as it is over. Starlette has a limiter
    too, but it answers an announced body in plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400, 408, 413 or 415."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = _refused(Headers(scope=scope))
        if refused is not None:
            await refusal(refused, scope["path"])(scope, receive, send)
            return
        # FastAPI lets its own exceptions through while it reads a body, and no other.
        await self._app(scope, _Body(receive).receive, send)


class _Body:
    """A body on its way."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received = 0
        self._ends: float | None = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        """Give what came next; after the body that may be long in coming."""
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the body did not come within {BODY_SECONDS:g} s") from None
        self._received += len(message.get("body", b""))
        if self._received > LARGEST_BODY:
            raise HTTPException(413, f"the body has over {LARGEST_BODY} bytes")
        if not message.get("more_body", False):
            self._ends = None
        return message


def _refused(headers: Headers) -> SesameError | None:
    encoding = headers.get("content-encoding", "identity").strip()
    if encoding.lower() not in ("", "identity"):
        return EncodingError(
            f"the body is encoded: Content-Encoding: {encoding[:40]!r}", "send it as it is"
        )
    if "transfer-encoding" in headers and "content-length" in headers:
        # RFC 9112, 6.1: who stands between may have read another body than we would.
        return LengthError(
            "the body has a Content-Length and a Transfer-Encoding", "send one of the two"
        )
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > LARGEST_BODY:
        return BodyTooLargeError(
            f"the body has {announced} bytes; at most {LARGEST_BODY} are read",
            "send the text in several requests",
        )
    return None
