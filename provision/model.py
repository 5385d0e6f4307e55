"""Stage 4: the model on the host, where the container finds it."""

from pyinfra.api import deploy

from provision import operations
from provision._model import Hub
from provision._release import model_home
from provision.host import HostPlan


@deploy("Place the model")
def place_model(plan: HostPlan) -> None:
    """Bring the model's files to the host; where none is to speak, do nothing."""
    if plan.engine is None:
        return
    settings, model = plan.settings, plan.engine.model
    if isinstance(model.origin, Hub):
        operations.fetch_model(
            name="Fetch the model",
            model=model,
            hub=model.origin,
            folder=model_home(model),
            image=plan.image,
            token=settings.model_token,
            required=settings.model == "required",
        )
    else:
        operations.upload_model(
            name="Place the model", model=model, origin=model.origin, folder=model_home(model)
        )
    if settings.model_prune:
        operations.prune_models(name="Remove the models of earlier deploys", kept=model.digest)
