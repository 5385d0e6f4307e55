"""`POST /ci/shape`: text for Maya as her backend wants it shaped, with pauses and emphasis as tags.

It speaks nothing. What it writes, `service.text` reads again when the text is spoken.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, BeforeValidator, ConfigDict

from service.api.reading import require_json, without_lone_surrogates
from service.api.refusals import documented

__all__ = ["ShapeBody", "Shaped", "routes", "shape"]


@dataclass(frozen=True)
class Element:
    """How an element of Maya's speaks.

    + pause_ms: after each sentence; + emphasis: whether what is starred is stressed
    """

    pause_ms: int
    emphasis: bool


ELEMENTS: Mapping[str, Element] = {
    "fire": Element(150, emphasis=True),
    "air": Element(200, emphasis=True),
    "water": Element(350, emphasis=False),
    "earth": Element(450, emphasis=False),
    "aether": Element(600, emphasis=False),
}
DEFAULT = "air"
SENTENCE_END = re.compile(r"(?<=[.!?…])(?=\s+\S)")
STARRED = re.compile(r"(?<![\w*])\*{1,2}(?=\S)([^*\n]{1,80}?)(?<=\S)\*{1,2}(?![\w*])")
TAG = re.compile(r"<[^<>]+>")


def _word(value: object) -> str:
    """Take anything: a shaper never refuses what a backend sends beside the text."""
    return value.strip().casefold() if isinstance(value, str) else ""


class ShapeBody(BaseModel):
    """What to shape, and for whom. Unknown fields are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Annotated[str, BeforeValidator(without_lone_surrogates)] = ""
    """The text; one that has tags already is left as it is."""

    style: Any = None
    """An element, where the header names none: fire, air, water, earth or aether."""

    archetype: Any = None
    """Taken and not looked at."""

    meta: Any = None
    """`{"element": …}` names one too."""


class Shaped(BaseModel):
    """The text, shaped where there was anything to shape."""

    text: str
    raw: str
    shaped: str
    shaped_text: str
    shapingApplied: bool  # noqa: N815 (as the backend reads it)
    tags: list[str]
    processingTime: float  # noqa: N815
    """Milliseconds."""


def routes() -> APIRouter:
    """Give the route."""
    router = APIRouter(tags=["speech"], strict_content_type=False)

    @router.post(
        "/ci/shape",
        summary="Shape a text for an element of Maya's",
        responses=documented(400, 401, 408, 413, 415, 422),
        dependencies=[Depends(require_json)],
    )
    async def shape_text(
        asked: ShapeBody, x_maya_element: Annotated[str | None, Header()] = None
    ) -> Shaped:
        started = time.perf_counter()
        named = asked.meta.get("element") if isinstance(asked.meta, dict) else None
        wanted = (_word(x_maya_element), _word(named), _word(asked.style))
        element = next((name for name in wanted if name in ELEMENTS), DEFAULT)
        shaped, tags = shape(asked.text, ELEMENTS[element])
        return Shaped(
            text=shaped,
            raw=asked.text,
            shaped=shaped,
            shaped_text=shaped,
            shapingApplied=bool(tags),
            tags=tags,
            processingTime=round((time.perf_counter() - started) * 1000, 3),
        )

    return router


def shape(text: str, element: Element) -> tuple[str, list[str]]:
    """Give a text with an element's pauses and emphasis, and the tags that were put in."""
    if TAG.search(text):
        return text, []
    pause = f'<pause duration="{element.pause_ms}ms"/>'
    shaped, pauses = SENTENCE_END.subn(pause, text)
    stressed = 0
    if element.emphasis:
        shaped, stressed = STARRED.subn(r"<em>\1</em>", shaped)
    return shaped, [pause] * pauses + ["<em>"] * stressed
