"""Stage 4: the service image, built from the uploaded rooms on the host, or on one for others."""

from pyinfra.api import deploy

from provision import operations
from provision._network import DEBOOTSTRAP
from provision._plan import HostPlan


@deploy("Build the image")
def build_image(plan: HostPlan) -> None:
    """Build the image under its content's tag, once, or take it from the host that builds it."""
    if plan.seed is None:
        _build(plan)
    if plan.settings.seed_host is not None:
        # Of the seed too, where it does nothing: an operation that all have comes after what any
        # of them does before it, and nothing else makes the others wait for the build.
        operations.take_image(
            name="Take the image from the seed",
            image=plan.image,
            seed=plan.seed.name if plan.seed else None,
        )


def _build(plan: HostPlan) -> None:
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
