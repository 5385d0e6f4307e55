"""The pure decisions of a deploy: Docker's source, the image's base and tag, who listens."""

import ipaddress
from pathlib import Path

import pytest

from provision._docker import Refusal, choose_docker_source, find_mirror, missing_parts
from provision._image import context_files, image_tag, pack_context
from provision._listeners import parse_listeners
from provision._network import DEBOOTSTRAP, REGISTRY_IMAGE, choose_base, registry_of
from provision._package_index import default_package_index

COMPLETE = {"engine": "26.1.5", "compose": "2.26.1", "buildx": "0.13.1"}


@pytest.mark.parametrize(
    ("wanted", "engine", "packages", "answers", "chosen"),
    [
        ("auto", {}, set(), True, "docker"),
        ("auto", {}, set(), False, "distribution"),
        ("auto", COMPLETE, set(), True, "present"),
        ("auto", {}, {"docker-ce"}, False, "docker"),
        ("auto", {"engine": "20.10.24"}, {"docker.io"}, True, "distribution"),
        ("present", COMPLETE, {"docker.io"}, True, "present"),
        ("docker", {}, set(), False, "docker"),
        ("docker", COMPLETE, {"docker-ce"}, True, "docker"),
        ("distribution", {}, set(), True, "distribution"),
    ],
)
def test_the_source_of_docker_follows_the_wish_and_the_host(
    wanted: str, engine: dict[str, str], packages: set[str], answers: bool, chosen: str
) -> None:
    assert choose_docker_source(wanted, engine, packages, repository_answers=answers) == chosen


def test_an_engine_from_another_source_is_not_replaced() -> None:
    refusal = choose_docker_source("docker", COMPLETE, {"docker.io"}, repository_answers=True)
    assert isinstance(refusal, Refusal)
    assert "docker_source=auto" in refusal.remedy


def test_parts_that_are_missing_or_too_old_are_named() -> None:
    assert missing_parts({"engine": "19.03.1", "buildx": "0.13"}) == [
        "engine 19.03.1 (too old)",
        "no compose",
    ]


def test_a_mirror_is_only_taken_over_http() -> None:
    repositories = [("cdrom://disc/", "trixie"), ("https://mirror.example/debian/", "trixie")]
    assert find_mirror(repositories, "trixie") == "https://mirror.example/debian/"
    assert find_mirror(repositories, "bookworm") is None


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("debian:trixie-slim", "https://registry-1.docker.io/v2/"),
        ("library/debian", "https://registry-1.docker.io/v2/"),
        ("registry.lan:5000/debian@sha256:00", "https://registry.lan:5000/v2/"),
        ("ghcr.io/owner/image:tag", "https://ghcr.io/v2/"),
        ("localhost/debian", "https://localhost/v2/"),
    ],
)
def test_the_registry_is_read_from_the_reference(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


def test_the_base_is_bootstrapped_only_where_no_registry_answers() -> None:
    silent = {registry_of(REGISTRY_IMAGE): "no route"}
    assert choose_base("auto", {}) == REGISTRY_IMAGE
    assert choose_base("auto", silent) == DEBOOTSTRAP
    assert choose_base("debian:13", silent) == "debian:13"


def test_the_default_package_index_is_pips_own() -> None:
    assert default_package_index().startswith("https://")
    assert default_package_index().endswith("/simple")


def project(folder: Path, text: str) -> Path:
    for room in ("service", "checks"):
        (folder / room / "__pycache__").mkdir(parents=True)
        (folder / room / "module.py").write_text(text, encoding="utf-8")
        (folder / room / "__pycache__" / "module.pyc").write_bytes(b"\0")
    return folder


def test_the_same_content_has_the_same_tag_and_the_same_bytes(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "same"), project(tmp_path / "two", "same")
    assert image_tag("base", ["a"], one) == image_tag("base", ["a"], two)
    assert pack_context(one)[10:] == pack_context(two)[10:]


def test_another_base_authority_or_content_has_another_tag(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "same"), project(tmp_path / "two", "other")
    tags = {
        image_tag("base", ["a"], one),
        image_tag("other", ["a"], one),
        image_tag("base", [], one),
        image_tag("base", ["a"], two),
    }
    assert len(tags) == 4


def test_compiled_files_do_not_travel(tmp_path: Path) -> None:
    files = context_files(project(tmp_path, "x"))
    assert [path.as_posix() for path in files] == ["checks/module.py", "service/module.py"]


LISTENERS = [
    "   0: 0100007F:1F40 00000000:0000 0A 0:0 00:0 0 0 0 71 1 0 100 0 0",
    "   1: 00000000000000000000000000000000:0016 0000:0000 0A 0:0 00:0 0 0 0 72 1 0 100 0 0",
    "   2: 0000000000000000FFFF00000500000A:1F90 0000:0000 0A 0:0 00:0 0 0 0 73 1 0 100 0 0",
]


def test_listening_sockets_are_read_from_the_kernels_table() -> None:
    sockets = [
        (str(listener.address), listener.port, listener.inode)
        for listener in parse_listeners(LISTENERS)
    ]
    assert sockets == [("127.0.0.1", 8000, 71), ("::", 22, 72), ("10.0.0.5", 8080, 73)]


@pytest.mark.parametrize(
    ("bind", "port", "taken"),
    [
        ("127.0.0.1", 8000, True),
        ("0.0.0.0", 8000, True),
        ("10.0.0.5", 8000, False),
        ("127.0.0.1", 22, True),
        ("127.0.0.1", 8080, False),
        ("127.0.0.1", 9000, False),
    ],
)
def test_a_port_is_taken_where_addresses_overlap(bind: str, port: int, taken: bool) -> None:
    address = ipaddress.ip_address(bind)
    in_the_way = [
        listener.stands_in_the_way_of(address, port) for listener in parse_listeners(LISTENERS)
    ]
    assert any(in_the_way) is taken
