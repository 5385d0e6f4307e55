"""The address of a service, from what a person types. Opens no connection."""

import ipaddress
import re
from collections.abc import Callable

import httpx

_ROUTES = ("/api/v1/generate", "/health")

_OBJECTIONS: tuple[tuple[str, Callable[[httpx.URL], bool]], ...] = (
    ("only http and https are spoken here", lambda url: url.scheme not in {"http", "https"}),
    ("a URL with a password in it is refused, use --key-file", lambda url: bool(url.userinfo)),
    ("the URL names no host", lambda url: not url.host or url.host.startswith(".")),
    (
        "a port is a number from 1 to 65535",
        lambda url: url.port is not None and not 0 < url.port < 2**16,
    ),
    ("leave out what follows '?' or '#'", lambda url: bool(url.query or url.fragment)),
)


class AddressError(ValueError):
    """What was typed is no address of a service; the message is for the person."""


def normalise(typed: str) -> str:
    """Return the base address, without a trailing slash, that `typed` stands for.

    `localhost:8000` means http. A path that ends in `/api/v1/generate` (the guide's `SESAME_URL`)
    or `/health` is cut back to where it starts; any other path is kept as a prefix.

    Raises `AddressError` when it is no http or https address.
    """
    text = typed.strip()
    shown = re.sub(r"//[^/?#]*@", "//…@", text)
    if re.search(r"\s", text):
        raise AddressError(f"a URL has no spaces: {shown!r}")
    if "://" not in text:
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?!\d)", text):
            raise AddressError(f"a URL starts with http:// or https://: {shown!r}")
        text = f"http://{text}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise AddressError(f"not a URL ({error}): {shown!r}") from error
    for objection, applies in _OBJECTIONS:
        if applies(url):
            raise AddressError(f"{objection}: {shown!r}")
    path = url.path.rstrip("/")
    for route in _ROUTES:
        path = path.removesuffix(route)
    return str(url.copy_with(path=path or "/")).rstrip("/")


def is_loopback(base: str) -> bool:
    """Tell whether `base` names this machine, so that no proxy can stand in between."""
    host = httpx.URL(base).host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
