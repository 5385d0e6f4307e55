"""The pure decisions of a deploy: Docker's source, the image's base and tag, who listens."""

import ipaddress
from pathlib import Path
from typing import Literal

import pytest

from provision._disk import refuse_disks
from provision._docker import Refusal, choose_docker_source, find_mirror, missing_parts
from provision._image import PROJECT, Variant, context_files, image_tag, pack_context
from provision._listeners import parse_listeners
from provision._network import (
    DEBOOTSTRAP,
    REGISTRY_IMAGE,
    TORCH_CPU_INDEX,
    candidate_torch_indexes,
    choose_base,
    choose_torch_index,
    registry_of,
    torch_page,
)
from provision._package_index import default_package_index

ENGINE = Variant("engine")
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


@pytest.mark.parametrize(
    ("torch_index", "accelerator", "silent", "chosen"),
    [
        ("auto", "cpu", False, TORCH_CPU_INDEX),
        ("auto", "cpu", True, ""),
        ("auto", "nvidia", False, ""),
        ("none", "cpu", False, ""),
        ("https://mirror.example/cu130", "nvidia", False, "https://mirror.example/cu130"),
        ("https://mirror.example/cu130", "nvidia", True, "https://mirror.example/cu130"),
    ],
)
def test_torch_comes_without_cuda_where_nothing_needs_it_and_its_index_answers(
    torch_index: str, accelerator: Literal["nvidia", "cpu"], silent: bool, chosen: str
) -> None:
    candidates = candidate_torch_indexes(torch_index, accelerator)
    unreachable = {torch_page(index): "no route" for index in candidates} if silent else {}
    assert choose_torch_index(candidates, unreachable) == chosen


def test_the_images_variables_let_nothing_report_to_its_maker() -> None:
    dockerfile = (PROJECT / "service" / "Dockerfile").read_text(encoding="utf-8")
    for variable in ("HF_HUB_DISABLE_TELEMETRY=1", "ORT_DISABLE_TELEMETRY=1"):
        assert variable in dockerfile


def test_what_comes_onto_one_file_system_is_added_up() -> None:
    needed = {"/var/lib/docker": 300, "/opt/sesame-csm": 7000}
    one = {place: {"device": "2049", "mount": "/", "mib": 7200} for place in needed}
    two = {**one, "/opt/sesame-csm": {"device": "2050", "mount": "/opt", "mib": 7200}}
    (refusal,) = refuse_disks(needed, one)
    assert "/ has 7200 MiB free, 7300 MiB are needed" in refusal.reason
    assert not list(refuse_disks(needed, two))


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
    assert image_tag("base", ["a"], project=one) == image_tag("base", ["a"], project=two)
    assert pack_context(project=one)[10:] == pack_context(project=two)[10:]


def test_another_base_authority_variant_or_content_has_another_tag(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "same"), project(tmp_path / "two", "other")
    tags = {
        image_tag("base", ["a"], project=one),
        image_tag("other", ["a"], project=one),
        image_tag("base", [], project=one),
        image_tag("base", ["a"], project=two),
        image_tag("base", ["a"], ENGINE, project=one),
        image_tag("base", ["a"], Variant("engine", TORCH_CPU_INDEX), project=one),
    }
    assert len(tags) == 6


def test_the_models_library_is_the_engine_images_alone(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "same"), project(tmp_path / "two", "same")
    (one / "service" / "csm").mkdir()
    (one / "service" / "csm" / "model.py").write_text("torch", encoding="utf-8")
    assert image_tag("base", [], project=one) == image_tag("base", [], project=two)
    assert image_tag("base", [], ENGINE, one) != image_tag("base", [], ENGINE, two)
    assert Path("service/csm/model.py") in context_files(ENGINE, one)
    assert Path("service/csm/model.py") not in context_files(project=one)


def test_compiled_files_do_not_travel(tmp_path: Path) -> None:
    files = context_files(project=project(tmp_path, "x"))
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
