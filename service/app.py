"""The application: settings to engines to chain to routes. It decides nothing about speech."""

import logging
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Security
from fastapi.params import Depends
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service import __version__
from service.api import elevenlabs, openai, operations, page, refusals, rungs, sesame, shaping
from service.api.bodies import Bodies
from service.api.borders import CurlType, GuidesUrl, Head, RequestLog, ServerKey
from service.api.draining import Answers, Draining
from service.api.security import SecurityHeaders
from service.api.spoken import Speaker
from service.api.visitors import Visitors, our_names
from service.engines.chain import Chain
from service.engines.engine import Engine
from service.engines.observed import ObservedChain
from service.engines.remembered import Remembered
from service.metrics import Metrics
from service.settings import ServiceSettings
from service.voices import load_personas
from service.wiring import build_engines

__all__ = ["create_app"]

logger = logging.getLogger(__name__)


def create_app(
    settings: ServiceSettings,
    engines: Sequence[Engine] | None = None,
    draining: Draining | None = None,
) -> ASGIApp:
    """Build the service.

    + engines: the rungs; by default those that the settings ask for
    + draining: how whoever serves the app tells it to come to its end
    """
    draining = draining or Draining(settings.grace_seconds)
    personas = load_personas(settings.voices_dir)
    instance = uuid.uuid4().hex
    metrics = Metrics()
    chain = Chain(
        build_engines(settings, personas, instance) if engines is None else engines,
        deadline_seconds=settings.deadline_seconds,
        stall_seconds=settings.stall_seconds,
        queue_limit=settings.queue_limit,
        metrics=metrics,
    )
    metrics.watch(ObservedChain(chain))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        _say_who_may_receive_text(chain, settings)
        try:
            await chain.start()
            yield
        finally:
            await chain.stop()

    app = FastAPI(
        title="Sesame",
        summary="A private voice for Maya.",
        version=__version__,
        lifespan=lifespan,
        middleware=_borders(settings),
        # Ours asks no other host.
        docs_url=None,
        redoc_url=None,
        # A redirect would have the text sent twice.
        redirect_slashes=False,
    )
    refusals.install(app)
    app.include_router(page.routes())
    app.include_router(operations.routes(chain, personas, metrics, settings, draining))
    app.include_router(
        rungs.routes(chain, personas, metrics, settings),
        dependencies=_documented_keys(settings),
    )
    remembered = Remembered(chain, settings.cache_bytes, metrics)
    speaker = Speaker(
        chain, remembered, personas, settings.enabled, instance, draining, settings.public_url
    )
    for dialect in (sesame, openai, elevenlabs):
        app.include_router(dialect.routes(speaker), dependencies=_documented_keys(settings))
    app.include_router(shaping.routes(), dependencies=_documented_keys(settings))
    # Outside the app, so that the answer to a defect has an id and a log line too.
    return GuidesUrl(RequestLog(SecurityHeaders(Answers(app, draining)), metrics))


def _say_who_may_receive_text(chain: Chain, settings: ServiceSettings) -> None:
    hosts = sorted({rung.host for rung in chain.rungs if rung.host is not None})
    if hosts:
        logger.warning("text may be sent to: %s", ", ".join(hosts))
    else:
        logger.info("no text leaves this host")
    for warning in settings.warnings:
        logger.warning("%s", warning)


def _borders(settings: ServiceSettings) -> list[Middleware]:
    """Give what every request passes, the first one first."""
    origins = settings.cors_origins.split(",") if settings.cors_origins else []
    allowed = settings.allowed_hosts.split(",") if settings.allowed_hosts else []
    names = our_names(allowed, settings.public_url)
    borders = [Middleware(Visitors, names=names, origins=origins)]
    if origins:
        borders.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["*"],
            )
        )
    if settings.server_key is not None:
        borders.append(Middleware(ServerKey, key=settings.server_key.get_secret_value()))
    return [*borders, Middleware(Bodies), Middleware(Head), Middleware(CurlType)]


def _documented_keys(settings: ServiceSettings) -> list[Depends]:
    """Say in the OpenAPI document how the key is shown; ServerKey is who checks it."""
    if settings.server_key is None:
        return []
    schemes = [HTTPBearer(auto_error=False)] + [
        APIKeyHeader(name=name, scheme_name=name, auto_error=False)
        for name in ("xi-api-key", "X-API-Key")
    ]
    return [Security(scheme) for scheme in schemes]
