"""Every distribution, source of Docker and thing that speaks: what the first deploy does to it.

``UPDATE_PLANS=1`` writes the plans anew; the table of docs/reference/plans.md is read from them.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from provision._checkpoint import read_model
from provision._distribution import DISTRIBUTIONS, Distribution
from provision._image import LIGHT, Variant
from provision._model import CsmEngine, Model
from provision._network import TORCH_CPU_INDEX
from provision.settings import DeploySettings
from tests.provision import gpus, matrix
from tests.provision.checkpoints import folder_of, write_checkpoint
from tests.provision.hosts import CLOSED_NETWORK, FakeHost, bare, settled, with_gpu
from tests.provision.plan import Plan, run_deploy


class Case(NamedTuple):
    """One cell of the matrix."""

    distribution: Distribution
    source: str
    runs_on: Literal["nvidia", "cpu"] | None

    @property
    def golden(self) -> Path:
        """The file of its plan."""
        return matrix.golden(self.distribution.codename, self.source, self.runs_on)

    @property
    def variant(self) -> Variant:
        """What its image is: torch without CUDA comes only from an index that answers."""
        if self.runs_on is None:
            return LIGHT
        open_to_torch = self.source == "docker" and self.runs_on == "cpu"
        return Variant("engine", TORCH_CPU_INDEX if open_to_torch else "")

    def data(self, model: Model) -> dict[str, str]:
        """Return the host data that ask for it."""
        return {"model_folder": str(folder_of(model))} if self.runs_on else {}

    def fresh(self, architecture: str = "x86_64") -> FakeHost:
        """Return a bare host; Docker comes from the distribution where nothing else answers."""
        closed = CLOSED_NETWORK if self.source == "distribution" else ()
        torch = ("4 Could not resolve",) if closed and self.runs_on == "cpu" else ()
        return bare(
            self.distribution,
            architecture=architecture,
            unreachable=(*closed, *torch),
            nvidia=gpus.H100 if self.runs_on == "nvidia" else gpus.NOTHING,
            proof=gpus.PROOF if self.runs_on == "nvidia" else {},
        )

    def settled(self, model: Model) -> FakeHost:
        """Return the host as its deploy leaves it."""
        with_model = DeploySettings(model_folder=folder_of(model))
        chosen = (gpus.H100_UUID,) if self.runs_on == "nvidia" else ()
        host = settled(
            self.distribution,
            with_model if self.runs_on else DeploySettings(),
            self.source,
            engine=CsmEngine(model, self.runs_on, chosen) if self.runs_on else None,
            variant=self.variant,
        )
        return with_gpu(host) if self.runs_on == "nvidia" else host


CASES = [
    pytest.param(
        case := Case(distribution, source, runs_on),
        id=case.golden.stem,
    )
    for distribution in DISTRIBUTIONS
    for source in matrix.SOURCES
    for runs_on in matrix.ACCELERATORS
]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    found = read_model(write_checkpoint(tmp_path / "csm"))
    assert isinstance(found, Model)
    return found


def text_of(plan: Plan, model: Model) -> str:
    return plan.text().replace(str(folder_of(model)), "MODEL_FOLDER")


@pytest.mark.parametrize("case", CASES)
def test_the_first_plan_is_the_golden_one(case: Case, model: Model) -> None:
    plan = run_deploy(case.fresh(), **case.data(model))
    assert not plan.failed, plan.said
    text = text_of(plan, model)
    if os.environ.get("UPDATE_PLANS"):
        case.golden.write_text(text, encoding="utf-8")
    assert text == case.golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_on_arm64_it_differs_by_the_architecture_alone(case: Case, model: Model) -> None:
    plan = run_deploy(case.fresh("aarch64"), **case.data(model))
    assert not plan.failed, plan.said
    golden = case.golden.read_text(encoding="utf-8")
    assert text_of(plan, model) == golden.replace("amd64", "arm64")


@pytest.mark.parametrize("case", CASES)
def test_a_settled_host_is_left_as_it_is(case: Case, model: Model) -> None:
    plan = run_deploy(case.settled(model), **case.data(model))
    assert not plan.failed, plan.said
    assert plan.changes == []
