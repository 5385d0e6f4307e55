"""Wiring: settings to engines to chain to routes. It decides nothing about speech."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

from fastapi import FastAPI, Security
from fastapi.params import Depends
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from service import __version__
from service.api import operations, refusals, sesame
from service.api.borders import BodyLimit, CurlType, RequestLog, ServerKey
from service.engines.absent import Absent
from service.engines.basic import BasicVoice
from service.engines.chain import Chain
from service.engines.engine import Engine
from service.engines.snapshot import find_snapshot
from service.errors import EngineError, SettingsError
from service.settings import ServiceSettings
from service.voices import Personas, load_personas

__all__ = ["build_engines", "create_app"]


def build_engines(settings: ServiceSettings, personas: Personas) -> list[Engine]:
    """Give the rungs that the settings ask for, in the order in which they are tried.

    Raises SettingsError when none of them could ever speak, or an operator's clip is unusable.
    """
    rungs: list[Engine] = []
    if settings.enabled and settings.model:
        rungs.append(_csm(settings, personas))
    if settings.enabled and settings.basic_voice:
        rungs.append(BasicVoice(personas.values()))
    if rungs and all(isinstance(rung, Absent) for rung in rungs):
        raise SettingsError(
            f"no rung could ever speak: csm: {rungs[0].state.reason}; mend that, or set"
            " SESAME_BASIC_VOICE=true"
        )
    return rungs


def _csm(settings: ServiceSettings, personas: Personas) -> Engine:
    try:
        snapshot = find_snapshot(settings.model, settings.model_revision, settings.hf_home)
    except EngineError as error:
        return Absent("csm", f"{error}; {error.hint}")
    if find_spec("torch") is None:
        return Absent("csm", "this image has no PyTorch; deploy with a model, which brings it")
    from service.engines.csm import CsmVoice  # noqa: PLC0415 (the light image has no torch)

    return CsmVoice(
        snapshot,
        personas,
        device=settings.device,
        precision=settings.precision,
        streams=settings.max_streams,
    )


def create_app(settings: ServiceSettings, engines: Sequence[Engine] | None = None) -> ASGIApp:
    """Build the service.

    + engines: the rungs; by default those that the settings ask for
    """
    personas = load_personas(settings.voices_dir)
    rungs = build_engines(settings, personas) if engines is None else engines
    chain = Chain(
        rungs,
        deadline_seconds=settings.deadline_seconds,
        stall_seconds=settings.stall_seconds,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as running:
            for rung in rungs:
                running.push_async_callback(rung.stop)
                await rung.start()
            yield

    app = FastAPI(
        title="Sesame",
        summary="A private voice for Maya.",
        version=__version__,
        lifespan=lifespan,
        middleware=_borders(settings),
        redoc_url=None,
        # A redirect would have the text sent twice.
        redirect_slashes=False,
    )
    refusals.install(app)
    app.include_router(
        operations.routes(chain, personas, enabled=settings.enabled, mode=settings.mode)
    )
    app.include_router(
        sesame.routes(chain, personas, enabled=settings.enabled),
        dependencies=_documented_keys(settings),
    )
    # Outside the app, so that the answer to a defect has an id and a log line too.
    return RequestLog(app)


def _borders(settings: ServiceSettings) -> list[Middleware]:
    borders = [Middleware(BodyLimit), Middleware(CurlType)]
    if settings.server_key is not None:
        borders.insert(0, Middleware(ServerKey, key=settings.server_key.get_secret_value()))
    return borders


def _documented_keys(settings: ServiceSettings) -> list[Depends]:
    """Say in the OpenAPI document how the key is shown; ServerKey is who checks it."""
    if settings.server_key is None:
        return []
    schemes = [HTTPBearer(auto_error=False)] + [
        APIKeyHeader(name=name, scheme_name=name, auto_error=False)
        for name in ("xi-api-key", "X-API-Key")
    ]
    return [Security(scheme) for scheme in schemes]
