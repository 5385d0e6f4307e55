"""The golden plans as a table: what a deploy brings to each kind of host, read from the plans.

    python -m tests.provision.matrix

rewrites the table of docs/reference/plans.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from provision._distribution import DISTRIBUTIONS
from provision._gpu import Accelerator

PLANS = Path(__file__).resolve().parent / "plans"
PROJECT = Path(__file__).resolve().parent.parent.parent
PAGE = PROJECT / "docs/reference/plans.md"
BEGIN, END = "<!-- plans -->\n", "<!-- end of the plans -->\n"
COLUMNS = ("host", "Docker from", "speaks on", "packages", "base", "image", "torch from", "steps")
ACCELERATORS: dict[Accelerator | None, str] = {
    None: "basic voice",
    "cpu": "processor",
    "nvidia": "GPU",
}
SOURCES = ("docker", "distribution")
NONE = "–"  # noqa: RUF001 (how the tables say that there is none)


def golden(codename: str, source: str, runs_on: Accelerator | None) -> Path:
    """Return the file of a plan."""
    return PLANS / f"{codename}-{source}{f'-csm-{runs_on}' if runs_on else ''}.txt"


def table() -> str:
    """Return the table in Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *_rows()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def rewrite(page: str) -> str:
    """Return the page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def _rows() -> Iterator[tuple[str, ...]]:
    for distribution in DISTRIBUTIONS:
        for source in SOURCES:
            for runs_on, told in ACCELERATORS.items():
                plan = golden(distribution.codename, source, runs_on)
                link = f"[{distribution.name}](../../{plan.relative_to(PROJECT)})"
                yield link, source, told, *_cells(plan.read_text(encoding="utf-8"))


def _cells(text: str) -> tuple[str, ...]:
    base = _first(r"BASE_IMAGE=(\S+)", text)
    target = _first(r"--target (\S+)", text)
    made = " (debootstrap)" if base.startswith("sesame-csm-base") else ""
    index = _first(r"TORCH_INDEX=(https?://\S+)", text)
    torch = f"`{index}`" if index else "the package index"
    steps = re.findall(r"^# (?!.*: no changes$)", text, re.MULTILINE)
    return (
        ", ".join(f"`{name}`" for name in _packages(text)),
        f"`{base}`{made}",
        f"`{target}`",
        torch if target == "engine" else NONE,
        str(len(steps)),
    )


def _packages(text: str) -> list[str]:
    """Return what the plan installs, without versions and without what only builds the base."""
    lines = re.findall(r"--no-install-recommends ((?:--?\S+ )*)([^\n;|]+)", text)
    names = {name.partition("=")[0] for _, line in lines for name in line.split()}
    return sorted(name for name in names if re.fullmatch(r"[a-z][a-z0-9.+-]+", name))


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


if __name__ == "__main__":
    PAGE.write_text(rewrite(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
