"""How every dialect reads a body: what is taken for JSON, and text that was cut in half."""

from fastapi import Request

from service.errors import ContentTypeError

__all__ = ["AUDIO", "JSON", "names_json", "require_json", "without_lone_surrogates"]

JSON = "application/json"

AUDIO = {"schema": {"type": "string", "format": "binary"}}
"""A body of audio, for the OpenAPI document."""


def without_lone_surrogates(value: object) -> object:
    """Mend text that a JavaScript client cut in the middle of an emoji."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def require_json(request: Request) -> None:
    """Refuse a content type that is not JSON; none at all is tolerated."""
    named = request.headers.get("content-type", JSON)
    kind = named.partition(";")[0].strip().lower()
    if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ContentTypeError(
            f"the content type is {named[:60]!r}", "send Content-Type: application/json"
        )


def names_json(accept: str | None) -> bool:
    """Tell whether a client that would take anything else too names JSON, and no audio."""
    named = [kind.partition(";")[0].strip().lower() for kind in (accept or "").split(",")]
    return JSON in named and not any(kind.startswith("audio/") for kind in named)
