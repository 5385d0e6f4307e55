"""Metrics, their page, the dashboard and the alerts: all name the same things."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.engines.engine import Batch, EngineState, ModelReport
from service.errors import EngineError
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

PROJECT = Path(__file__).resolve().parent.parent
DASHBOARD = json.loads((PROJECT / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((PROJECT / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
GUIDE = (PROJECT / "docs" / "guides" / "monitoring.md").read_text(encoding="utf-8")

OF_PROMETHEUS = {"up": {"job", "instance"}}
ON_EVERY_SERIES = {"instance", "job"}
# A metric, and the braces after it.
METRIC = re.compile(r"\b((?:sesame|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?")
WORD_BEFORE_METRICS = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")

Families = dict[str, tuple[str, set[str]]]


@contextmanager
def watched() -> Iterator[httpx.Client]:
    """A model that was loaded, a cloud behind it, and a request of every kind."""
    report = ModelReport("m", "cpu", "int8", 0.5, 20.0, lambda: Batch(4, 1, 100, 150))
    csm = Rung(tone(1), name="csm", state=EngineState("ready", model=report))
    cloud = Rung(tone(1), name="elevenlabs")
    cloud.host = "api.elevenlabs.io"
    with serving(create_app(ServiceSettings(), [csm, cloud])) as client:
        client.post("/generate", json={"text": "a"})
        client.post("/generate", json={"text": "a"})
        client.post("/generate", json={"text": ""})
        client.post("/v1/audio/speech", json={"input": "b", "voice": "maya"})
        csm.fall_silent()
        client.post("/v1/text-to-speech/maya", json={"text": "c"})
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with watched() as client:
        yield client


def families(client: httpx.Client) -> Families:
    """Return type and labels by metric, as Prometheus reads them."""
    found: Families = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        # Each counter has a second one that says when it was made.
        if not family.name.endswith("_created"):
            found[name] = (family.type, labels - {"le"})
    return found


def samples(client: httpx.Client) -> dict[str, set[str]]:
    """Return the labels by name of a series, as a query names it."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def value(client: httpx.Client, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"{name}{labels} is not there")


def expressions() -> list[str]:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return shown + [rule["expr"] for rule in RULES]


@pytest.mark.parametrize("expression", expressions())
def test_a_query_names_what_there_is(expression: str, client: httpx.Client) -> None:
    there = {**samples(client), **OF_PROMETHEUS}
    named = METRIC.findall(WORD_BEFORE_METRICS.sub("", expression))
    assert named
    for name, matchers in named:
        assert name in there, name
        labels = set(re.findall(r"(\w+)\s*[=!]", matchers))
        assert labels <= there[name] | ON_EVERY_SERIES, f"{name}{{{matchers}}}"


@pytest.mark.parametrize("expression", expressions())
def test_a_query_groups_by_labels_that_there_are(expression: str, client: httpx.Client) -> None:
    there = {**samples(client), **OF_PROMETHEUS}
    named = [name for name, _ in METRIC.findall(WORD_BEFORE_METRICS.sub("", expression))]
    for group in WORD_BEFORE_METRICS.findall(expression):
        for label in group.split(","):
            assert label.strip() in set().union(ON_EVERY_SERIES, *(there[name] for name in named))


def test_the_dashboard_shows_every_metric_of_ours(client: httpx.Client) -> None:
    shown = " ".join(expressions())
    hidden = {
        name
        for name in families(client)
        if name.startswith("sesame_") and name not in shown and name != "sesame_rung_permits"
    }
    assert hidden == set()


def test_every_alert_says_what_to_do_and_stands_in_the_guide() -> None:
    told: dict[str, Any] = {rule["alert"]: rule["annotations"] for rule in RULES}
    assert set(re.findall(r"^\| `(\w+)` \|", GUIDE, flags=re.MULTILINE)) == set(told)
    for annotations in told.values():
        assert annotations["summary"]
        assert annotations["action"]


@pytest.mark.parametrize(
    ("name", "labels", "counted"),
    [
        (
            "sesame_requests_total",
            {"dialect": "sesame", "engine": "csm", "outcome": "ok"},
            2,
        ),
        (
            "sesame_requests_total",
            {"dialect": "sesame", "engine": "none", "outcome": "refused"},
            1,
        ),
        (
            "sesame_requests_total",
            {"dialect": "elevenlabs", "engine": "elevenlabs", "outcome": "ok"},
            1,
        ),
        ("sesame_requests_in_progress", {"dialect": "openai"}, 0),
        ("sesame_first_audio_seconds_count", {"engine": "csm"}, 2),
        ("sesame_real_time_factor_count", {"engine": "csm"}, 1),
        ("sesame_characters_total", {"engine": "csm"}, 3),
        ("sesame_cache_lookups_total", {"result": "hit"}, 1),
        ("sesame_cloud_characters_total", {"rung": "elevenlabs"}, 1),
        ("sesame_batch_frames_total", {}, 150),
        ("sesame_model_load_seconds", {}, 20),
    ],
)
def test_what_happened_is_counted(
    name: str, labels: dict[str, str], counted: float, client: httpx.Client
) -> None:
    assert value(client, name, **labels) == counted


def test_who_would_speak_is_told() -> None:
    csm = Rung(name="csm", error=EngineError("it fell silent"))
    with serving(create_app(ServiceSettings(), [csm, Rung(tone(1))])) as client:
        assert value(client, "sesame_speaker", rung="csm") == 1
        while client.get("/health").json()["engine"] == "csm":
            client.post("/generate", json={"text": "a"})
        assert value(client, "sesame_speaker", rung="csm") == 0
        assert value(client, "sesame_speaker", rung="basic") == 1
        assert value(client, "sesame_breaker_state", rung="csm", state="closed") == 0
