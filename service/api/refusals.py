"""The error form of our own dialect, and the one table from error to status."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from service import errors
from service.errors import SesameError, SpeechError

__all__ = ["ErrorBody", "documented", "install", "refusal"]


class ErrorBody(BaseModel):
    """What every error looks like."""

    success: bool = False
    error: str
    """What happened, with the value."""
    code: str
    """The same for programs."""
    hint: str
    """What to do next."""


@dataclass(frozen=True)
class Refusal:
    """How an error is answered."""

    status: int
    code: str
    meaning: str
    headers: Mapping[str, str] | None = None


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sesame"'}
RETRY = {"Retry-After": "10"}  # seconds; about the time in which a container restarts

REFUSALS: dict[type[SesameError], Refusal] = {
    errors.NotJsonError: Refusal(400, "not_json", "The body is not JSON"),
    errors.ServerKeyError: Refusal(
        401, "key_refused", "No server key came, or a wrong one", CHALLENGE
    ),
    errors.DrillRunningError: Refusal(409, "drill_running", "Another drill has not ended"),
    errors.BodyTooLargeError: Refusal(413, "body_too_large", "The body is over 1 MiB"),
    errors.ContentTypeError: Refusal(
        415, "content_type_refused", "The body is said not to be JSON"
    ),
    errors.FieldError: Refusal(422, "field_refused", "A field is missing or out of its range"),
    errors.TextEmptyError: Refusal(422, "text_empty", "Nothing in the text can be spoken"),
    errors.TextTooLongError: Refusal(422, "text_too_long", "The text is over 5,000 characters"),
    errors.VoiceUnknownError: Refusal(422, "voice_unknown", "There is no such voice"),
    errors.AudioTooLongError: Refusal(422, "audio_too_long", "The audio would be over 40 minutes"),
    errors.ClientLeftError: Refusal(499, "client_left", "The client left; seen in the log only"),
    errors.ClientStalledError: Refusal(
        499, "client_stalled", "The client stopped reading; seen in the log only"
    ),
    errors.VoiceOfflineError: Refusal(503, "voice_offline", "No rung could speak", RETRY),
    errors.SpeechCutOffError: Refusal(503, "speech_cut_off", "The voice broke off", RETRY),
    errors.LoopError: Refusal(508, "loop", "The request came back to us through SESAME_URL"),
    errors.DeadlineError: Refusal(504, "deadline_exceeded", "No rung spoke in time"),
}

# What Starlette answers by itself, in our words.
HTTP_REFUSALS = {
    404: ("not_found", "there is nothing at this path", "GET /docs lists the routes"),
    405: (
        "method_not_allowed",
        "this path does not take this method",
        "GET /docs lists the routes",
    ),
}


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Describe error answers for the OpenAPI document, from the same table."""
    return {
        status: {
            "model": ErrorBody,
            "description": "; ".join(
                f"{refusal.meaning} (`{refusal.code}`)"
                for refusal in REFUSALS.values()
                if refusal.status == status
            ),
        }
        for status in statuses
    }


def refusal(error: SesameError) -> JSONResponse:
    """Answer with an error."""
    how = REFUSALS[type(error)]
    headers = dict(how.headers or {})
    if isinstance(error, SpeechError) and error.attempts:
        headers["X-Speech-Attempts"] = error.attempts
    return _answer(how.status, how.code, error.message, error.hint, headers)


def install(app: FastAPI) -> None:
    """Have every error of the app, its framework's too, answered in our form."""
    app.exception_handler(SesameError)(_on_sesame_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(Exception)(_on_defect)


def _answer(
    status: int, code: str, error: str, hint: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = ErrorBody(error=error, code=code, hint=hint)
    return JSONResponse(body.model_dump(), status, headers=headers)


async def _on_sesame_error(_: Request, error: SesameError) -> JSONResponse:
    return refusal(error)


async def _on_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return refusal(_not_json())
    field = ".".join(str(part) for part in first["loc"][1:])
    if not field:
        message = "the body is no JSON object"
    elif first["type"] == "missing":
        message = f"{field} is missing"
    else:
        message = f"{field}{_shown(field, first['input'])}: {first['msg']}"
    return refusal(errors.FieldError(message, 'send {"text": "…"}; GET /docs lists the fields'))


def _not_json() -> errors.NotJsonError:
    return errors.NotJsonError(
        "the body is not JSON", 'send {"text": "…"} with Content-Type: application/json'
    )


def _shown(field: str, value: object) -> str:
    """Show a refused value, but never request text: nor its type, which the rule names."""
    if field == "text":
        return ""
    return f"={value!r:.60}"


async def _on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == 400:
        return refusal(_not_json())
    if error.status_code == 413:
        return refusal(errors.BodyTooLargeError(error.detail, "send the text in several requests"))
    unforeseen = ("refused", error.detail, "GET /docs lists the routes")
    code, message, hint = HTTP_REFUSALS.get(error.status_code, unforeseen)
    return _answer(error.status_code, code, message, hint, error.headers)


async def _on_defect(_: Request, error: Exception) -> JSONResponse:
    del error  # Its words may quote the request; the log shows its type and its places.
    return _answer(500, "defect", "the service has a defect", "its log shows where")
