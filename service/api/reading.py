"""How every dialect reads a body: what is taken for JSON, and text that was cut in half."""

from fastapi import Request

from service.errors import ContentTypeError

__all__ = ["AUDIO", "require_json", "without_lone_surrogates"]

AUDIO = {"schema": {"type": "string", "format": "binary"}}
"""A body of audio, for the OpenAPI document."""


def without_lone_surrogates(value: object) -> object:
    """Mend text that a JavaScript client cut in the middle of an emoji."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def require_json(request: Request) -> None:
    """Refuse a content type that is not JSON; none at all is tolerated."""
    named = request.headers.get("content-type", "application/json")
    kind = named.partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise ContentTypeError(
            f"the content type is {named[:60]!r}", "send Content-Type: application/json"
        )
