"""The pages at `/` and `/docs`, and their files. It knows nothing of speech.

The files are few and small, so they are read once and held in memory. `/docs` is ours because
FastAPI's own loads its programs from another host.
"""

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import RootModel
from starlette.responses import Response

from service.api.operations import STANDINGS, Badge
from service.api.security import PAGE_POLICY

__all__ = ["routes"]

FOLDER = Path(__file__).resolve().parent.parent / "web"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True)
class PageFile:
    """One file of a page, as it is sent."""

    content: bytes
    media_type: str

    def answer(self, request: Request) -> Response:
        """Send the file, or say that the browser has it already."""
        headers = self._headers()
        # RFC 9110, 13.1.2: a browser sends the tag back, and may send several.
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)

    def _headers(self) -> dict[str, str]:
        """Give what a 304 says too: a browser puts its headers in place of those it has kept."""
        # Of the content, not of its time: in a build context all files have the same.
        tag = hashlib.sha256(self.content).hexdigest()[:32]
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        if self.media_type == MEDIA_TYPES[".html"]:
            headers["Content-Security-Policy"] = PAGE_POLICY
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return headers


def routes() -> APIRouter:
    """Give the routes of the pages and their files, which answer GET and HEAD."""
    router = APIRouter(tags=["page"])
    files = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.is_file()}
    files["badges.js"] = _badges()
    page, docs = _answering(files.pop("index.html")), _answering(files.pop("docs.html"))
    router.add_api_route(
        "/",
        page,
        summary="Show the page: try a voice, see which engine speaks",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    router.add_api_route("/", page, methods=["HEAD"], include_in_schema=False)
    others = {"/docs": docs, **{f"/web/{name}": _answering(file) for name, file in files.items()}}
    for path, answer in others.items():
        router.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)
    return router


def _read(path: Path) -> PageFile:
    return PageFile(path.read_bytes(), MEDIA_TYPES[path.suffix])


def _badges() -> PageFile:
    """Give the badge of every engine, as `/health` has it, for the page to import."""
    badges = RootModel[dict[str, Badge]](
        {engine: standing.badge for engine, standing in STANDINGS.items()}
    )
    content = f"export const BADGES = {badges.model_dump_json()};\n"
    return PageFile(content.encode(), MEDIA_TYPES[".js"])


def _answering(file: PageFile) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        return file.answer(request)

    return answer
