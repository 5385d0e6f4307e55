"""The program as its callers run it: a process with arguments, an exit status and two streams."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import checks
from checks.__main__ import main
from tests.checks.fake_service import FakeService

ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}
ROOT = Path(checks.__file__).parents[1]


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as in the service's container: no HOME, no locale, no PATH."""
    return _python("-m", "checks", *arguments, **environment)


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=20,
    )


def test_all_met_exits_0_and_shows_the_table(fake: FakeService) -> None:
    done = _run(fake.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "🟢 Sesame Local · engine csm" in done.stdout


def test_something_not_met_exits_1(fake: FakeService) -> None:
    fake.health_http = 503
    assert _run(fake.url, "--only", "health").returncode == 1


def test_nobody_there_exits_2() -> None:
    done = _run("127.0.0.1:1")
    assert done.returncode == 2
    assert "no speech service found" in done.stdout


def test_json_on_standard_output_is_alone_there(fake: FakeService) -> None:
    done = _run(fake.url, "--json", "-")
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == document["exit_code"] == 0
    assert done.stderr == ""
    assert document["service"] == {
        "status": "healthy",
        "engine": "csm",
        "badge": {"icon": "🟢", "label": "Sesame Local"},
        "version": "0.1.0",
        "voices": ["maya", "warm"],
        "model": "sesame/csm-1b@abc",
        "device": "cpu",
        "model_loaded": True,
        "real_time_factor": None,
    }


def test_two_runs_differ_in_timings_only(fake: FakeService) -> None:
    documents = [json.loads(_run(fake.url, "--json", "-").stdout) for _ in range(2)]
    for document in documents:
        del document["timings"]
    assert documents[0] == documents[1]


def test_files_are_written_beside_the_table(fake: FakeService, tmp_path: Path) -> None:
    json_file, junit_file = tmp_path / "report.json", tmp_path / "report.xml"
    done = _run(fake.url, "--json", str(json_file), "--junit", str(junit_file))
    assert "Sesame Local" in done.stdout
    assert json.loads(json_file.read_text(encoding="utf-8"))["ok"] is True
    assert ET.parse(junit_file).getroot().get("failures") == "0"  # noqa: S314 (our own XML)


def test_only_the_named_groups_run(fake: FakeService) -> None:
    document = json.loads(_run(fake.url, "--json", "-", "--only", "refusals", "health").stdout)
    groups = {check["name"].partition(".")[0] for check in document["checks"]}
    assert groups == {"health", "refusals"}


def test_a_drill_is_announced_on_standard_error(fake: FakeService) -> None:
    done = _run(fake.url, "--only", "fallback", "--drill", "--json", "-")
    assert "spends 16 characters at api.elevenlabs.io" in done.stderr
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["htp:/x"], "starts with http"),
        (["ftp://x"], "only http and https"),
        ([], "URL"),
        (["host", "--timeout", "0"], "above 0"),
        (["host", "--timeout", "nan"], "above 0"),
        (["host", "--timeout", "soon"], "above 0"),
        (["host", "--only", "volume"], "volume"),
        (["host", "--latency-requests", "0"], "from 1 to 100"),
        (["host", "--latency-requests", "²"], "from 1 to 100"),
        (["host", "--objective", "first_audio_p95_ms"], "NAME=VALUE"),
        (["host", "--objective", "p95=1"], "there is no objective 'p95'"),
        (["host", "--objective", "total_p95_ms=fast"], "a number above 0: 'fast'"),
        (["host", "--objectives", "no-such-file"], "No such file"),
        (["host", "--objective", "total_p50_ms=1", "--only", "health"], "needs the check latency"),
        (["host", "--drill", "--only", "health"], "a drill needs the check fallback"),
        (["host", "--key-file", "no-such-file"], "No such file"),
        (["host", "--json", "-", "--junit", "-"], "two different files"),
        (["host", "--json", "a.json", "--junit", "./a.json"], "two different files"),
    ],
)
def test_a_wrong_command_line_exits_2_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--junit"])
def test_a_path_that_cannot_be_written_is_refused_before_anything_is_asked(
    fake: FakeService, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([fake.url, option, "/no-such-folder/report"])
    assert "/no-such-folder/report" in capsys.readouterr().err
    assert fake.seen == []


def test_the_key_is_read_from_a_file(fake: FakeService, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("from-file\n")
    _run(fake.url, "--only", "refusals", "--key-file", str(key_file), SESAME_SERVER_KEY="other")
    assert fake.seen[-1].headers["authorization"] == "Bearer from-file"


def test_the_key_is_read_from_the_environment(fake: FakeService) -> None:
    _run(fake.url, "--only", "refusals", SESAME_SERVER_KEY="from-env")
    assert fake.seen[-1].headers["authorization"] == "Bearer from-env"


def test_a_key_of_other_letters_is_sent_as_utf_8(fake: FakeService) -> None:
    _run(fake.url, "--only", "refusals", SESAME_SERVER_KEY="clé")
    assert fake.seen[-1].headers["authorization"].encode("latin-1") == "Bearer clé".encode()


@pytest.mark.parametrize("content", ["", "\n", "two words", "two\nlines", "bell\x07"])
def test_a_file_that_holds_no_key_is_refused_and_not_shown(
    fake: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(content)
    with pytest.raises(SystemExit, match="2"):
        main([fake.url, "--key-file", str(key_file)])
    said = capsys.readouterr().err
    assert str(key_file) in said
    assert "two" not in said.replace(str(key_file), "")
    assert fake.seen == []


def test_a_terminal_that_cannot_show_a_badge_gets_the_rest(fake: FakeService) -> None:
    done = _run(fake.url, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "? Sesame Local" in done.stdout


def test_a_failure_of_our_own_says_nothing_of_the_service(fake: FakeService) -> None:
    program = (
        "import runpy, sys, checks.run;"
        "checks.run.CHECKS['health'] = None;"
        f"sys.argv = ['checks', {fake.url!r}];"
        "runpy.run_module('checks', run_name='__main__')"
    )
    done = _python("-c", program)
    assert done.returncode == 2
    assert "the checks failed themselves" in done.stderr


def test_nothing_of_the_service_or_the_deploy_is_imported() -> None:
    imported = set()
    for path in (ROOT / "checks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    others = imported - set(sys.stdlib_module_names) - {"checks"}
    assert others == {"httpx", "numpy", "pydantic", "rich"}
