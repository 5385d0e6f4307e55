"""What is rendered onto a host, held against the program that reads it."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision._release import CONTAINER_USER, RELEASE_LABEL, Release, ReleaseFile, render_release
from provision.settings import OWNED_BY_DEPLOY, SECRET_NAMES, DeploySettings
from service.settings import IGNORED, PREFIX, ServiceSettings, read_settings

IMAGE = "sesame-csm:0123456789ab"
KEY = "0123456789abcdef0123456789abcdef"
PUBLIC = {"bind": "0.0.0.0", "secrets": {"SESAME_SERVER_KEY": KEY}}


def release(**data: object) -> Release:
    return render_release(DeploySettings.read(data, name="voice.lan"), IMAGE)


def content(rendered: Release, path: str) -> str:
    return next(file.content for file in rendered.files if file.path == path)


def variables(rendered: Release, path: str) -> dict[str, str]:
    lines = [line for line in content(rendered, path).splitlines() if line and line[0] != "#"]
    return {
        name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)
    }


def compose(rendered: Release) -> dict[str, Any]:
    parsed = yaml.safe_load(content(rendered, "docker-compose.sesame-offline.yml"))
    service: dict[str, Any] = parsed["services"]["sesame-csm"]
    return service


def test_the_environment_file_holds_every_variable_that_the_service_reads_and_no_other() -> None:
    read = {PREFIX + name.upper() for name in ServiceSettings.model_fields}
    assert set(variables(release(), "service.env")) == read - set(SECRET_NAMES)
    assert set(SECRET_NAMES) <= read


def test_the_rendered_defaults_are_the_services_own() -> None:
    rendered = variables(release(), "service.env")
    for name, field in ServiceSettings.model_fields.items():
        variable = PREFIX + name.upper()
        if variable in rendered and variable not in OWNED_BY_DEPLOY:
            assert rendered[variable] == str(field.default).lower().removesuffix(".0"), variable


def test_the_service_can_read_what_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings.in_container", lambda: True)
    for name, value in variables(release(), "service.env").items():
        monkeypatch.setenv(name, value)
    assert read_settings(Path("/nonexistent")).port == 8000


def test_what_maya_reads_has_the_guides_names_and_values() -> None:
    assert variables(release(), "maya.env") == {
        "SESAME_ENABLED": "true",
        "SESAME_MODE": "offline",
        "SESAME_URL": "http://localhost:8000/api/v1/generate",
        "SESAME_API_KEY": "local",
    }
    ours = {PREFIX + name.upper() for name in ServiceSettings.model_fields}
    assert set(variables(release(), "maya.env")) <= ours | set(IGNORED)


def test_maya_shows_the_key_that_the_service_demands() -> None:
    assert variables(release(**PUBLIC), "maya.env")["SESAME_API_KEY"] == KEY


def test_a_given_variable_replaces_its_default() -> None:
    rendered = release(service_env={"SESAME_DEADLINE_SECONDS": 20})
    assert content(rendered, "service.env").count("SESAME_DEADLINE_SECONDS") == 1
    assert variables(rendered, "service.env")["SESAME_DEADLINE_SECONDS"] == "20"


def test_a_secret_stands_in_its_own_file_and_in_mayas_only() -> None:
    rendered = release(**PUBLIC)
    holders = {file.path for file in rendered.files if KEY in file.content}
    assert holders == {"secrets/SESAME_SERVER_KEY", "maya.env"}
    secret = next(file for file in rendered.files if file.path.startswith("secrets/"))
    assert (secret.mode, secret.owner) == ("400", CONTAINER_USER)
    maya = next(file for file in rendered.files if file.path == "maya.env")
    assert (maya.mode, maya.owner) == ("600", 0)


def test_the_container_is_confined() -> None:
    service = compose(release())
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == f"{CONTAINER_USER}:{CONTAINER_USER}"
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert "secrets" not in service


def test_an_ipv6_bind_is_published_in_brackets() -> None:
    assert compose(release(bind="::1"))["ports"] == ["[::1]:8000:8000"]


def test_the_release_is_another_one_when_anything_in_it_differs() -> None:
    other_key = {**PUBLIC, "secrets": {"SESAME_SERVER_KEY": KEY[::-1]}}
    releases = [
        release(),
        release(port=9000),
        release(service_env={"SESAME_STALL_SECONDS": 9}),
        release(**PUBLIC),
        release(**other_key),
        render_release(DeploySettings(), "sesame-csm:ba9876543210"),
    ]
    assert len({rendered.digest for rendered in releases}) == len(releases)
    assert compose(releases[0])["labels"] == {RELEASE_LABEL: releases[0].digest}
    assert release() == releases[0]


def test_the_state_of_a_file_is_told_as_a_host_tells_it() -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert ReleaseFile("x", "hello", "600", 7).state == f"600 7 {digest}"
