"""Stage 4: the model on the host, where the container finds it."""

from pyinfra.api import deploy

from provision import operations
from provision._release import model_home
from provision.host import HostPlan


@deploy("Place the model")
def place_model(plan: HostPlan) -> None:
    """Bring the model's files to the host; where none is to speak, do nothing."""
    if plan.engine is not None:
        model = plan.engine.model
        operations.upload_model(name="Place the model", model=model, folder=model_home(model))
