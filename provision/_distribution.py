"""The distributions that can be deployed to, as data. Adding one is adding a row."""

from dataclasses import dataclass

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""``uname -m`` to Debian's name, of what can be deployed to."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One release of one distribution.

    ``engine_packages`` come from the release itself. ``plugin_packages`` come from
    ``plugin_release`` where the release's own are missing or too old for Compose v2 and BuildKit.
    ``base_release`` is what debootstrap builds the service image on (Python 3.11 or later).
    ``driver_install`` is the command with which an operator installs an NVIDIA driver that is new
    enough for CUDA 13, ``driver_tool`` the one for ``nvidia-smi`` alone; neither is ever run here.
    """

    name: str
    identity: str
    version: str
    codename: str
    engine_packages: tuple[str, ...]
    plugin_packages: tuple[str, ...]
    plugin_release: str
    base_release: str
    base_components: tuple[str, ...]
    driver_install: str
    driver_tool: str

    @property
    def foreign_release(self) -> str:
        """The other release that the plugins come from and nothing else does, or an empty text."""
        return "" if self.plugin_release == self.codename else self.plugin_release


DEBIAN_DRIVER = (
    "add NVIDIA's repository (docs.nvidia.com/datacenter/tesla/driver-installation-guide), as "
    "{release} has no driver as new as 580: curl -fsSLO https://developer.download.nvidia.com/"
    "compute/cuda/repos/{repository}/$(uname -m | sed s/aarch64/sbsa/)/cuda-keyring_1.1-1_all.deb "
    "&& dpkg -i cuda-keyring_1.1-1_all.deb && apt-get update && "
    "apt-get install linux-headers-$(uname -r) nvidia-driver-cuda nvidia-kernel-open-dkms"
)
UBUNTU_DRIVER = (
    "apt-get install ubuntu-drivers-common && ubuntu-drivers install --gpgpu nvidia:580-server && "
    "apt-get install nvidia-utils-580-server"
)


DISTRIBUTIONS = (
    Distribution(
        name="Debian 12",
        identity="debian",
        version="12",
        codename="bookworm",
        engine_packages=("docker.io", "iptables"),
        plugin_packages=("docker-compose", "docker-buildx"),
        plugin_release="trixie",
        base_release="trixie",
        base_components=("main",),
        driver_install=DEBIAN_DRIVER.format(release="Debian 12", repository="debian12"),
        driver_tool="apt-get install nvidia-smi",
    ),
    Distribution(
        name="Debian 13",
        identity="debian",
        version="13",
        codename="trixie",
        engine_packages=("docker.io", "docker-cli", "iptables"),
        plugin_packages=("docker-compose", "docker-buildx"),
        plugin_release="trixie",
        base_release="trixie",
        base_components=("main",),
        driver_install=DEBIAN_DRIVER.format(release="Debian 13", repository="debian13"),
        driver_tool="apt-get install nvidia-smi",
    ),
    Distribution(
        name="Ubuntu 22.04",
        identity="ubuntu",
        version="22.04",
        codename="jammy",
        engine_packages=("docker.io", "iptables"),
        plugin_packages=("docker-compose-v2", "docker-buildx"),
        plugin_release="jammy",
        base_release="noble",
        base_components=("main", "universe"),
        driver_install=UBUNTU_DRIVER,
        driver_tool="apt-get install nvidia-utils-{branch}-server",
    ),
    Distribution(
        name="Ubuntu 24.04",
        identity="ubuntu",
        version="24.04",
        codename="noble",
        engine_packages=("docker.io", "iptables"),
        plugin_packages=("docker-compose-v2", "docker-buildx"),
        plugin_release="noble",
        base_release="noble",
        base_components=("main", "universe"),
        driver_install=UBUNTU_DRIVER,
        driver_tool="apt-get install nvidia-utils-{branch}-server",
    ),
)


def find_distribution(identity: str, version: str) -> Distribution | None:
    """Return the row of ``ID`` and ``VERSION_ID`` of ``/etc/os-release``, or None."""
    for row in DISTRIBUTIONS:
        if (row.identity, row.version) == (identity, version):
            return row
    return None
