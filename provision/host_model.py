"""Stage 1's look at the model: which one is to speak, and whether this host can have it."""

from pyinfra import host

from provision import facts
from provision._checkpoint import CONFIGURATION, read_model
from provision._docker import Refusal
from provision._handing import Seed
from provision._hub import Unclear, judge_access
from provision._model import HUB, PUBLISHED, Hub, Model, read_manifest
from provision._release import model_home
from provision.settings import DeploySettings


def survey_model(settings: DeploySettings, seed: Seed | None) -> Model | Refusal | None:
    """Return the model that is placed, None where there is none to be had, or a refusal.

    A folder that is no model, or a manifest, is a mistake and is refused. A hub that does not
    give the model, or a seed that has none, is refused only where the model is required.

    Args:
        settings: of the deploy.
        seed: the host that hands its model over, if there is one.
    """
    if settings.source_of_model == "folder" and settings.model_folder is not None:
        return read_model(settings.model_folder)
    if seed is not None:
        return _take(settings, seed)
    model = read_manifest(settings.model_manifest or PUBLISHED, settings.model_mirror or HUB)
    if isinstance(model, Refusal) or not isinstance(model.origin, Hub) or not missing_mib(model):
        return model
    refusal = _judge_hub(settings, model, model.origin)
    if refusal is None:
        return model
    if settings.model == "required":
        return refusal
    host.log(f"The basic voice will speak. {refusal}")
    return None


def missing_mib(model: Model) -> int:
    """Return how much of a model the host does not have yet, in MiB."""
    placed = host.get_fact(
        facts.PlacedFiles, folder=model_home(model), paths=[file.path for file in model.files]
    )
    return model.missing_mib({path: found["sha256"] for path, found in placed.items()})


def _take(settings: DeploySettings, seed: Seed) -> Model | Refusal | None:
    """Return the model that a seed fetches, for this host too."""
    if seed.engine is not None:
        return seed.engine.model
    if settings.model == "required":
        return Refusal(
            f"model=required, and seed_host={seed.name} has no model to hand over",
            "what is said about that host says why; mend it and deploy again",
        )
    host.log(f"The basic voice will speak: {seed.name} has no model to hand over.")
    return None


def _judge_hub(settings: DeploySettings, model: Model, hub: Hub) -> Refusal | None:
    """Say why a hub does not give its model to this host, as far as it can be known before."""
    token = settings.model_token
    shown = token.get_secret_value() if token else None
    access = judge_access(hub, model.largest.path, shown)
    if isinstance(access, Refusal):
        return access
    if isinstance(access, Unclear):
        host.log(f"Whether the model can be had is not known before: {access.why}")
    silent = host.get_fact(facts.Unreachable, urls=[hub.url_of(CONFIGURATION)])
    why = silent.get("0", "")
    if not why or why.startswith("403 "):
        return None
    return Refusal(
        f"the model comes from {hub.endpoint}, which does not answer the host ({why})",
        "open the way to it, give a mirror in model_mirror, or a folder in model_folder",
    )
