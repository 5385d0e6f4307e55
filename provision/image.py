"""Stage 3: the service image, built on the host from the uploaded rooms."""

from pyinfra.api import deploy

from provision import operations
from provision._network import DEBOOTSTRAP
from provision.host import HostPlan


@deploy("Build the image")
def build_image(plan: HostPlan) -> None:
    """Build the image under its content's tag; the same content is built once."""
    base = plan.base_image
    if base == DEBOOTSTRAP and plan.mirror is not None:
        base = f"sesame-csm-base:{plan.distribution.base_release}"
        operations.import_base_image(
            name="Make the base image from the host's package mirror",
            tag=base,
            image=plan.image,
            mirror=plan.mirror,
            security_mirror=plan.security_mirror,
            release=plan.distribution.base_release,
            components=",".join(plan.distribution.base_components),
        )
    operations.build_service_image(
        name="Build the service image",
        image=plan.image,
        base=base,
        target=plan.variant.target,
        torch_index=plan.variant.torch_index,
    )
