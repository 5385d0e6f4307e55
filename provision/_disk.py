"""How much disk a deploy takes, and which file system of a host is short of it.

Pure functions over what a host shows. Knows nothing of pyinfra.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from provision._docker import Refusal
from provision._image import Variant
from provision._network import TORCH_CPU_INDEX

DOCKER_ROOT = "/var/lib/docker"
NEEDED_TO_RUN_MIB = 300
NEEDED_TO_BUILD_MIB = {"light": 3000, "engine without CUDA": 5000, "engine": 10_000}
"""A build holds the base, the package archives and all stages at once. Measured, the finished
images have 0.49 GB, 0.67 GB without torch itself, and 5.4 GB."""

NEEDED_TO_TAKE_MIB = {
    "light": (1100, 250),
    "engine without CUDA": (3000, 800),
    "engine": (11_000, 3200),
}
"""For an image that another host has built: its archive, and twice the image, as ``docker load``
unpacks the whole of it beside the layers that it makes of it (moby, image/tarexport/load.go)."""


def needed_to_take(variant: Variant) -> tuple[int, int]:
    """Return how many MiB an image that is handed over needs: in Docker, and as an archive."""
    return NEEDED_TO_TAKE_MIB[_kind(variant)]


def needed_for_image(build: Variant | None) -> int:
    """Return how many MiB Docker needs for an image that is yet to be built, or is there (None)."""
    if build is None:
        return NEEDED_TO_RUN_MIB
    return NEEDED_TO_BUILD_MIB[_kind(build)]


def _kind(variant: Variant) -> str:
    without_cuda = variant.torch_index == TORCH_CPU_INDEX
    return f"{variant.target} without CUDA" if without_cuda else variant.target


def refuse_disks(
    needed: Mapping[str, int], free: Mapping[str, Mapping[str, Any]]
) -> Iterator[Refusal]:
    """Refuse each file system without room for all that is yet to come onto it.

    Args:
        needed: MiB by place.
        free: the file system of each place, as the fact ``FreeDisk`` tells it.
    """
    for disk in {found["device"]: found for found in free.values()}.values():
        wanted = {
            place: mib for place, mib in needed.items() if free[place]["device"] == disk["device"]
        }
        total = sum(wanted.values())
        if disk["mib"] < total:
            places = ", ".join(f"{mib} in {place}" for place, mib in wanted.items())
            yield Refusal(
                f"{disk['mount']} has {disk['mib']} MiB free, {total} MiB are needed: {places}",
                "free some, for example with docker system prune, or give the machine more disk",
            )
