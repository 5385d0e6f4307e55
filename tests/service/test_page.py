"""The page's files and the headers of every answer, without a browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service.api import page
from service.api.operations import STANDINGS
from service.api.security import HEADERS, PAGE_RULES
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

KEY = "a-key-of-the-tests"
PAGES = ["/", "/docs"]
FILES = [
    "/web/page.css",
    "/web/docs.css",
    "/web/page.js",
    "/web/api.js",
    "/web/sound.js",
    "/web/waveform.js",
    "/web/docs.js",
    "/web/badges.js",
]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(create_app(ServiceSettings(), [Rung(tone(1.0))])) as client:
        yield client


@pytest.fixture(scope="module")
def locked() -> Iterator[httpx.Client]:
    settings = ServiceSettings(server_key=SecretStr(KEY))
    with serving(create_app(settings, [Rung(tone(1.0))])) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_html_that_may_load_its_own_files_only(path: str, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = dict(
        rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; ")
    )
    assert rules == PAGE_RULES
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_script_style_or_address_of_its_own(path: str, client: httpx.Client) -> None:
    text = client.get(path).text
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", text)
    assert "//" not in text.replace("xmlns='http://www.w3.org/2000/svg'", "")


@pytest.mark.parametrize("path", PAGES)
def test_what_a_page_names_is_served(path: str, client: httpx.Client) -> None:
    for name in re.findall(r'(?:href|src)="(web/[^"]+)"', client.get(path).text):
        assert client.get(f"/{name}").status_code == 200, name


def test_what_a_file_imports_is_served(client: httpx.Client) -> None:
    for path in FILES:
        for name in re.findall(r'from "\./([^"]+)"', client.get(path).text):
            assert client.get(f"/web/{name}").status_code == 200, name


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_said_to_be_what_it_is(path: str, client: httpx.Client) -> None:
    kind = {".css": "text/css", ".js": "text/javascript"}[Path(path).suffix]
    assert client.get(path).headers["content-type"] == f"{kind}; charset=utf-8"


def test_every_file_of_the_folder_is_served(client: httpx.Client) -> None:
    for file in page.FOLDER.iterdir():
        if file.suffix != ".html":
            assert client.get(f"/web/{file.name}").content == file.read_bytes()


@pytest.mark.parametrize("path", [*PAGES, *FILES])
def test_a_browser_asks_again_and_is_told_that_nothing_changed(
    path: str, client: httpx.Client
) -> None:
    first = client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("etag", "cache-control", "content-security-policy"):
        assert again.headers[name] == first.headers[name]


@pytest.mark.parametrize("path", [*PAGES, *FILES])
def test_head_says_what_get_would(path: str, client: httpx.Client) -> None:
    head, get = client.head(path), client.get(path)
    assert head.content == b""
    for name in ("content-length", "content-type", "etag"):
        assert head.headers[name] == get.headers[name]


def test_the_badges_are_those_of_health(client: httpx.Client) -> None:
    badges = client.get("/web/badges.js").text
    for engine, standing in STANDINGS.items():
        assert f'"{engine}":{standing.badge.model_dump_json()}' in badges


@pytest.mark.parametrize("path", ["/", *FILES])
def test_the_page_is_open_to_who_has_no_key_yet(path: str, locked: httpx.Client) -> None:
    assert locked.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/web/../voices", "/web/%2e%2e/voices", "/web//voices"])
def test_no_path_leads_from_the_page_past_the_key(path: str, locked: httpx.Client) -> None:
    answer = httpx.get(httpx.URL(str(locked.base_url), raw_path=path.encode()), trust_env=False)
    assert answer.status_code in {401, 404}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/voices"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
        ("PUT", "/generate"),
        ("POST", "/generate"),
    ],
)
def test_every_answer_has_the_headers(method: str, path: str, client: httpx.Client) -> None:
    headers = client.request(method, path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS


def test_audio_has_the_headers(client: httpx.Client) -> None:
    answer = client.post("/generate", json={"text": "Hello"})
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_refused_host_has_the_headers(client: httpx.Client) -> None:
    answer = client.get("/health", headers={"Host": "stranger.example"})
    assert answer.status_code == 400
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_missing_key_has_the_headers(locked: httpx.Client) -> None:
    answer = locked.get("/voices")
    assert answer.status_code == 401
    assert answer.headers["x-frame-options"] == "DENY"


def test_the_audio_behind_an_audio_url_may_be_played_by_another_page(client: httpx.Client) -> None:
    address = client.post("/tts", json={"text": "Hello"}).json()["audio_url"]
    assert client.get(address).headers["cross-origin-resource-policy"] == "cross-origin"


def test_a_listed_page_still_reads_audio() -> None:
    origin = "https://maya.example"
    app = create_app(ServiceSettings(cors_origins=origin), [Rung(tone(1.0))])
    with serving(app) as client:
        answer = client.post("/generate", json={"text": "Hello"}, headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["content-type"] == "audio/wav"
