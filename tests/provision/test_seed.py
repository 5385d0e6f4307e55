"""What a deploy would do to hosts of which one builds for the others: pyinfra's ``@fake``."""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision._checkpoint import read_model
from provision._handing import Archive, Shelf
from provision._image import LIGHT, Variant, image_tag
from provision._model import CsmEngine, Hub, Model, read_manifest
from provision._network import REGISTRY_IMAGE, TORCH_CPU_INDEX
from provision.settings import DeploySettings
from tests.provision import gpus
from tests.provision.checkpoints import write_checkpoint
from tests.provision.hosts import CLOSED_NETWORK, COMPLETE_ENGINE, FakeHost, bare, row, settled
from tests.provision.plan import Plan, run_fleet

PLANS = Path(__file__).parent / "plans"
DEBIAN = row("Debian 13")
ARCHIVE = b"an image, packed"
SEED = {"seed_host": "@fake/seed"}
WITH_CSM = {**SEED, "model_token": "hf_a_token_of_the_tests"}
DEAD = tuple(f"{number} no route" for number in range(5))


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The deploying machine's cache, with the image of every fake seed in it."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    shelf = Shelf()
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    for variant in (LIGHT, Variant("engine", TORCH_CPU_INDEX)):
        image = image_tag(REGISTRY_IMAGE, [], variant)
        place = shelf.image(image, "sha256:5e5a3e")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(ARCHIVE)
        archive = Archive(image, f"@fake/{variant.target}", "11aa", len(ARCHIVE), digest)
        shelf.keep(place, archive)
    return shelf


