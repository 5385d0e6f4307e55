import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from checks.report import Report, Result, Verdict
from tests.checks.fake_service import OFFLINE, FakeService

pytestmark = pytest.mark.anyio

Checked = Callable[..., Awaitable[Report]]
Named = Callable[[Report, str], Result]

NAMES = ("empty_text", "long_text", "unknown_voice", "not_json")


async def test_refusals_in_the_contract_s_form_are_met(checked: Checked) -> None:
    report = await checked("refusals")
    assert [r.name for r in report.results] == [f"refusals.{name}" for name in NAMES]
    assert report.verdict is Verdict.MET


async def test_the_long_text_has_one_character_more_than_is_allowed(
    fake: FakeService, checked: Checked
) -> None:
    lengths: list[int] = []
    fake.acts["long_text"] = lambda exchange: lengths.append(len(json.loads(exchange.body)["text"]))
    await checked("refusals", time_limit=0.2)
    assert lengths == [5001]


@pytest.mark.parametrize("name", NAMES)
async def test_a_request_that_is_accepted_is_not_met(
    fake: FakeService, checked: Checked, named: Named, name: str
) -> None:
    fake.acts[name] = lambda exchange: exchange.answer(200, b"RIFF", Content_Type="audio/wav")
    result = named(await checked("refusals"), f"refusals.{name}")
    assert result.verdict is Verdict.NOT_MET
    assert "HTTP 200, expected 4" in result.detail


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, {"success": False, "error": "e", "code": "text_empty"}, "HTTP 500, expected 422"),
        (422, {"detail": [{"msg": "too short"}]}, "success is not false"),
        (422, {"success": False, "error": {"message": "e"}, "code": "text_empty"}, "error is no"),
        (422, {"success": False, "error": "", "code": "text_empty"}, "error is no"),
        (422, {"success": False, "error": "e"}, "code is no"),
        (422, {"success": False, "error": "e", "code": "invalid"}, "code is invalid, expected"),
        (422, ["text_empty"], "no JSON object"),
    ],
)
async def test_a_refusal_in_another_form_is_not_met(
    fake: FakeService, checked: Checked, named: Named, status: int, body: Any, reason: str
) -> None:
    fake.acts["empty_text"] = lambda exchange: exchange.answer_json(status, body)
    result = named(await checked("refusals"), "refusals.empty_text")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


async def test_an_unknown_voice_that_lists_no_voices_is_not_met(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.acts["unknown_voice"] = lambda exchange: exchange.answer_json(
        422, {"success": False, "error": "unknown voice", "code": "voice_unknown"}
    )
    result = named(await checked("refusals"), "refusals.unknown_voice")
    assert result.verdict is Verdict.NOT_MET


async def test_refusals_of_a_service_that_is_switched_off_cannot_be_judged(
    fake: FakeService, checked: Checked
) -> None:
    fake.health, fake.health_http = OFFLINE, 503
    fake.acts["/api/v1/generate"] = lambda exchange: exchange.answer_json(503, {})
    assert (await checked("refusals")).verdict is Verdict.UNKNOWN
