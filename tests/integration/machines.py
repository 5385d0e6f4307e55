"""Real hosts to deploy to: containers with systemd as process 1, SSH, and room for Docker inside.

Their images are made with debootstrap from this machine's own package mirror, so that no registry
is needed, and kept on the engine for the next run.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.types import Mount
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from provision._docker import find_mirror
from provision.facts import AptRepositories

PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,sudo,ca-certificates,iproute2,iptables,"
    "curl,make,procps,python3"
)
START_TIMEOUT_SECONDS = 90
CERTIFICATES = Path("/usr/local/share/ca-certificates")
PIP_CONFIGURATION = Path("/etc/pip.conf")
PIP_MARK = "a-password-of-the-package-index"

# An engine inside may mount /proc for its containers only when nothing is mounted over parts of it.
UNMASK = (
    "for path in $(awk '$5 ~ \"^/proc/|^/sys/firmware\" {print $5}' /proc/self/mountinfo); "
    "do umount $path; done"
)

# The reaper is an image of a registry, which need not be there; each host removes itself.
testcontainers_config.ryuk_disabled = True


@dataclass(frozen=True)
class Machine:
    """A running host."""

    container: DockerContainer
    address: str
    key: Path

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command on the host as root and return what it printed.

        Raises:
            AssertionError: the command failed and ``check`` is set.
        """
        status, output = self.container.exec(["sh", "-c", command])
        text: str = output.decode(errors="replace")
        assert status == 0 or not check, f"{command}: {status}\n{text}"
        return text

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file on the host."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(Path(path).name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
        self.run(f"mkdir -p {Path(path).parent}")
        self.container.get_wrapped_container().put_archive(
            str(Path(path).parent), packed.getvalue()
        )

    def inventory_row(self, **data: object) -> tuple[str, dict[str, object]]:
        """Return the host as a row of a pyinfra inventory."""
        return self.address, {"ssh_user": "root", "ssh_key": str(self.key), **data}


def host_image(release: str) -> str:
    """Return an image of a bare Debian host, made on the first call.

    Args:
        release: codename, such as ``trixie``.
    """
    recipe = hashlib.sha256(f"{release} {PACKAGES}".encode()).hexdigest()[:12]
    tag = f"sesame-csm-test-host:{release}-{recipe}"
    client = docker.from_env()
    if client.images.list(tag):
        return tag
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = Path(folder) / release
        subprocess.run(
            [
                *("debootstrap", "--variant=minbase", f"--include={PACKAGES}"),
                *(release, str(root), *_package_mirror()),
            ],
            check=True,
            capture_output=True,
        )
        with subprocess.Popen(
            ["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE
        ) as packed:
            subprocess.run(["docker", "import", "-", tag], stdin=packed.stdout, check=True)
        assert packed.returncode == 0
    return tag


def _package_mirror() -> list[str]:
    """Return this machine's own Debian mirror for debootstrap, or nothing for its default."""
    fact = AptRepositories()
    listed = subprocess.run(
        ["sh", "-c", fact.command()], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    for release in ("bookworm", "trixie"):
        if mirror := find_mirror(fact.process(listed), release):
            return [mirror]
    return []


@contextmanager
def machine(release: str, key: Path, *, systemd: bool = True) -> Iterator[Machine]:
    """Run a bare host and remove it, with all that it held, afterwards.

    Args:
        release: codename of the Debian release.
        key: private SSH key whose owner may log in as root.
        systemd: whether systemd is process 1; without it a plain process is, as in small clouds.
    """
    cgroups = Path("/sys/fs/cgroup")
    process = "/sbin/init" if systemd else "sleep infinity"
    container = (
        DockerContainer(host_image(release))
        .with_command(["sh", "-c", f"{UNMASK}; exec {process}"])
        .with_env("container", "docker")
        .with_env("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE", "1")
        .with_tmpfs_mount("/run")
        .with_tmpfs_mount("/run/lock")
        .with_kwargs(
            cap_add=["ALL"],
            cap_drop=["SYS_RESOURCE"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            device_cgroup_rules=["a *:* rwm"],
            cgroupns="host",
            mounts=[
                Mount("/var/lib/docker", None),
                Mount("/var/lib/containerd", None),
                Mount(str(cgroups), str(cgroups), type="bind"),
            ],
        )
    )
    with container:
        wrapped = container.get_wrapped_container()
        wrapped.reload()
        address = next(iter(wrapped.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
        host = Machine(container, address, key)
        if systemd:
            _wait_for_ssh(host)
        _hand_over(host)
        yield host


def _hand_over(host: Machine) -> None:
    """Give the host what this machine's network needs, and the right to log in."""
    public = host.key.with_suffix(".pub").read_text().strip()
    host.run(f"umask 077; mkdir -p ~/.ssh; echo '{public}' > ~/.ssh/authorized_keys")
    for certificate in sorted(CERTIFICATES.glob("*.crt")):
        host.write(str(CERTIFICATES / certificate.name), certificate.read_bytes())
    host.run("update-ca-certificates")
    configuration = PIP_CONFIGURATION.read_text() if PIP_CONFIGURATION.exists() else ""
    host.write(str(PIP_CONFIGURATION), f"{configuration}\n# {PIP_MARK}\n".encode(), 0o600)


def _wait_for_ssh(host: Machine) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    probe = "ss -Hltn 'sport = :22' | grep -q LISTEN && systemctl is-system-running"
    while not (state := host.run(probe, check=False).strip()) or state in {
        "starting",
        "initializing",
    }:
        assert time.monotonic() < deadline, f"the host did not start: {state}"
        time.sleep(0.5)


def make_key(folder: Path) -> Path:
    """Make an SSH key pair and return the private one's path."""
    key = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def engine_is_there() -> bool:
    """Say whether a Docker engine answers and debootstrap can fill its images."""
    answers = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    return answers and shutil.which("debootstrap") is not None
