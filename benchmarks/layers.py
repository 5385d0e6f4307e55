"""The two servers that `benchmarks.api` compares, each a process of its own.

    python -m benchmarks.layers ours      the service, behind it an engine that costs nothing
    python -m benchmarks.layers bare      Starlette's routes alone, that answer with the same bytes

Both are run by the service's own program, with all that it tells uvicorn.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from unittest.mock import patch

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks.costless import Costless, babble
from service import app
from service.__main__ import main as program
from service.api.draining import Draining
from service.audio import SAMPLE_RATE, to_pcm16, wav_header
from service.settings import ServiceSettings

__all__ = ["SECONDS", "STREAM", "WHOLE", "main"]

SECONDS = 2.0  # of audio in an answer
WHOLE = "/api/v1/generate"
STREAM = "/v1/audio/speech"
WAV = "audio/wav"


def ours(settings: ServiceSettings, draining: Draining) -> ASGIApp:
    """Give the service with an engine that costs nothing."""
    return app.create_app(settings, [Costless(babble(SECONDS))], draining)


def bare(settings: ServiceSettings, draining: Draining) -> ASGIApp:
    """Give routes that read no request and have their bytes ready."""
    del settings, draining
    pieces = [to_pcm16(block) for block in babble(SECONDS)]
    pcm = b"".join(pieces)
    content = wav_header(len(pcm), SAMPLE_RATE) + pcm
    streamed = [wav_header(None, SAMPLE_RATE) + pieces[0], *pieces[1:]]

    async def in_order() -> AsyncGenerator[bytes]:
        for piece in streamed:
            yield piece
            # As the service does: without it the pieces are written as one.
            await asyncio.sleep(0)

    async def whole(request: Request) -> Response:
        del request
        return Response(content, media_type=WAV)

    async def stream(request: Request) -> Response:
        del request
        return StreamingResponse(in_order(), media_type=WAV)

    async def livez(request: Request) -> Response:
        del request
        return JSONResponse({"alive": True})

    return Starlette(
        routes=[
            Route(WHOLE, whole, methods=["POST"]),
            Route(STREAM, stream, methods=["POST"]),
            Route("/livez", livez),
        ]
    )


LAYERS: Mapping[str, Callable[[ServiceSettings, Draining], ASGIApp]] = {"ours": ours, "bare": bare}


def main(arguments: list[str]) -> int:
    """Serve until ended."""
    (name,) = arguments
    with patch("service.__main__.create_app", LAYERS[name]):
        return program([])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
