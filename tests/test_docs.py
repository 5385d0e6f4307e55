"""The documentation, held to the code."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from checks.__main__ import _parser
from checks.run import CHECKS
from provision._distribution import DISTRIBUTIONS
from provision.settings import SECRET_NAMES, DeploySettings
from service.api.refusals import REFUSALS, Refusal
from service.api.sesame import GenerateRequest
from service.app import create_app
from service.engines.failures import FAILURES
from service.errors import EngineError
from service.model_cache.manifest import shipped
from service.model_cache.refusals import REFUSALS as MODEL_REFUSALS
from service.settings import ServiceSettings, variable
from service.voices import Persona
from tests.provision import matrix
from tests.service.rungs import Rung, tone
from tests.service.serving import serving
from tests.test_monitoring import families, watched

PROJECT = Path(__file__).resolve().parent.parent
NONE = "–"  # noqa: RUF001 (how the tables say that there is no default)
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    return (PROJECT / "docs" / name).read_text(encoding="utf-8")


def table_rows(text: str) -> dict[str, list[str]]:
    """Return the cells after the first, by the first, of each table row that begins with a code."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def openapi() -> dict[str, Any]:
    """Return what the service says of itself."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(ServiceSettings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/openapi.json")

    described: dict[str, Any] = asyncio.run(ask()).json()
    return described


def test_the_table_of_plans_is_the_one_of_the_plans() -> None:
    assert page("reference/plans.md") == matrix.rewrite(page("reference/plans.md"))
    assert matrix.table() in page("reference/plans.md")


def test_every_setting_of_a_deploy_is_documented_with_its_default() -> None:
    rows = table_rows(page("reference/settings.md"))
    for name, field in DeploySettings.model_fields.items():
        default = field.default
        told = str(default).lower() if isinstance(default, bool) else str(default)
        assert rows[name][0] == (NONE if default is None else f"`{told}`"), name


def test_every_variable_of_the_service_is_documented_with_its_default() -> None:
    rows = table_rows(page("reference/settings.md"))
    for name, field in ServiceSettings.model_fields.items():
        plain = str(field.default).removesuffix(".0")
        plain = plain.lower() if isinstance(field.default, bool) else plain
        default = NONE if field.default is None else f"`{plain}`"
        assert rows[variable(name)][0] == default, name


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = set(DeploySettings.model_fields)
    known |= {variable(name) for name in ServiceSettings.model_fields}
    assert set(table_rows(page("reference/settings.md"))) == known


def test_every_class_of_failure_is_documented_as_it_is() -> None:
    rows = table_rows(page("concepts/chain.md").partition("## How a rung can fail")[2])
    assert rows == {
        name: [failure.meaning, failure.again.replace("_", " "), failure.breaker]
        for name, failure in FAILURES.items()
    }


def test_every_refusal_of_the_model_cache_is_documented_as_it_is() -> None:
    rows = table_rows(page("guides/model.md").partition("## What each refusal says")[2])
    assert rows == {
        kind: [refusal.what, refusal.next_step, "may" if refusal.again else "no"]
        for kind, refusal in MODEL_REFUSALS.items()
    }


def test_the_model_that_is_fetched_is_documented() -> None:
    text = page("guides/model.md")
    manifest = shipped()
    assert manifest.revision in text
    assert f"{manifest.size / 10**9:.2f} GB ({manifest.size / 2**20:,.0f} MiB)" in text
    assert f"{len(manifest.files)} files" in text


def test_every_secret_is_documented() -> None:
    for name in SECRET_NAMES:
        assert name in page("reference/settings.md")


def test_every_route_and_field_is_documented() -> None:
    text = page("reference/api.md")
    rows = table_rows(text)
    for field in GenerateRequest.model_fields:
        assert field in rows
    documented = set(re.findall(r"`(GET|POST) (/[^`]*)`", text))
    generated = {("GET", "/docs"), ("GET", "/openapi.json")}
    described = {
        (method.upper(), path) for path, methods in openapi()["paths"].items() for method in methods
    }
    assert documented == described | generated


@pytest.mark.parametrize(
    "refusal", [refusal for refusal in REFUSALS.values() if refusal.status != 499]
)
def test_every_error_is_documented_with_its_status(refusal: Refusal) -> None:
    rows = [line for line in page("reference/api.md").splitlines() if line.startswith("| ")]
    assert any(
        str(refusal.status) in row.split("|")[1] and f"`{refusal.code}`" in row for row in rows
    )


def test_every_option_of_the_checks_is_documented() -> None:
    text = page("reference/checks.md")
    for action in _parser()._actions:
        for option in action.option_strings:
            assert option in text or option in {"-h", "--help"}, option
    for group in CHECKS:
        assert f"| `{group}` |" in text


def test_the_readme_names_every_distribution() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for row in DISTRIBUTIONS:
        assert row.name in readme


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_make_target_that_the_pages_name_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for path in PAGES:
        for target in re.findall(r"\bmake ([a-z]+)\b", path.read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{path.name}: make {target}"


KEY = "a-key-of-the-tests"
SHOWN = {"Authorization": f"Bearer {KEY}"}
ORIGIN = "https://maya.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "Content-Type",
}

OF_HTTP = {"connection", "content-length", "content-type", "date", "server", "transfer-encoding"}
"""What every server says, as RFC 9110 and 9112 have it."""


class StandIn(Rung):
    """Speaks with another voice than the persona's."""

    def substitution(self, persona: Persona) -> str | None:
        del persona
        return "espeak-ng:en-us"


