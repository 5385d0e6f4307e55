"""The deploy's last table, drawn from the report of the check program.

Pure functions over its JSON. Knows nothing of pyinfra or of how the checks were made.
"""

import io
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from provision._model import CsmEngine
from provision._release import CONTAINER, HOME
from provision.settings import DeploySettings

WIDTH = 160
GIVE_A_MODEL = "give model_token=env:HF_TOKEN to fetch it, or model_folder=/path/to/csm-1b"
WITHOUT_MODEL = f"Maya's own voice needs the CSM-1B model: {GIVE_A_MODEL}"
WITH_MODEL = f"the model is in place and does not speak: docker logs {CONTAINER} says why"
MARKS = {"met": "✓", "not_met": "✗", "unknown": "?"}
CLOUDS = ("elevenlabs", "huggingface")
DEVICE_STEPS = {
    "no_cuda_build": "give torch_index=auto, or an index whose name ends in cu and a CUDA release",
    "no_driver": "docker info | grep -i runtimes must name nvidia: deploy again",
    "nvml_lost": "deploy again, which makes the container anew; more in docs/guides/gpu.md",
    "cuda_init_failed": "try another nvidia_toolkit_version, after nvidia-smi on the host",
    "out_of_memory": "nvidia-smi names who has the GPU's memory; or give another of gpu_devices",
    "wrong_gpu": "give torch_index with another CUDA: this one has no code for the GPU",
    "wrong_result": "the GPU computes wrongly: take it out of gpu_devices",
}
"""What to do about each word of ``python -m service.csm.device``."""

FORGIVABLE = {"fallback.settings", *(f"fallback.{name}" for name in CLOUDS)}
"""Checks that do not fail a deploy with ``fallback_failure=warn``: Maya's own voice is none."""


def failure_lines(settings: DeploySettings, report: Mapping[str, Any]) -> list[str]:
    """Return what a report holds against the voice, a line each: what was seen and what to do."""
    if "error" in report:
        return [f"the check program could not run: {report['error']}"]
    against = _against(report)
    held = [check for check in against if not _is_forgiven(settings, check)]
    if held:
        return _lines(held)
    if not against and not report.get("ok"):
        return ["the check program reported no reason"]
    loaded = (report.get("service") or {}).get("model_loaded")
    if settings.model == "required" and not loaded:
        return [f"✗ model=required: {WITH_MODEL}"]
    return []


def device_failure_lines(proof: Mapping[str, Any]) -> list[str]:
    """Return what the proof inside the container holds against the GPU; empty where none is due.

    Args:
        proof: what ``python -m service.csm.device`` said there; empty for a model on the processor.
    """
    if not proof or proof["proof"] == "ok":
        return []
    step = DEVICE_STEPS.get(proof["error"], f"docker logs {CONTAINER}")
    return [f"✗ gpu: {proof['error']}: {proof['detail']}", f"    → {step}"]


def warning_lines(settings: DeploySettings, report: Mapping[str, Any]) -> list[str]:
    """Return what a report holds against the fallback where that is not to fail the deploy."""
    return _lines([check for check in _against(report) if _is_forgiven(settings, check)])


