"""The one table from error to status, and the form that each dialect gives an error."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from service import errors
from service.errors import SesameError, SpeechError

__all__ = [
    "ElevenLabsError",
    "ErrorBody",
    "OpenAIError",
    "documented",
    "install",
    "refusal",
]


class ErrorBody(BaseModel):
    """What every error of our own dialect looks like."""

    success: bool = False
    error: str
    """What happened, with the value."""
    code: str
    """The same for programs."""
    hint: str
    """What to do next."""


OpenAIErrorType = Literal[
    "invalid_request_error", "authentication_error", "rate_limit_error", "server_error"
]


class OpenAIErrorDetail(BaseModel):
    """What happened, and what to do next."""

    message: str
    type: OpenAIErrorType
    param: str | None = None
    code: str


class OpenAIError(BaseModel):
    """What an error looks like to OpenAI's clients."""

    error: OpenAIErrorDetail


class ElevenLabsErrorDetail(BaseModel):
    """What happened, and what to do next."""

    status: str
    message: str


class ElevenLabsError(BaseModel):
    """What an error looks like to ElevenLabs' clients."""

    detail: ElevenLabsErrorDetail


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
    errors.HostRefusedError: Refusal(400, "host_refused", "The Host header is not ours"),
    errors.OriginRefusedError: Refusal(403, "origin_refused", "A page of another origin asked"),
    errors.ServerKeyError: Refusal(
        401, "key_refused", "No server key came, or a wrong one", CHALLENGE
    ),
    errors.AudioGoneError: Refusal(404, "audio_gone", "The audio is kept no longer"),
    errors.DrillRunningError: Refusal(409, "drill_running", "Another drill has not ended"),
    errors.LengthError: Refusal(400, "length_refused", "The body is said to end in two ways"),
    errors.BodyTooSlowError: Refusal(408, "body_too_slow", "The body did not come in time"),
    errors.EncodingError: Refusal(415, "encoding_refused", "The body is compressed"),
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
    errors.QueueFullError: Refusal(429, "queue_full", "As many wait as may", RETRY),
    errors.VoiceOfflineError: Refusal(503, "voice_offline", "No rung could speak", RETRY),
    errors.ShuttingDownError: Refusal(
        503, "shutting_down", "The service is shutting down", {"Retry-After": "5"}
    ),
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


def documented(
    *statuses: int, model: type[BaseModel] = ErrorBody
) -> dict[int | str, dict[str, object]]:
    """Describe error answers for the OpenAPI document, from the same table.

    + model: the dialect's form
    """
    return {
        status: {
            "model": model,
            "description": "; ".join(
                f"{refusal.meaning} (`{refusal.code}`)"
                for refusal in REFUSALS.values()
                if refusal.status == status
            ),
        }
        for status in statuses
    }


def refusal(error: SesameError, path: str) -> JSONResponse:
    """Answer with an error, in the form of the dialect that a path belongs to."""
    how = REFUSALS[type(error)]
    headers = dict(how.headers or {})
    if isinstance(error, SpeechError) and error.attempts:
        headers["X-Speech-Attempts"] = error.attempts
    if isinstance(error, SpeechError) and error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return _answer(path, how.status, how.code, error.message, error.hint, headers)


def install(app: FastAPI) -> None:
    """Have every error of the app, its framework's too, answered in our form."""
    app.exception_handler(SesameError)(_on_sesame_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(Exception)(_on_defect)


def _answer(
    path: str,
    status: int,
    code: str,
    error: str,
    hint: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    form = next((form for prefix, form in FORMS.items() if path.startswith(prefix)), _own)
    return JSONResponse(form(status, code, error, hint).model_dump(), status, headers=headers)


def _own(_status: int, code: str, error: str, hint: str) -> BaseModel:
    return ErrorBody(error=error, code=code, hint=hint)


def _openai(status: int, code: str, error: str, hint: str) -> BaseModel:
    kind: OpenAIErrorType
    kind = "invalid_request_error"
    if status == HTTPStatus.UNAUTHORIZED:
        kind = "authentication_error"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    detail = OpenAIErrorDetail(message=_sentence(error, hint), type=kind, code=code)
    return OpenAIError(error=detail)


def _elevenlabs(_status: int, code: str, error: str, hint: str) -> BaseModel:
    detail = ElevenLabsErrorDetail(status=code, message=_sentence(error, hint))
    return ElevenLabsError(detail=detail)


def _sentence(error: str, hint: str) -> str:
    return f"{error}: {hint}" if hint else error


FORMS: Mapping[str, Callable[[int, str, str, str], BaseModel]] = {
    "/v1/text-to-speech": _elevenlabs,
    "/v1/": _openai,
}
"""What answers in which form, by the beginning of its path; the rest is ours."""


async def _on_sesame_error(request: Request, error: SesameError) -> JSONResponse:
    return refusal(error, request.url.path)


async def _on_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return refusal(_not_json(), request.url.path)
    field = ".".join(str(part) for part in first["loc"][1:])
    if not field:
        message = "the body is no JSON object"
    elif first["type"] == "missing":
        message = f"{field} is missing"
    else:
        message = f"{field}{_shown(field, first['input'])}: {first['msg']}"
    refused = errors.FieldError(message, "GET /docs lists the fields")
    return refusal(refused, request.url.path)


def _not_json() -> errors.NotJsonError:
    return errors.NotJsonError(
        "the body is not JSON", "send a JSON object with Content-Type: application/json"
    )


def _shown(field: str, value: object) -> str:
    """Show a refused value, but never request text: nor its type, which the rule names."""
    if field in {"text", "input", "inputs"}:
        return ""
    return f"={value!r:.60}"


async def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    path = request.url.path
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return refusal(_not_json(), path)
    if error.status_code == HTTPStatus.REQUEST_TIMEOUT:
        slow = errors.BodyTooSlowError(error.detail, "send it faster, or in several requests")
        return refusal(slow, path)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        large = errors.BodyTooLargeError(error.detail, "send the text in several requests")
        return refusal(large, path)
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods(request))}
    unforeseen = ("refused", error.detail, "GET /docs lists the routes")
    code, message, hint = HTTP_REFUSALS.get(error.status_code, unforeseen)
    return _answer(path, error.status_code, code, message, hint, headers)


def _methods(request: Request) -> list[str]:
    """Find the methods that a path takes; Starlette knows those of the first route alone."""
    routes = request.app.router.routes
    found = [
        method
        for method in ("GET", "POST")
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]
    return [*found, "HEAD"] if "GET" in found else found


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    del error  # Its words may quote the request; the log shows its type and its places.
    path = request.url.path
    return _answer(path, 500, "defect", "the service has a defect", "its log shows where")
