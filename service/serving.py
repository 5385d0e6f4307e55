"""The server, and how it is told to stop: one signal drains it, a second one ends it at once.

It knows nothing of speech but whether some is still being spoken.
"""

import asyncio
import logging
import math
import socket
from types import FrameType

import uvicorn

from service.api.draining import Draining

__all__ = ["Server"]

LAST_SECONDS = 2  # after the grace: for the last words to whoever reads slowly
AT_ONCE_SECONDS = 0.2  # for the last words where nobody wants to wait

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Uvicorn, which goes on listening while it drains.

    A caller who is told 503 and when to come again is better off than one who finds no listener.
    """

    def __init__(self, config: uvicorn.Config, draining: Draining) -> None:
        super().__init__(config)
        self._draining = draining

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop, and log what became of that which was being spoken."""
        super().run(sockets)
        end = self._draining
        logger.info("stopped: answers finished: %d, cut off: %d", end.finished, end.cut_off)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on the first signal, at once on the second.

        Uvicorn would raise the signal again at the end, and so end with it instead of a status.
        """
        del sig, frame
        if self.should_exit:
            # A signal handler may run in the midst of anything.
            asyncio.get_running_loop().call_soon_threadsafe(self._end_at_once)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to stop listening; asked every 0.1 s."""
        if not await super().on_tick(counter):
            return False
        if not self._draining.begun:
            logger.info("stopping: answers being spoken: %d", self._draining.speaking)
            self._draining.begin()
        return self._draining.over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait until all is sent, and stop the rungs."""
        patience = self._draining.seconds_left + LAST_SECONDS
        asyncio.get_running_loop().call_later(patience, self._abort_connections)
        # Later than that there is nothing to wait for but a defect.
        self.config.timeout_graceful_shutdown = math.ceil(patience) + 1
        await super().shutdown(sockets)

    def _end_at_once(self) -> None:
        self._draining.break_off()
        asyncio.get_running_loop().call_later(AT_ONCE_SECONDS, self._abort_connections)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
