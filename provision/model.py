"""Stage 5: the model on the host, where the container finds it."""

from pathlib import Path

from pyinfra.api import deploy

from provision import operations
from provision._handing import Shelf
from provision._model import Hub, Model
from provision._plan import HostPlan
from provision._release import model_home


@deploy("Place the model")
def place_model(plan: HostPlan) -> None:
    """Bring the model's files to the host; where none is to speak, do nothing."""
    if plan.engine is None:
        return
    model = plan.engine.model
    if not isinstance(model.origin, Hub):
        _upload(model, model.origin)
    else:
        if plan.seed is None:
            _fetch(plan, model, model.origin)
        if plan.settings.seed_host is not None:
            _take(plan, model)
    if plan.settings.model_prune:
        operations.prune_models(name="Remove the models of earlier deploys", kept=model.digest)


def _upload(model: Model, origin: Path) -> None:
    operations.upload_model(
        name="Place the model", model=model, origin=origin, folder=model_home(model)
    )


def _fetch(plan: HostPlan, model: Model, hub: Hub) -> None:
    operations.fetch_model(
        name="Fetch the model",
        model=model,
        hub=hub,
        folder=model_home(model),
        image=plan.image,
        token=plan.settings.model_token,
        required=plan.settings.model == "required",
    )


def _take(plan: HostPlan, model: Model) -> None:
    """Take the model from the seed; where that has none, go on without it if that will do."""
    # Of the seed too, as with the image, so that the others wait for it.
    taken = operations.take_model(
        name="Take the model from the seed",
        model=model,
        seed=plan.seed.name if plan.seed else None,
        folder=model_home(model),
        _ignore_errors=plan.settings.model != "required",
    )
    if plan.seed is not None:
        operations.upload_model(
            name="Place the model",
            model=model,
            origin=Shelf().model(model.digest),
            folder=model_home(model),
            _if=taken.did_succeed,
        )
