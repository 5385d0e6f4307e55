"""The guide's route, and its two answers that say nothing about the voice: no key, and full."""

from checks.client import Answer, Client
from checks.report import CheckError

GENERATE = "/api/v1/generate"


class KeyProblemError(CheckError):
    """The service demands a server key that was not given or is not the right one."""


class BusyError(CheckError):
    """The service's queue is full."""


async def generate(client: Client, body: bytes, *, limit: float | None = None) -> Answer:
    """Post `body` to the guide's route and return whatever else comes than 401 and 429.

    Raises `CheckError` for these two and for an answer that does not come whole.
    """
    answer = await client.post_json(GENERATE, body, limit=limit)
    if answer.status == 401:
        raise KeyProblemError(
            "the server key is refused (HTTP 401)"
            if client.has_key
            else "a server key is demanded (HTTP 401)",
            "Give the service's key with --key-file FILE or in SESAME_SERVER_KEY.",
        )
    if answer.status == 429:
        raise BusyError(
            "the queue is full (HTTP 429)", "Run it again when the service is less busy."
        )
    return answer
