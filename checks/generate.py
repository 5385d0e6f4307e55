"""The guide's route, and what its answers without audio mean: no key, full, loading, refused."""

from checks.client import Answer, Client
from checks.health import Health
from checks.report import CheckError, Verdict

GENERATE = "/api/v1/generate"

_LOG_HINT = "Look into the service's log: docker logs <container>."


class KeyProblemError(CheckError):
    """The service demands a server key that was not given or is not the right one."""


class BusyError(CheckError):
    """The service's queue is full."""


class LoadingError(CheckError):
    """The service loads its model, and no other rung speaks meanwhile."""


class SpeechRefusedError(CheckError):
    """The service does not speak what it must be able to speak."""

    verdict = Verdict.NOT_MET


async def generate(client: Client, body: bytes, *, limit: float | None = None) -> Answer:
    """Post `body` to the guide's route and return whatever else comes than 401 and 429.

    Raises `CheckError` for these two and for an answer that does not come whole.
    """
    answer = await client.post_json(GENERATE, body, limit=limit)
    refuse_key_problem(client, answer)
    if answer.status == 429:
        raise BusyError(
            "the queue is full (HTTP 429)", "Run it again when the service is less busy."
        )
    return answer


def refuse_key_problem(client: Client, answer: Answer) -> None:
    """Raise `KeyProblemError` where the answer is 401."""
    if answer.status == 401:
        raise KeyProblemError(
            "the server key is refused (HTTP 401)"
            if client.has_key
            else "a server key is demanded (HTTP 401)",
            "Give the service's key with --key-file FILE or in SESAME_SERVER_KEY.",
        )


def refusal(client: Client, health: Health, answer: Answer) -> CheckError:
    """Return what it means that `answer` is not 200, with what the service says of it."""
    fields = answer.json_object() or {}
    said = fields.get("error")
    detail = f"HTTP {answer.status}, expected 200"
    if isinstance(said, str):
        detail += f": {client.quote(said)}"
    if answer.status == 503 and health.status == "loading":
        return LoadingError(
            f"the model is loading: {detail}", "Run it again when /readyz answers 200."
        )
    hint = fields.get("hint")
    next_step = client.quote(hint) if isinstance(hint, str) and hint else _LOG_HINT
    return SpeechRefusedError(detail, next_step)