def _against(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [check for check in report.get("checks", []) if check["verdict"] != "met"]


def _is_forgiven(settings: DeploySettings, check: Mapping[str, Any]) -> bool:
    return settings.fallback_failure == "warn" and check["name"] in FORGIVABLE


def _lines(checks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each check, and each next step once."""
    lines: list[str] = []
    for check in checks:
        lines.append(f"{MARKS[check['verdict']]} {check['name']}: {check['detail']}")
        step = f"    → {check['next']}"
        if check["next"] and step not in lines:
            lines.append(step)
    return lines


def draw_report(
    settings: DeploySettings,
    report: Mapping[str, Any],
    engine: CsmEngine | None = None,
    proof: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the lines of the table: what runs, where, who speaks, how to try it."""
    service = report.get("service") or {}
    badge = service.get("badge") or {}
    met = sum(check["verdict"] == "met" for check in report.get("checks", []))
    rows = {
        "Voice": f"{badge.get('icon', '')} {badge.get('label', 'unknown')}".strip(),
        "URL": f"{settings.public_url}/api/v1/generate",
        "Container": f"{CONTAINER}, health {service.get('status')}, engine {service.get('engine')}",
        "Personas": ", ".join(service.get("voices") or []),
        "Fallback": _fallback(report),
        "Text may go to": _receivers(report),
        "First audio": _first_audio(report),
        "Checks": f"{met} of {len(report.get('checks', []))} met",
        "Try it": _try_it(settings),
        "For Maya": f"{HOME}/maya.env",
    }
    if engine is not None:
        weights = f"{engine.model.weights_mib} MiB of weights"
        rows["Model"] = f"{engine.model.digest}, {weights}, on {engine.accelerator}"
    if proof:
        rows["GPU"] = _gpu(proof)
    if settings.model != "none" and not settings.online and not service.get("model_loaded"):
        rows["Better"] = WITHOUT_MODEL if engine is None else WITH_MODEL
    return _draw(rows)


def _gpu(proof: Mapping[str, Any]) -> str:
    """Return what has computed inside the container, in a line."""
    return (
        f"{proof['name']}, {proof['memory_mib']} MiB, compute capability "
        f"{proof['compute_capability']}, driver {proof['driver'] or 'not told'}, "
        f"CUDA {proof['cuda']}: computes"
    )


def _fallback(report: Mapping[str, Any]) -> str:
    """Return how the rungs stand that may speak for the primary voice, in a line."""
    facts = {name: _facts(report, f"fallback.{name}") for name in CLOUDS}
    told = [f"{name} {_stands(found)}" for name, found in facts.items() if found]
    return ", ".join(told) or "not told"


def _stands(facts: Mapping[str, Any]) -> str:
    left = facts.get("characters_left")
    return facts["finding"] if left is None else f"{facts['finding']} ({left:,} characters left)"


def _receivers(report: Mapping[str, Any]) -> str:
    """Return who may receive text, in a line."""
    facts = _facts(report, "fallback.private")
    return ", ".join(facts["hosts"]) or "nobody" if facts else "not told"


def _facts(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a check saw for programs, if it was made and says so."""
    for check in report.get("checks", []):
        if check["name"] == name:
            facts: Mapping[str, Any] = check.get("facts") or {}
            return facts
    return {}


def _first_audio(report: Mapping[str, Any]) -> str:
    """Return what the check of the latency measured, in a line."""
    timings = report.get("timings") or {}
    first_audio, factor = (
        timings.get("latency.first_audio"),
        timings.get("latency.real_time_factor"),
    )
    if not first_audio or not factor:
        return "not measured"
    device = (report.get("service") or {}).get("device") or "a device that is not named"
    return (
        f"after {first_audio['p50_ms']:.0f} ms (p50), "
        f"real-time factor {factor['p50']:.2g}, on {device}"
    )


def draw_stopped() -> list[str]:
    """Return the table of a host whose voice is switched off."""
    enable = 'service_env={"SESAME_ENABLED": "true"}'
    return _draw({"Voice": "🔴 Voice Offline", "Why": "SESAME_ENABLED=false", "Start it": enable})


def _try_it(settings: DeploySettings) -> str:
    words = ["curl", "-o", "hello.wav", "-H", "Content-Type: application/json"]
    words += ["-d", '{"text":"Hello from Maya"}', f"{settings.public_url}/api/v1/generate"]
    if "SESAME_SERVER_KEY" not in settings.secrets:
        return shlex.join(words)
    # On standard input: a key in an argument can be read by every user of the machine.
    header = "printf 'Authorization: Bearer %s' \"$SESAME_SERVER_KEY\""
    return f"{header} | {shlex.join([*words, '-H', '@-'])}"


def _draw(rows: Mapping[str, str]) -> list[str]:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    drawn = io.StringIO()
    Console(file=drawn, width=WIDTH, force_terminal=False).print(table)
    return [line.rstrip() for line in drawn.getvalue().splitlines() if line.strip()]
