"""An answer that is sent while it is still being made: back-pressure, departure, a broken end.

It knows no dialect, and nothing of what it sends.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.borders import note
from service.api.presence import while_present
from service.errors import ClientLeftError, ClientStalledError, SesameError

__all__ = ["Beginning", "StreamedAnswer"]

READER_SECONDS = 60.0  # as nginx waits for a client that reads nothing (send_timeout)
LARGEST_PIECE = 32 * 1024  # bytes; small, so that who reads slowly is not taken for who does not


@dataclass(frozen=True)
class Beginning:
    """What there is once the first audio is there.

    + headers: of the answer
    + pieces: its body in order; each is asked for when the one before has been taken
    """

    headers: Mapping[str, str]
    pieces: AsyncGenerator[bytes]


class StreamedAnswer(Response):
    """An answer of unknown length, over HTTP/1.1: HTTP/1.0 cannot tell its end from a broken one.

    Entering `making` does the work that leads to the first piece: an error in it is answered as
    any other. An error after that is raised through the server, which then closes the connection
    without the last chunk. `making` is left as soon as the client has left or read nothing for
    READER_SECONDS.

    + making: the work, entered and left in one task
    + media_type: of the body
    """

    def __init__(self, making: AbstractAsyncContextManager[Beginning], media_type: str) -> None:
        super().__init__(media_type=media_type, headers={"X-Accel-Buffering": "no"})
        del self.headers["Content-Length"]
        self._making = making
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the answer and send it, while somebody waits for it."""
        try:
            await while_present(receive, self._make(send))
        except ClientLeftError:
            if not self._begun:
                raise
            # Its head said 200 while the client was there to read it; now nobody is.
            note(scope, status=499)
        except SesameError as error:
            if self._begun:
                note(scope, cut_off=error.message)
            raise

    async def _make(self, send: Send) -> None:
        async with self._making as beginning, aclosing(beginning.pieces) as pieces:
            self.headers.update(beginning.headers)
            head = {"status": self.status_code, "headers": self.raw_headers}
            self._begun = True
            await send({"type": "http.response.start", **head})
            async for piece in pieces:
                for start in range(0, len(piece), LARGEST_PIECE):
                    await _hand_over(send, piece[start : start + LARGEST_PIECE])
                    # A client that reads as fast as we write would never let anyone else run.
                    await asyncio.sleep(0)
        await _hand_over(send, b"", more=False)


async def _hand_over(send: Send, body: bytes, *, more: bool = True) -> None:
    try:
        async with asyncio.timeout(READER_SECONDS):
            await send({"type": "http.response.body", "body": body, "more_body": more})
    except TimeoutError:
        raise ClientStalledError(f"the client read nothing for {READER_SECONDS:g} s") from None
