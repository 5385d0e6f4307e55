"""Whether the service is alive and can speak, for people, clients and container engines.

It reports what was last observed and never asks an engine anything.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service import __version__
from service.api.draining import STOPPING, Draining
from service.api.reading import JSON, names_json
from service.engines.chain import Chain
from service.engines.engine import Engine, ModelReport
from service.metrics import CONTENT_TYPE, Metrics
from service.settings import ServiceSettings
from service.voices import Personas

__all__ = ["STANDINGS", "Badge", "Health", "routes"]


class Badge(BaseModel):
    """How Maya's page shows the voice."""

    icon: str
    label: str


class EngineReport(BaseModel):
    """One rung as last observed."""

    name: str
    state: Literal["ready", "loading", "open", "latched", "off"]
    reason: str | None = None


class Health(BaseModel):
    """The guide's health. 200 when the primary or its stand-in speaks, else 503."""

    status: Literal["healthy", "degraded", "loading", "offline"]
    model_loaded: bool
    mode: str
    engine: str | None
    badge: Badge
    device: str | None
    model: str | None
    precision: str | None = None
    real_time_factor: float | None = None
    progress: str | None = None
    version: str
    uptime_seconds: float
    voices: list[str]
    engines: list[EngineReport]
    warnings: list[str] = []
    """Settings that cannot do what they seem to be for."""


class Alive(BaseModel):
    """The process answers."""

    alive: bool = True


class Readiness(BaseModel):
    """Whether a request would be spoken now, by whom, or why not."""

    ready: bool
    engine: str | None
    reason: str | None


class ModelStatus(BaseModel):
    """The model of this host, if it runs one."""

    model_loaded: bool
    model: str | None
    device: str | None
    precision: str | None
    real_time_factor: float | None
    engines: list[EngineReport]


class Usage(BaseModel):
    """What Maya's health monitor reads of the metrics."""

    memoryUsageMB: float  # noqa: N815 (as the monitor reads it)
    """Of this process, in MB."""
    uptime_seconds: float


@dataclass(frozen=True)
class Standing:
    """What it means for health that a rung speaks, or that none does."""

    code: int
    status: Literal["healthy", "degraded", "loading", "offline"]
    badge: Badge
    model_loaded: bool = False


STANDINGS = {
    "csm": Standing(200, "healthy", Badge(icon="🟢", label="Sesame Local"), model_loaded=True),
    "remote": Standing(200, "healthy", Badge(icon="🔵", label="Sesame API"), model_loaded=True),
    "huggingface": Standing(200, "degraded", Badge(icon="🟠", label="Hugging Face")),
    "elevenlabs": Standing(200, "degraded", Badge(icon="🟠", label="ElevenLabs")),
    "basic": Standing(200, "degraded", Badge(icon="🟠", label="Basic Voice")),
}
LOADING = Standing(503, "loading", Badge(icon="🔴", label="Voice Offline"))
SILENT = Standing(503, "offline", Badge(icon="🔴", label="Voice Offline"))


def routes(
    chain: Chain,
    personas: Personas,
    metrics: Metrics,
    settings: ServiceSettings,
    draining: Draining,
) -> APIRouter:
    """Give the routes of operations."""
    router = APIRouter(tags=["operations"])
    enabled = settings.enabled
    started = time.monotonic()

    @router.get(
        "/health",
        summary="Tell who speaks",
        response_model_exclude_unset=True,
        responses={503: {"model": Health, "description": "The model is loading, or none speaks"}},
    )
    async def health(response: Response) -> Health:
        speaker = chain.speaker if enabled and not draining.begun else None
        loading = chain.loading if enabled and not draining.begun else None
        standing = LOADING if loading else STANDINGS[speaker.name] if speaker else SILENT
        response.status_code = standing.code
        model = None if speaker is None or loading else speaker.state.model
        return Health(
            status=standing.status,
            model_loaded=standing.model_loaded,
            mode=settings.mode,
            engine=speaker.name if speaker else None,
            badge=standing.badge,
            device=model.device if model else None,
            model=model.name if model else None,
            version=__version__,
            uptime_seconds=_since(started),
            voices=list(personas),
            engines=_engine_reports(chain),
            **_details(model, loading, settings.warnings),
        )

    # Apart from readiness: a voice that cannot speak is not mended by killing the process.
    @router.get("/livez", summary="Tell that the process is alive")
    async def livez() -> Alive:
        return Alive()

    @router.get(
        "/readyz",
        summary="Tell whether a request would be spoken now",
        responses={503: {"model": Readiness, "description": "It would not"}},
    )
    async def readyz(response: Response) -> Readiness:
        speaker = chain.speaker if enabled else None
        if draining.begun:
            response.status_code = 503
            return Readiness(ready=False, engine=None, reason=STOPPING)
        if speaker is None:
            response.status_code = 503
            return Readiness(ready=False, engine=None, reason=_why_silent(chain, enabled=enabled))
        return Readiness(ready=True, engine=speaker.name, reason=None)

    @router.get("/model/status", summary="Tell how the model stands")
    async def model_status() -> ModelStatus:
        model = next((rung.state.model for rung in chain.rungs if rung.state.model), None)
        return ModelStatus(
            model_loaded=model is not None,
            model=model.name if model else None,
            device=model.device if model else None,
            precision=model.precision if model else None,
            real_time_factor=round(model.real_time_factor, 3) if model else None,
            engines=_engine_reports(chain),
        )

    @router.get(
        "/metrics",
        summary="Tell what was counted, in Prometheus' form; in JSON only where that is named",
        response_class=Response,
        responses={
            200: {
                "content": {
                    CONTENT_TYPE: {"schema": {"type": "string"}},
                    JSON: {"schema": Usage.model_json_schema()},
                }
            }
        },
    )
    async def exposition(request: Request) -> Response:
        if names_json(request.headers.get("accept")):
            usage = Usage(memoryUsageMB=_memory_mb(), uptime_seconds=_since(started))
            return Response(usage.model_dump_json(), media_type=JSON)
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _memory_mb() -> float:
    """Give the memory that is resident for this process (proc(5), statm: pages)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def _details(
    model: ModelReport | None, loading: Engine | None, warnings: Sequence[str]
) -> dict[str, Any]:
    """Give what health says only where there is something to say."""
    details: dict[str, Any] = {}
    if warnings:
        details["warnings"] = list(warnings)
    if loading is not None:
        details["progress"] = loading.state.reason
    if model is not None:
        details["precision"] = model.precision
        details["real_time_factor"] = round(model.real_time_factor, 3)
    return details


def _engine_reports(chain: Chain) -> list[EngineReport]:
    return [EngineReport(**_report(chain, rung)) for rung in chain.rungs]


def _report(chain: Chain, rung: Engine) -> dict[str, Any]:
    breaker = chain.breakers[rung.name]
    told = {"name": rung.name, "state": rung.state.name, "reason": rung.state.reason}
    if rung.state.name == "ready" and breaker.state != "closed":
        told["state"] = "latched" if breaker.state == "latched" else "open"
        told["reason"] = breaker.reason
    return {name: value for name, value in told.items() if value is not None}


def _why_silent(chain: Chain, *, enabled: bool) -> str:
    if not enabled:
        return "SESAME_ENABLED=false"
    return "; ".join(f"{one.name}: {one.reason}" for one in _engine_reports(chain))
