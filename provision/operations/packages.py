"""Packages, and the keys that sign them."""

import posixpath
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
