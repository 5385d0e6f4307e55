"""Who may import whom. The rooms and their arrows are drawn in docs/concepts/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = ("provision", "service", "checks")

MAY_IMPORT = {
    "service.api": {
        "api",
        "engines",
        "settings",
        "errors",
        "audio",
        "encoding",
        "text",
        "voices",
        "logs",
        "metrics",
        "rungs",
    },
    # Its command builds the rungs that it looks at.
    "service.rungs": {
        "rungs",
        "engines",
        "settings",
        "errors",
        "audio",
        "text",
        "voices",
        "metrics",
        "wiring",
    },
    "service.engines": {
        "engines",
        "settings",
        "errors",
        "audio",
        "loudness",
        "text",
        "voices",
        "csm",
        "metrics",
    },
    "service.voices": {"voices", "errors"},
    "service.text": {"text", "errors"},
    "service.audio": {"errors"},
    "service.encoding": {"audio"},
    "service.loudness": {"audio"},
    "service.settings": {"errors", "elsewhere"},
    "service.elsewhere": set(),
    # A program of its own: it shares nothing with the service but the version.
    "service.model_cache": {"model_cache"},
    "service.metrics": set(),
    "service.errors": set(),
    "service.probe": set(),
}
"""What of our own each part of the service may use, besides the package's version."""


def modules(room: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((PROJECT / room).rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    """Return the absolute names that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who is imported"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_the_programs_never_import_each_other(room: str) -> None:
    others = set(ROOMS) - {room}
    for module, path in modules(room):
        for name in imports(path):
            assert name.partition(".")[0] not in others, f"{module} imports {name}"


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_the_service_is_imported_downwards_only(part: str) -> None:
    allowed = MAY_IMPORT[part]
    for module, path in modules("service"):
        if module != part and not module.startswith(f"{part}."):
            continue
        for name in imports(path):
            if name.startswith("service.") and name != "service.__version__":
                assert name.split(".")[1] in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_only_csm_and_its_rung_import_torch(room: str) -> None:
    for module, path in modules(room):
        if not module.startswith(("service.csm", "service.engines.csm")):
            names = {name.partition(".")[0] for name in imports(path)}
            assert not names & {"torch", "onnx", "onnxruntime", "tokenizers", "safetensors"}, module


def test_only_wiring_imports_the_rung_that_needs_torch() -> None:
    for module, path in modules("service"):
        if module != "service.wiring" and not module.startswith("service.engines.csm"):
            assert not any(name.startswith("service.engines.csm") for name in imports(path)), module


CLOUDS = {
    "elevenlabs": "service.engines.elevenlabs",
    "huggingface_hub": "service.engines.huggingface",
}
"""The client of each cloud, and the one module of the service that may import it."""

MODEL_HUB = "service.model_cache.hub"
"""It imports the hub's client too, in a program that is no part of the service."""


@pytest.mark.parametrize("client", CLOUDS)
def test_only_its_rung_imports_the_client_of_a_cloud(client: str) -> None:
    for module, path in modules("service"):
        if module not in (CLOUDS[client], MODEL_HUB if client == "huggingface_hub" else None):
            assert not any(name.partition(".")[0] == client for name in imports(path)), module


@pytest.mark.parametrize("rung", [*CLOUDS.values(), "service.engines.remote"])
def test_only_wiring_imports_a_rung_on_other_hosts(rung: str) -> None:
    for module, path in modules("service"):
        if module != "service.wiring":
            assert not any(name.startswith(rung) for name in imports(path)), module


def test_nothing_imports_the_program_that_fills_the_model_cache() -> None:
    for room in ROOMS:
        for module, path in modules(room):
            if not module.startswith("service.model_cache"):
                assert not any(name.startswith("service.model_cache") for name in imports(path))


def test_nothing_imports_the_benchmarks() -> None:
    for room in ROOMS:
        for module, path in modules(room):
            assert not any(name.startswith("benchmarks") for name in imports(path)), module


def test_the_csm_library_can_be_lifted_out() -> None:
    for module, path in modules("service"):
        for name in imports(path):
            ours = name.partition(".")[0] in ROOMS
            if module.startswith("service.csm"):
                assert not ours or name.startswith("service.csm"), f"{module} imports {name}"
                assert not name.startswith("transformers"), f"{module} imports {name}"


@pytest.mark.parametrize("room", ["service", "provision"])
def test_only_settings_read_the_environment(room: str) -> None:
    for module, path in modules(room):
        if module != f"{room}.settings":
            text = path.read_text(encoding="utf-8")
            assert "os.environ" not in text, module
            assert "getenv" not in text, module


def test_pure_parts_of_provision_know_nothing_of_pyinfra() -> None:
    for module, path in modules("provision"):
        if module.rpartition(".")[2].startswith("_"):
            assert not any(name.startswith("pyinfra") for name in imports(path)), module


def test_deploy_reads_as_a_table_of_contents() -> None:
    lines = (PROJECT / "deploy.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 50
