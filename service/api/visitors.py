"""Who may speak to this service from a browser: the names we answer to, and the pages we trust.

Any web page can have its reader's browser post to loopback, and a name of its own can be pointed at
us. So a Host that is not ours and an Origin that is not listed are refused before a body is read.
"""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.refusals import refusal
from service.errors import HostRefusedError, OriginRefusedError, RequestError

__all__ = ["Visitors", "our_names"]

LOOPBACK_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")


def our_names(allowed: Iterable[str], public_url: str | None) -> frozenset[str]:
    """Give the names that we answer to, beside addresses.

    An address needs no name service, so nobody can point it at us.

    + allowed: names of the setting
    + public_url: where others reach us
    """
    public = urlsplit(public_url).hostname if public_url else None
    names = (*LOOPBACK_NAMES, socket.gethostname(), *allowed, *([public] if public else []))
    return frozenset(name.casefold().rstrip(".") for name in names)


class Visitors:
    """Refuse a Host that is not ours with 400, and a foreign page with 403.

    + names: that we answer to, in small letters; `*` answers to all
    + origins: of other pages that may ask, such as `https://maya.example`
    """

    def __init__(self, app: ASGIApp, names: frozenset[str], origins: Iterable[str]) -> None:
        self._app = app
        self._names = names
        self._origins = frozenset(origin.rstrip("/").casefold() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (error := self._judge(Headers(scope=scope))):
            await refusal(error, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _judge(self, headers: Headers) -> RequestError | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return HostRefusedError(
                f"the Host {host[:60]!r} is none of this service's names",
                "set SESAME_ALLOWED_HOSTS (a deploy: public_host) to the name that you use",
            )
        origin = headers.get("origin")
        if origin is not None and not self._trusts(origin, host):
            return OriginRefusedError(
                f"pages of {origin[:60]!r} may not ask this service",
                "list it in SESAME_CORS_ORIGINS, if you trust that page",
            )
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name is None:
            return False
        return "*" in self._names or name in self._names or _is_address(name)

    def _trusts(self, origin: str, host: str) -> bool:
        if origin.casefold() in self._origins:
            return True
        try:
            return urlsplit(origin).netloc.casefold() == host.casefold() != ""
        except ValueError:
            return False


def _name(host: str) -> str | None:
    """Give the name of a Host header in small letters, or None where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
