"""One connection, and how long it may take to say what it wants. It knows nothing of requests."""

import asyncio
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HEAD_SECONDS", "Connection"]

HEAD_SECONDS = 10.0
"""In which the head of a request must have come, from its first byte on, or from the connection's
beginning. Uvicorn itself waits without end."""

logger = logging.getLogger(__name__)


class Connection(H11Protocol):
    """Uvicorn's connection, which is closed when it says nothing, or too slowly, what it wants."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # (as uvicorn's own)
        """Wait for a head from now on."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait no longer than the limit for the rest of a head."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_more()
        elif self._limit is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._limit = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _wait_no_more(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        logger.info("closed a connection: no request within %g s", HEAD_SECONDS)
        self.transport.close()
