"""What every answer tells a browser not to do with it. It knows no route but that of kept audio."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PAGE_POLICY", "SecurityHeaders"]

PAGE_RULES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "media-src": "'self' blob:",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "require-trusted-types-for": "'script'",
}
PAGE_POLICY = "; ".join(f"{rule} {value}" for rule, value in PAGE_RULES.items())
"""What a page of ours may load: its own files, and nothing inline."""

# What is no page needs nothing (OWASP, REST Security Cheat Sheet).
NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"

HEADERS = {
    "Content-Security-Policy": NO_PAGE_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), "
    "payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer that does not say otherwise itself."""

# An `audio_url` is for `<audio>` in Maya's own page, which is of another origin and asks without
# CORS; the name cannot be guessed. Where CORS is spoken, this header counts for nothing.
SHARED_FOLDER = "/audio/"


class SecurityHeaders:
    """Put the headers on every answer, refusals and defects too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if scope["path"].startswith(SHARED_FOLDER):
                    headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin")
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
