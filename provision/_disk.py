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
images have 0.45 GB, 0.67 GB without torch itself, and 5.4 GB."""


def needed_for_image(build: Variant | None) -> int:
    """Return how many MiB Docker needs for an image that is yet to be built, or is there (None)."""
    if build is None:
        return NEEDED_TO_RUN_MIB
    without_cuda = build.torch_index == TORCH_CPU_INDEX
    return NEEDED_TO_BUILD_MIB[f"{build.target} without CUDA" if without_cuda else build.target]


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