@pytest.fixture(autouse=True)
def _hub_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deploying machine asks nobody."""
    monkeypatch.setattr("provision.host_model.judge_access", lambda _hub, _path, _token: None)


@pytest.fixture
def model() -> Model:
    found = read_manifest()
    assert isinstance(found, Model)
    return found


@pytest.fixture
def small(shelf: Shelf, tmp_path: Path) -> Model:
    """A small model of a hub, on the shelf already."""
    folder = write_checkpoint(tmp_path / "small")
    found = read_model(folder)
    assert isinstance(found, Model)
    hub = Hub("https://huggingface.co", "house/small", "5" * 40)
    (tmp_path / "manifest.json").write_text(hub.manifest_of(found), encoding="utf-8")
    shelf.model(found.digest).parent.mkdir()
    folder.rename(shelf.model(found.digest))
    return replace(found, origin=hub)


def seed(**changes: Any) -> FakeHost:
    """A host that has built its image."""
    return replace(settled(DEBIAN, DeploySettings(), "docker"), **changes)


def engine_seed(model: Model, variant: Variant | None = None) -> FakeHost:
    return settled(
        DEBIAN,
        DeploySettings.read(WITH_CSM, name="seed"),
        "docker",
        engine=CsmEngine(model, "cpu"),
        variant=variant or Variant("engine", TORCH_CPU_INDEX),
    )


def taker(**changes: Any) -> FakeHost:
    """A host with Docker, and without any network."""
    return bare(DEBIAN, engine=COMPLETE_ENGINE, unreachable=DEAD, disk_mib=20_000, **changes)


def run(
    first: FakeHost,
    second: FakeHost,
    data: Mapping[str, Any] = SEED,
    *,
    limit: Collection[str] | None = None,
    **own: Any,
) -> tuple[Plan, Plan]:
    """Deploy to a seed and to a host that takes from it and that is asked first."""
    plans = run_fleet({"taker": (second, {**data, **own}), "seed": (first, data)}, limit)
    return plans["seed"], plans["taker"]


def assert_refused(plan: Plan, *words: str) -> None:
    said = "\n".join(plan.said)
    assert plan.failed
    assert plan.operations == []
    for word in words:
        assert word in said


def assert_golden(plan: Plan, name: str, shelf: Shelf) -> None:
    text = plan.text().replace(str(shelf.folder), "SHELF")
    text = re.sub(r"images/[0-9a-f]{12}-", "images/TAG-", text)
    golden = PLANS / f"{name}.txt"
    if os.environ.get("UPDATE_PLANS"):
        golden.write_text(text, encoding="utf-8")
    assert not plan.failed
    assert text == golden.read_text(encoding="utf-8")


def test_the_plan_of_a_host_that_takes_its_image_is_the_golden_one(shelf: Shelf) -> None:
    _, plan = run(seed(), taker())
    assert_golden(plan, "trixie-handed", shelf)


def test_the_plan_of_a_host_that_takes_its_model_is_the_golden_one(
    shelf: Shelf, small: Model, tmp_path: Path
) -> None:
    data = {**WITH_CSM, "model_manifest": str(tmp_path / "manifest.json")}
    _, plan = run(engine_seed(small), taker(), data)
    assert_golden(plan, "trixie-handed-csm-cpu", shelf)


def test_a_seed_builds_as_if_there_were_no_other() -> None:
    plan, _ = run(bare(DEBIAN), taker())
    alone = (PLANS / "trixie-docker.txt").read_text(encoding="utf-8")
    waits = "# Build the image | Take the image from the seed: no changes\n\n"
    assert plan.text().replace(waits, "") == alone


@pytest.mark.parametrize(
    ("built", "taken"),
    [
        ("Build the image | Build the service image", "Build the image | Take the image"),
        ("Place the model | Fetch the model", "Place the model | Take the model"),
    ],
)
def test_nobody_takes_before_the_seed_has_built(built: str, taken: str) -> None:
    # The seed has more to do before it than the other, which must not run ahead.
    first = bare(DEBIAN, unreachable=CLOSED_NETWORK)
    plan, _ = run(first, taker(), WITH_CSM)
    builds = [number for number, name in enumerate(plan.run) if name.startswith(built)]
    takes = [number for number, name in enumerate(plan.run) if name.startswith(taken)]
    assert len(builds) == len(takes) == 1
    assert builds < takes


def test_a_settled_host_that_took_its_image_is_left_alone() -> None:
    assert [plan.changes for plan in run(seed(), seed(unreachable=DEAD))] == [[], []]


def test_a_settled_host_that_took_its_model_is_left_alone(model: Model) -> None:
    there = engine_seed(model)
    assert [plan.changes for plan in run(there, there, WITH_CSM)] == [[], []]


def test_a_seed_that_is_no_host_of_the_inventory_is_refused() -> None:
    _, plan = run(seed(), taker(), seed_host="voice-9")
    assert_refused(plan, "seed_host=voice-9 is no host of this inventory", "@fake/seed")


def test_a_seed_that_takes_from_another_one_is_refused() -> None:
    fakes = {"seed": (seed(), {"seed_host": "@fake/taker"}), "taker": (taker(), SEED)}
    assert_refused(run_fleet(fakes)["taker"], "itself has seed_host=@fake/taker", "itself included")


def test_a_seed_that_does_not_know_that_it_is_one_is_refused() -> None:
    fakes = {"seed": (seed(), {}), "taker": (taker(), SEED)}
    assert_refused(run_fleet(fakes)["taker"], "itself has seed_host=None", "itself included")


def test_a_seed_that_is_refused_takes_no_other_host_with_it_into_a_change() -> None:
    first, second = run(bare(DEBIAN, memory_mib=100), taker())
    assert_refused(first, "100 MiB of memory")
    assert_refused(second, "seed_host=@fake/seed, which builds for this host, is refused itself")


def test_a_seed_whose_build_fails_leaves_the_voice_of_the_others_as_it_is() -> None:
    first, second = run(bare(DEBIAN, failing=("docker build --progress",)), taker())
    assert first.failed
    assert second.failed
    assert any("failed in this run. Nothing was switched over here" in line for line in second.said)
    assert "Start the service | Render the release" not in second.changes


def test_a_seed_outside_the_limit_hands_over_what_it_has() -> None:
    _, plan = run(seed(), taker(), limit=["taker"])
    assert not plan.failed
    assert "Take the image" in " ".join(plan.changes)


def test_a_seed_outside_the_limit_that_has_nothing_is_refused() -> None:
    _, plan = run(bare(DEBIAN), taker(), limit=["taker"])
    assert_refused(plan, "has no image of this version yet", "--limit @fake/seed")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "aarch64"}, "is amd64, this host arm64"),
        ({"nvidia": gpus.H100}, "needs the one with CUDA"),
        ({"disk_mib": 900}, "3800 MiB are needed: 3000 in /var/lib/docker, 800 in /opt"),
    ],
)
def test_a_host_that_cannot_use_what_the_seed_has_is_refused_before_anything_changes(
    changes: dict[str, Any], reason: str, model: Model
) -> None:
    there = tuple(f"{file.sha256} stamped {file.path}" for file in model.files)
    host = replace(taker(placed=there), **changes)
    _, plan = run(engine_seed(model), host, WITH_CSM)
    assert_refused(plan, reason)


def test_a_host_without_a_model_cannot_use_the_image_of_one_with(model: Model) -> None:
    _, plan = run(engine_seed(model), taker(), WITH_CSM, model="none")
    assert_refused(plan, "has the engine image without CUDA, this host needs the light one")


def test_a_host_follows_a_seed_that_could_not_get_the_model() -> None:
    first, second = run(seed(hub=("0 Could not resolve",)), taker(), WITH_CSM)
    assert not second.failed
    assert any("has no model to hand over" in line for line in second.said)
    assert not first.changes


def test_a_host_needs_no_token_for_the_model_that_the_seed_fetches(model: Model) -> None:
    there = engine_seed(model)
    fakes = {"taker": (there, SEED), "seed": (there, WITH_CSM)}
    plan = run_fleet(fakes)["taker"]
    assert not plan.failed
    assert plan.changes == []


@pytest.mark.parametrize(("wanted", "failed"), [("auto", False), ("required", True)])
def test_a_seed_whose_model_did_not_come_fails_those_who_require_it(
    wanted: str, failed: bool, model: Model
) -> None:
    first = replace(engine_seed(model), placed=())
    _, plan = run(first, taker(), {**WITH_CSM, "model": wanted})
    assert any("does not hold config.json of model" in line for line in plan.said)
    assert ("Place the model | Place the model", []) in plan.operations
    started = "Start the service | Start the release" in plan.changes
    assert started is not failed


def test_a_required_model_that_the_seed_does_not_have_is_refused() -> None:
    _, plan = run(seed(), taker(), SEED, model="required", model_token="hf_a_token")
    assert_refused(plan, "model=required, and seed_host=@fake/seed has no model to hand over")


def test_a_host_takes_the_image_under_the_tag_that_the_seed_gave_it() -> None:
    tag = image_tag(REGISTRY_IMAGE, [], LIGHT)
    _, plan = run(seed(), taker())
    taken = dict(plan.operations)["Build the image | Take the image from the seed"]
    assert tag in taken[0]
