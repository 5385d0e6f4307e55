"""Addresses of other servers: which can never work, and why. It asks nobody."""

import ipaddress
import socket
from urllib.parse import urlsplit

__all__ = ["host_of", "is_ours", "shown", "why_not"]

RETIRED_HOST = "api-inference.huggingface.co"
CHAT_MODELS = ("blenderbot",)
RETIRED = (
    f"{RETIRED_HOST} is retired: it answers 410 Gone, and router.huggingface.co took its place"
)
CHAT = "facebook/blenderbot-1B-distill is a chat model: it answers with text, never with speech"
WAY_OUT = (
    "for Hugging Face as a fallback set HF_TOKEN to the token (SESAME_HF_MODEL names the model, by"
    " default hexgrad/Kokoro-82M) and SESAME_MODE=offline; for SESAME_MODE=online give the address"
    " of a server that speaks"
)


def why_not(url: str) -> str | None:
    """Say in words why nothing that speaks can be at a URL; None where something may be."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is no URL: {error}"
    if parts.scheme not in ("http", "https") or not host:
        return "it is no URL of the form https://HOST/PATH"
    if parts.username is not None or parts.password is not None:
        return "it holds a user name or a password, which would show in logs; set SESAME_API_KEY"
    reasons = []
    if host == RETIRED_HOST:
        reasons.append(RETIRED)
    if any(name in parts.path.lower() for name in CHAT_MODELS):
        reasons.append(CHAT)
    return f"{'; '.join(reasons)}; {WAY_OUT}" if reasons else None


def shown(url: str) -> str:
    """Write a URL without what it may keep secret: user, password and query."""
    scheme, separator, rest = url.partition("://")
    place = rest.partition("?")[0].rpartition("@")[2]
    return f"{scheme}{separator}{place}"


def host_of(url: str) -> str:
    """Give the host of a URL that `why_not` has nothing against."""
    return urlsplit(url).hostname or ""


def is_ours(url: str, *, host: str, port: int) -> bool:
    """Tell whether a URL leads to what listens on `host` and `port` of this machine."""
    parts = urlsplit(url)
    theirs = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return theirs == port and (
        parts.hostname in ("localhost", socket.gethostname(), host)
        or _is_loopback(parts.hostname or "")
    )


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
