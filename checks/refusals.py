"""Are requests that cannot be spoken refused, in the contract's form? Synthesises nothing."""

import asyncio
import json
from dataclasses import dataclass

from checks.client import Answer, Client
from checks.generate import generate
from checks.health import Health
from checks.report import CheckError, Result, Verdict

REFUSAL_SECONDS = 5.0
"""A refusal needs no synthesis. Leaving earlier than for speech stops one begun by mistake."""

_TEXT_LIMIT = 5000
_NO_SUCH_VOICE = "no-such-voice"


@dataclass(frozen=True)
class _Case:
    """A request, and the status and code that refuse it; without a code any will do."""

    name: str
    body: bytes
    status: int
    code: str = ""


_CASES = (
    _Case("empty_text", b'{"text":""}', 422, "text_empty"),
    _Case(
        "long_text", json.dumps({"text": "a" * (_TEXT_LIMIT + 1)}).encode(), 422, "text_too_long"
    ),
    _Case("unknown_voice", json.dumps({"text": "Hi.", "voice": _NO_SUCH_VOICE}).encode(), 422),
    _Case("not_json", b'{"text":', 400),
)


async def check(client: Client, health: Health) -> list[Result]:
    """Send every request that must be refused."""
    return await asyncio.gather(*(_check_case(client, health, case) for case in _CASES))


async def _check_case(client: Client, health: Health, case: _Case) -> Result:
    name = f"refusals.{case.name}"
    try:
        answer = await generate(client, case.body, limit=REFUSAL_SECONDS)
    except CheckError as error:
        return Result.of_error(name, error)
    if answer.status == 503 and health.status in {"offline", "loading"}:
        return Result(
            name,
            Verdict.UNKNOWN,
            f"HTTP 503: a service that is {health.status} need not look at its requests",
            "Run it again when /readyz answers 200.",
        )
    return Result.of_problems(
        name,
        _problems(client, health, case, answer),
        met=f"HTTP {answer.status}, {client.quote(str((answer.json_object() or {}).get('code')))}",
        next_step="The error handling differs from the contract: compare the versions.",
        timing=answer.timing,
    )


def _problems(client: Client, health: Health, case: _Case, answer: Answer) -> list[str]:
    if answer.status != case.status:
        return [f"HTTP {answer.status}, expected {case.status}"]
    fields = answer.json_object()
    if fields is None:
        return [f"HTTP {answer.status} with a body that is no JSON object"]
    error, code = fields.get("error"), fields.get("code")
    found = []
    if fields.get("success") is not False:
        found.append("success is not false")
    if not (isinstance(error, str) and error):
        found.append("error is no text")
    if not (isinstance(code, str) and code):
        found.append("code is no text")
    elif case.code not in ("", code):
        found.append(f"code is {client.quote(code)}, expected {case.code}")
    if case.name == "unknown_voice" and health.voices[0] not in f"{error} {fields.get('hint')}":
        found.append("the voices that there are are not listed")
    return found
