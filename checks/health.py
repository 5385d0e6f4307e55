"""Whether `/health` answers in time, in the contract's form, and agrees with itself and the probes.

Knows the contract's state table and nothing of how an answer sounds; `speech` holds the words
against the deed.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from checks.client import Answer, BrokenAnswerError, Client, SlowAnswerError
from checks.report import CheckError, JsonObject, Result, Timing, Verdict, printable

HEALTH_SECONDS = 2.0
"""The shortest time-out among the clients of the contract (F, `SesameHealthMonitor`)."""

LOADED_STEP = "Wait until /health no longer says loading, and run it again."
"""What to do about everything that a service which loads its model leaves open."""

_FIELD_LENGTH = 200

_LOG_HINT = "Look into the service's log: docker logs <container>."


class StrangerError(CheckError):
    """Something answers at the address, and it is not recognisably this service."""


class RefusedHealthError(CheckError):
    """The service answered `/health` with an error."""

    verdict = Verdict.NOT_MET


class _Badge(BaseModel):
    icon: str
    label: str


class _Engine(BaseModel):
    name: str
    state: str
    reason: str | None = None


class Form(BaseModel):
    """The fields of `/health`; unknown ones are no error."""

    model_config = ConfigDict(strict=True)

    status: Literal["healthy", "degraded", "loading", "offline"]
    model_loaded: bool
    mode: Literal["offline", "online"]
    engine: str | None
    badge: _Badge
    device: str | None
    model: str | None
    version: str
    uptime_seconds: float = Field(ge=0)
    voices: list[str] = Field(min_length=1)
    engines: list[_Engine]
    real_time_factor: float | None = Field(default=None, gt=0)
    """Of the warm-up; the contract asks for it only where it was slower than real time."""


@dataclass(frozen=True)
class Health:
    """One answer of `/health` that is recognisably of this service.

    `fields` is what came; `form` is the same checked against the contract, or `None` with
    `form_problems` saying why.
    """

    http: int
    timing: Timing
    fields: JsonObject
    form: Form | None
    form_problems: tuple[str, ...]

    @property
    def status(self) -> str:
        """The `status` field as it came, for messages and for choosing what to try."""
        return _text(self.fields.get("status")) or "unreadable"

    @property
    def voices(self) -> list[str]:
        """The personas to try: those listed, or `maya` when the list is unreadable."""
        return list(dict.fromkeys(self.form.voices)) if self.form else ["maya"]

    @property
    def ready(self) -> list[str]:
        """The engines that are called ready."""
        engines = self.form.engines if self.form else []
        return [engine.name for engine in engines if engine.state == "ready"]

    def summary(self) -> JsonObject:
        """Return what the service says of itself, for the report; unreadable fields are null."""
        badge, voices = self.fields.get("badge"), self.fields.get("voices")
        names = ("status", "engine", "version", "model", "device")
        return {
            **{name: _text(self.fields.get(name)) for name in names},
            "badge": {name: _text(badge.get(name)) for name in ("icon", "label")}
            if isinstance(badge, dict)
            else None,
            "voices": [_text(voice) for voice in voices if isinstance(voice, str)]
            if isinstance(voices, list)
            else None,
            "model_loaded": self.fields.get("model_loaded") is True,
            "real_time_factor": self.form.real_time_factor if self.form else None,
        }


async def observe(client: Client) -> Health:
    """Ask `/health` once.

    Raises `CheckError`: with verdict *unknown* when no service of ours can be recognised there,
    *not met* when the service is there and did not answer in time or only with an error.
    """
    try:
        answer = await client.get("/health", limit=HEALTH_SECONDS)
    except SlowAnswerError:
        raise
    except BrokenAnswerError as error:
        if error.started:
            raise
        raise _stranger(client, "it speaks no HTTP") from error
    return _recognise(client, answer)


async def check(client: Client, health: Health) -> list[Result]:
    """Check the form and the truth of `health`, and the two probes beside it."""
    return [
        Result("health.answers", Verdict.MET, f"HTTP {health.http}", timing=health.timing),
        _check_form(client, health),
        _check_truth(client, health),
        _check_loaded(client, health),
        await _check_livez(client),
        await _check_readyz(client, health),
    ]


@dataclass(frozen=True)
class _State:
    http: int
    status: str
    model_loaded: bool
    icon: str
    label: str


# The contract's table: a silent service by its status, a speaking one by the engine that speaks.
_SILENT = {
    "loading": _State(503, "loading", model_loaded=False, icon="🔴", label="Voice Offline"),
    "offline": _State(503, "offline", model_loaded=False, icon="🔴", label="Voice Offline"),
}
_SPEAKING = {
    "csm": _State(200, "healthy", model_loaded=True, icon="🟢", label="Sesame Local"),
    "remote": _State(200, "healthy", model_loaded=True, icon="🔵", label="Sesame API"),
    "huggingface": _State(200, "degraded", model_loaded=False, icon="🟠", label="Hugging Face"),
    "elevenlabs": _State(200, "degraded", model_loaded=False, icon="🟠", label="ElevenLabs"),
    "basic": _State(200, "degraded", model_loaded=False, icon="🟠", label="Basic Voice"),
}
# First match counts: a rung of a lower rank that is ready must be the one that is named.
_RANKS = {"csm": 0, "remote": 1, "huggingface": 2, "elevenlabs": 2, "basic": 3}


def contradictions(health: Health) -> list[str]:
    """Return where `health`, whose form is right, disagrees with itself by the state table."""
    form = health.form
    if form is None:
        return []
    expected = _SILENT.get(form.status) or _SPEAKING.get(form.engine or "")
    if expected is None:
        return [f"status is {form.status}, and engine {form.engine!r} is none that can speak"]
    label = form.badge.label
    if form.status == "loading" and label.startswith(expected.label):
        label = expected.label  # the contract lets the progress follow
    rows: list[tuple[str, object, object]] = [
        ("HTTP", health.http, expected.http),
        ("status", form.status, expected.status),
        ("model_loaded", form.model_loaded, expected.model_loaded),
        ("badge", f"{form.badge.icon} {label}", f"{expected.icon} {expected.label}"),
    ]
    case = f"status {form.status}" if form.status in _SILENT else f"engine {form.engine}"
    found = [
        f"{name} is {_shown(seen)} and with {case} must be {_shown(right)}"
        for name, seen, right in rows
        if seen != right
    ]
    return found + _engine_contradictions(form, health.ready)


def _engine_contradictions(form: Form, ready: list[str]) -> list[str]:
    ready_names = ", ".join(ready) or "none"
    if form.status == "offline":
        return [f"status is offline, yet ready: {ready_names}"] if ready else []
    if form.status == "loading":
        return ["status is loading, yet csm is ready"] if "csm" in ready else []
    if form.engine not in ready:
        return [f"engine {form.engine} speaks and is not ready; ready: {ready_names}"]
    rank = _RANKS[form.engine]
    return [
        f"engine {form.engine} speaks, yet {name} comes before it and is ready"
        for name in ready
        if _RANKS.get(name, rank) < rank
    ]


def _check_form(client: Client, health: Health) -> Result:
    return Result.of_problems(
        "health.form",
        [client.quote(problem) for problem in health.form_problems],
        met="every field of the contract",
        next_step="Compare the service's version with that of these checks.",
        timing=None,
    )


def _check_truth(client: Client, health: Health) -> Result:
    if health.form is None:
        return Result(
            "health.truthful",
            Verdict.UNKNOWN,
            "cannot be told: the form of the answer is not right",
            "Mend health.form first.",
        )
    return Result.of_problems(
        "health.truthful",
        [client.quote(problem) for problem in contradictions(health)],
        met=f"{health.status}, spoken by {client.quote(health.form.engine or 'none')}",
        next_step=_LOG_HINT,
        timing=None,
    )


def _check_loaded(client: Client, health: Health) -> Result:
    """Tell a service whose primary voice is yet to come from one that is as good as it gets."""
    if health.status != "loading":
        return Result("health.loaded", Verdict.MET, "nothing is being loaded")
    engines = health.form.engines if health.form else []
    progress = ", ".join(
        f"{engine.name} ({engine.reason})" if engine.reason else engine.name
        for engine in engines
        if engine.state == "loading"
    )
    return Result(
        "health.loaded",
        Verdict.UNKNOWN,
        f"loading: {client.quote(progress or 'the model')}",
        LOADED_STEP,
    )


async def _check_livez(client: Client) -> Result:
    try:
        answer = await client.get("/livez", limit=HEALTH_SECONDS)
    except CheckError as error:
        return Result.of_error("health.livez", error)
    return Result.of_problems(
        "health.livez",
        [] if answer.status == 200 else [f"/livez answers HTTP {answer.status}, expected 200"],
        met="HTTP 200",
        next_step=_LOG_HINT,
        timing=answer.timing,
    )


async def _check_readyz(client: Client, health: Health) -> Result:
    try:
        answer = await client.get("/readyz", limit=HEALTH_SECONDS)
        if answer.status != _expected_readyz(health):
            # A model may have become ready in between: one more look at both.
            health = await observe(client)
            answer = await client.get("/readyz", limit=HEALTH_SECONDS)
    except CheckError as error:
        return Result.of_error("health.readyz", error)
    expected = _expected_readyz(health)
    contradiction = (
        f"/readyz answers HTTP {answer.status}; {expected} fits /health, which says "
        f"{health.status}, ready: {client.quote(', '.join(health.ready)) or 'none'}"
    )
    return Result.of_problems(
        "health.readyz",
        [] if answer.status == expected else [contradiction],
        met=f"HTTP {answer.status}",
        next_step=_LOG_HINT,
        timing=answer.timing,
    )


def _expected_readyz(health: Health) -> int:
    """Able to speak now: some engine is ready, whatever the primary does."""
    if health.form is None:
        return 200 if health.http == 200 else 503
    return 200 if health.ready else 503


def _recognise(client: Client, answer: Answer) -> Health:
    """Return the health in `answer`. The two fields that Maya's client A reads are its mark."""
    if 300 <= answer.status < 400:
        target = client.quote(answer.headers.get("Location", "nowhere"))
        raise StrangerError(
            f"/health redirects (HTTP {answer.status}) to {target}; redirects are not followed",
            "Give the address that the service itself has.",
        )
    fields = answer.json_object()
    if fields is None:
        raise _stranger(client, f"HTTP {answer.status}, {_kind(client, answer)}")
    if "status" in fields and "model_loaded" in fields:
        return _read(answer, fields)
    if fields.get("success") is False and isinstance(fields.get("error"), str):
        said = client.quote(str(fields["error"]))
        hint = fields.get("hint")
        raise RefusedHealthError(
            f"/health answers HTTP {answer.status}: {said}",
            client.quote(hint) if isinstance(hint, str) and hint else _LOG_HINT,
        )
    raise _stranger(client, f"HTTP {answer.status}, JSON without status and model_loaded")


def _read(answer: Answer, fields: JsonObject) -> Health:
    problems: tuple[str, ...] = ()
    form: Form | None = None
    try:
        form = Form.model_validate(fields)
    except ValidationError as error:
        problems = tuple(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
    return Health(answer.status, answer.timing, fields, form, problems)


def _stranger(client: Client, seen: str) -> StrangerError:
    return StrangerError(
        f"{client.base}/health is not the speech service: {seen}",
        "Check host and port; a proxy in front must pass /health on.",
    )


def _kind(client: Client, answer: Answer) -> str:
    return client.quote(answer.media_type) or "no content type"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(value: object) -> str | None:
    return printable(value[:_FIELD_LENGTH]) if isinstance(value, str) else None
