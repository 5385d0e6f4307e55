"""The routes of the rungs, and the same for a person at the command line."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.rungs.drill import TEXT
from service.settings import ServiceSettings
from tests.service.held import TIMEOUT
from tests.service.rungs import Rung, Slow, tone
from tests.service.serving import serving

SPEECH = tone(1.5)
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
KEY = "0123456789abcdef"


@pytest.fixture
def cloud() -> Rung:
    rung = Rung(SPEECH, name="elevenlabs")
    rung.host = "cloud.example"
    return rung


@pytest.fixture
def client(cloud: Rung) -> Iterator[httpx.Client]:
    with serving(create_app(ServiceSettings(), [Rung(name="csm"), cloud])) as client:
        yield client


def test_the_report_is_served(client: httpx.Client) -> None:
    report = client.get("/rungs").json()
    assert report["ok"] is True
    findings = {rung["name"]: rung["finding"] for rung in report["rungs"]}
    assert findings == {
        "csm": "ready",
        "remote": "off",
        "huggingface": "off",
        "elevenlabs": "ready",
        "basic": "off",
    }


def test_the_plan_of_a_drill_is_served_and_spends_nothing(
    client: httpx.Client, cloud: Rung
) -> None:
    plan = client.get("/rungs/drill").json()
    assert plan["spends"] == {"cloud.example": len(TEXT)}
    assert cloud.asked == 0


def test_a_drill_is_made_and_its_characters_are_counted(client: httpx.Client) -> None:
    drilled = client.post("/rungs/drill", json={}).json()
    assert [(step["spoke"], step["ok"]) for step in drilled["steps"]] == [("elevenlabs", True)]
    counted = f'sesame_cloud_characters_total{{rung="elevenlabs"}} {len(TEXT)}.0'
    assert counted in client.get("/metrics").text


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
def test_no_form_of_a_web_page_can_have_a_drill_spend(
    client: httpx.Client, cloud: Rung, headers: dict[str, str]
) -> None:
    answer = client.post("/rungs/drill", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "content_type_refused")
    assert cloud.asked == 0


@pytest.mark.parametrize("headers", [{}, JSON, FORM])
def test_no_foreign_page_can_have_a_drill_spend(
    client: httpx.Client, cloud: Rung, headers: dict[str, str]
) -> None:
    foreign = {"Origin": "https://elsewhere.example"}
    answer = client.post("/rungs/drill", headers={**headers, **foreign})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")
    assert cloud.asked == 0


def test_a_browser_that_asks_first_is_not_let_in(client: httpx.Client) -> None:
    answer = client.options(
        "/rungs/drill",
        headers={
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused")
    assert "access-control-allow-origin" not in answer.headers


def test_one_drill_is_made_at_a_time() -> None:
    slow = Slow(SPEECH)
    with serving(create_app(ServiceSettings(), [Rung(name="csm"), slow])) as client:
        first = threading.Thread(target=client.post, args=("/rungs/drill",), kwargs={"json": {}})
        first.start()
        assert slow.speaking.wait(TIMEOUT)
        second = client.post("/rungs/drill", json={})
        slow.free.set()
        first.join()
        assert (second.status_code, second.json()["code"]) == (409, "drill_running")
        assert client.post("/rungs/drill", json={}).status_code == 200


def test_who_leaves_ends_the_drill() -> None:
    stuck = Rung(hangs=True)
    settings = ServiceSettings(deadline_seconds=600)
    with serving(create_app(settings, [Rung(name="csm"), stuck])) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/rungs/drill", json={}, timeout=1)
        assert stuck.ended.wait(TIMEOUT)


@pytest.mark.parametrize(("method", "path"), [("GET", "/rungs"), ("POST", "/rungs/drill")])
def test_the_rungs_are_behind_the_server_key(method: str, path: str) -> None:
    settings = ServiceSettings(server_key=SecretStr(KEY))
    with serving(create_app(settings, [Rung(SPEECH)])) as client:
        assert client.request(method, path, headers=JSON).status_code == 401
        shown = {**JSON, "Authorization": f"Bearer {KEY}"}
        assert client.request(method, path, headers=shown).status_code == 200


def test_a_voice_that_is_switched_off_has_nothing_to_drill() -> None:
    with serving(create_app(ServiceSettings(enabled=False), [])) as client:
        drilled = client.post("/rungs/drill", json={}).json()
    assert (drilled["ok"], drilled["detail"]) == (False, "there is no rung that could speak")


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SESAME_", "HF_", "ELEVENLABS_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "service.rungs", *arguments],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def port_of(client: httpx.Client) -> str:
    return str(client.base_url.port)


def test_the_command_tells_of_csm_what_the_running_service_says(client: httpx.Client) -> None:
    done = command("--json", SESAME_PORT=port_of(client))
    csm = json.loads(done.stdout)["report"]["rungs"][0]
    assert (done.returncode, csm["name"], csm["finding"], csm["state"]) == (
        0,
        "csm",
        "ready",
        "ready",
    )


def test_the_command_drills_and_says_first_what_it_spends(client: httpx.Client) -> None:
    done = command("--drill", SESAME_PORT=port_of(client))
    assert done.returncode == 0
    assert "drill: csm broken, basic speaks; spends nothing" in done.stderr
    assert "csm broken: basic spoke, the switch took" in done.stdout


def test_without_a_running_service_nobody_knows_of_csm() -> None:
    done = command(SESAME_PORT="1")
    assert done.returncode == 1
    assert "csm         unreachable no service answers at port 1" in done.stdout


def test_a_drill_with_nothing_behind_the_only_rung_does_not_go_well() -> None:
    done = command("--drill", SESAME_MODEL="")
    assert done.returncode == 1
    assert "drill: nothing stands behind basic" in done.stderr


def test_settings_that_are_refused_exit_2_with_the_reason() -> None:
    done = command(SESAME_MODE="online")
    assert done.returncode == 2
    assert "SESAME_URL" in done.stderr


def test_a_key_is_never_shown() -> None:
    key = "sk_" + "0123456789abcdef" * 2
    done = command(SESAME_MODEL="", SESAME_FALLBACK_ENABLED="false", ELEVENLABS_API_KEY=key)
    assert "ELEVENLABS_API_KEY will never be used" in done.stdout
    assert key not in done.stdout + done.stderr
