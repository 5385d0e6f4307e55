"""Packages, and the keys that sign them."""

import posixpath
import shlex
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import operation
from pyinfra.facts.deb import DebPackages

from provision import facts
from provision.operations.files import Commands, script

APT_GET = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"


@operation()
def ensure_packages(packages: Sequence[str]) -> Commands:
    """Install packages that are missing, and refresh the package lists only then.

    + packages: names of the packages
    """
    installed = host.get_fact(DebPackages)
    missing = [package for package in packages if package not in installed]
    if not missing:
        host.noop(f"{', '.join(packages)}: installed")
        return
    yield f"{APT_GET} update -q"
    yield f"{APT_GET} install -q -y --no-install-recommends {' '.join(missing)}"


@operation()
def ensure_package_versions(packages: Sequence[str], version: str) -> Commands:
    """Install packages that belong together, all in one version, newer or older than what is there.

    + packages: names of the packages
    + version: their version, as apt names it
    """
    installed = host.get_fact(DebPackages)
    if all(version in installed.get(package, ()) for package in packages):
        host.noop(f"{', '.join(packages)}: {version}")
        return
    wanted = " ".join(f"{package}={version}" for package in packages)
    yield f"{APT_GET} update -q"
    yield script(
        f"{APT_GET} install -q -y --no-install-recommends --allow-downgrades {wanted} || {{ "
        f"echo 'These versions of {packages[0]} can be had:' >&2; "
        f"apt-cache madison {packages[0]} | awk '{{print \"  \" $3, $6}}' >&2; exit 1; }}"
    )


@operation()
def disable_other_sources(address: str, keep: str) -> Commands:
    """Set source files aside that name a repository which another file of ours names.

    Apt stops at two files that sign one repository with two keys. A file in ``sources.list.d`` is
    renamed, to a name that apt passes over; a line elsewhere is left to its owner.

    + address: part of the repository's address
    + keep: the file that stays
    """
    named = host.get_fact(facts.AptSourceFiles, address=address)
    others = [path for path in named if "/sources.list.d/" in path and path != keep]
    if not others:
        host.noop(f"{address}: no other file names it")
        return
    for path in others:
        yield f"mv -f {shlex.quote(path)} {shlex.quote(f'{path}.disabled')}"


@operation()
def ensure_signing_key(url: str, path: str, fingerprint: str) -> Commands:
    """Download a repository's signing key and keep it only when its fingerprint is the pinned one.

    + url: where the key is
    + path: where apt looks for it
    + fingerprint: 40 hexadecimal digits
    """
    if host.get_fact(facts.KeyFingerprint, path=path) == fingerprint:
        host.noop(f"{path}: the pinned key")
        return
    half = f"{path}.half"
    yield script(
        f"install -d -m 755 {posixpath.dirname(path)}",
        f"curl -fsSL --max-time 60 -o {half} {url}",
        f"found=$(gpg --batch --show-keys --with-colons {half} "
        "| awk -F: '$1 == \"fpr\" {print $10; exit}')",
        f'if [ "$found" != {fingerprint} ]; then rm -f {half}; '
        f'echo "{url} is signed by $found, not by the pinned {fingerprint}: refused" >&2; '
        "exit 1; fi",
        f"chmod 644 {half}",
        f"mv -f {half} {path}",
    )
