"""The configuration report and the drill over HTTP. What they find is for service.rungs to say."""

from fastapi import APIRouter, Depends, Request

from service.api.presence import while_present
from service.api.reading import require_json
from service.api.refusals import documented
from service.engines.chain import Chain
from service.errors import ContentTypeError, DrillRunningError
from service.metrics import Metrics
from service.rungs.drill import Drill, DrillPlan, DrillReport
from service.rungs.report import Inspection, RungsReport
from service.settings import ServiceSettings
from service.voices import Personas

__all__ = ["routes"]


def require_named_json(request: Request) -> None:
    """Refuse a request that names no JSON. A browser asks us before it sends that from elsewhere.

    Without a body or a type any web page could have the drill spend.
    """
    if "content-type" not in request.headers:
        raise ContentTypeError(
            "no content type is named", "send Content-Type: application/json, and {} as the body"
        )
    require_json(request)


def routes(
    chain: Chain, personas: Personas, metrics: Metrics, settings: ServiceSettings
) -> APIRouter:
    """Give the routes of the rungs' configuration."""
    router = APIRouter(tags=["rungs"])
    inspection = Inspection(chain, settings)
    drill = Drill(
        chain.rungs,
        next(iter(personas.values())),
        deadline_seconds=settings.deadline_seconds,
        stall_seconds=settings.stall_seconds,
        metrics=metrics,
    )
    drilling = False

    @router.get(
        "/rungs",
        summary="Tell how each rung is set, and what to do; spends no character",
        responses=documented(401),
    )
    async def report() -> RungsReport:
        return await inspection.report()

    @router.get(
        "/rungs/drill",
        summary="Tell what a drill would do and spend; spends nothing",
        responses=documented(401),
    )
    async def plan() -> DrillPlan:
        return drill.plan()

    @router.post(
        "/rungs/drill",
        summary="Break each rung in turn, and hear the next one speak; spends what the plan says",
        responses=documented(401, 408, 409, 413, 415),
        dependencies=[Depends(require_named_json)],
    )
    async def make(request: Request) -> DrillReport:
        nonlocal drilling
        await request.body()
        if drilling:
            raise DrillRunningError("a drill is being made", "wait for its end, and ask again")
        drilling = True
        try:
            return await while_present(request.receive, drill.run())
        finally:
            drilling = False

    return router