@pytest.fixture(scope="module")
def answers() -> Iterator[list[httpx.Response]]:
    """One answer of every kind."""
    settings = ServiceSettings(server_key=SecretStr(KEY), cors_origins=ORIGIN, queue_limit=0)
    csm = Rung(tone(1), name="csm")
    silent = Rung(name="csm", error=EngineError("it fell silent"))
    stand_in = StandIn(tone(1))
    said = {"text": "Hello"}
    with (
        serving(create_app(settings, [csm])) as client,
        serving(create_app(ServiceSettings(), [silent])) as broken,
        serving(create_app(ServiceSettings(), [stand_in])) as other,
    ):
        yield [
            client.post("/generate", json=said, headers=SHOWN),
            client.post("/generate", json=said, headers=SHOWN),
            client.post("/generate", json={**said, "stream": True}, headers=SHOWN),
            client.post("/tts", json=said, headers={**SHOWN, "Origin": ORIGIN}),
            client.post("/generate", json={"text": ""}, headers=SHOWN),
            client.post("/generate", json=said),
            client.put("/generate", headers=SHOWN),
            client.get("/nowhere", headers=SHOWN),
            client.get("/health"),
            client.get("/metrics", headers=SHOWN),
            client.get("/"),
            client.get("/web/page.js"),
            client.get("/openapi.json", headers=SHOWN),
            client.options("/generate", headers=PREFLIGHT),
            broken.post("/generate", json=said),
            other.post("/generate", json=said),
        ]


def documented_headers() -> set[str]:
    """Return the names in the first column of the page's tables of headers."""
    text = page("reference/api.md")
    tables = re.findall(r"^\| header \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, flags=re.MULTILINE)
    cells = [line.split("|")[1] for table in tables for line in table.splitlines()]
    return {name.lower() for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_header_is_documented(answers: list[httpx.Response]) -> None:
    sent = {name.lower() for answer in answers for name in answer.headers}
    assert sent - OF_HTTP - documented_headers() == set()


def test_every_documented_header_is_sent(answers: list[httpx.Response]) -> None:
    sent = {name.lower() for answer in answers for name in answer.headers}
    assert documented_headers() - sent == set()


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    rows = {}
    for line in page("reference/metrics.md").splitlines():
        if line.startswith("| `sesame_"):
            name, kind, labels, _ = (cell.strip() for cell in line.strip("|").split(" | ", 3))
            rows[name.strip("` ")] = (kind, set(re.findall(r"`(\w+)`", labels)))
    with watched() as client:
        told = families(client).items()
    there = {name: kind for name, kind in told if name.startswith("sesame_")}
    assert rows == there
