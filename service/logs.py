"""One line an event, for people and for grep. It never says what was spoken."""

import json
import logging
import time
import traceback
from contextvars import ContextVar
from types import TracebackType
from typing import Any

__all__ = ["LOG_CONFIG", "OneLine", "fields", "request_id"]

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The request that is being served, if any: it stands on every line written meanwhile."""


class OneLine(logging.Formatter):
    """`2026-11-22T16:06:00Z INFO service.app id=7f… message`; a traceback without its message.

    An exception's own words may quote request text, so only its type and its places are shown.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s id=%(request_id)s %(message)s",
            "%Y-%m-%dT%H:%M:%SZ",
        )

    def format(self, record: logging.LogRecord) -> str:
        """Give the line of an event, with the request in which it happened."""
        record.request_id = request_id.get()
        return super().format(record)

    def formatException(  # noqa: N802 (its name in logging)
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Give the type and the places of an exception."""
        kind, _, places = ei
        lines = traceback.format_tb(places)
        return f"{''.join(lines)}{kind.__name__ if kind else 'no exception'}"


def fields(values: dict[str, Any]) -> str:
    """Write `name=value` pairs; a value that would break the line apart is quoted as JSON does."""
    return " ".join(f"{name}={_field(value)}" for name, value in values.items())


def _field(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text)


LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"one_line": {"()": OneLine}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "one_line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    # They log every URL, and a URL may hold what is secret.
    "loggers": {name: {"level": "WARNING"} for name in ("httpx", "httpx2", "huggingface_hub")},
}
