"""A package repository of a test's own: packages made on the spot, signed, served over HTTP."""

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


@dataclass(frozen=True)
class Package:
    """A package as small as can be. ``files`` holds what each executable says, by path."""

    name: str
    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    depends: str = ""


@dataclass(frozen=True)
class SigningKey:
    """A key that nobody but the test trusts."""

    home: Path
    fingerprint: str

    def run(self, *arguments: str) -> str:
        """Run gpg with this key."""
        finished = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--yes", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return finished.stdout


def make_signing_key(home: Path) -> SigningKey:
    """Make a key without a passphrase in a folder of its own."""
    home.mkdir(mode=0o700)
    key = SigningKey(home, "")
    key.run("--passphrase", "", "--quick-generate-key", "Test <test@example.org>", "rsa3072")
    listed = key.run("--list-keys", "--with-colons").splitlines()
    fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
    return SigningKey(home, fingerprint)


def write_repository(root: Path, folder: str, packages: list[Package], key: SigningKey) -> None:
    """Write a flat repository with its list, its signature and its key.

    Args:
        root: what is served; the key is ``gpgkey`` there.
        folder: where below it the packages are.
        packages: what the repository offers.
        key: who signs its list.
    """
    place = root / folder
    place.mkdir(parents=True)
    entries = [_build(place, package) for package in packages]
    listed = "\n".join(entries).encode()
    (place / "Packages").write_bytes(listed)
    digest = hashlib.sha256(listed).hexdigest()
    release = place / "Release"
    release.write_text(
        "Origin: a test\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
        f"SHA256:\n {digest} {len(listed)} Packages\n",
        encoding="utf-8",
    )
    key.run("--clearsign", "--output", str(place / "InRelease"), str(release))
    (root / "gpgkey").write_text(key.run("--armor", "--export"), encoding="utf-8")


def _build(place: Path, package: Package) -> str:
    """Build a package and return its entry in the list."""
    tree = place / f"{package.name}.tree"
    control = (
        f"Package: {package.name}\nVersion: {package.version}\nArchitecture: all\n"
        f"Maintainer: Test <test@example.org>\nDescription: a stand-in\n"
        + (f"Depends: {package.depends}\n" if package.depends else "")
    )
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(control, encoding="utf-8")
    for path, text in package.files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text, encoding="utf-8")
        (tree / path).chmod(0o755)
    for path, target in package.links.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    built = place / f"{package.name}_{package.version}_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(built)],
        check=True,
        capture_output=True,
    )
    content = built.read_bytes()
    subprocess.run(["rm", "-rf", str(tree)], check=True)
    digest = hashlib.sha256(content).hexdigest()
    return f"{control}Filename: ./{built.name}\nSize: {len(content)}\nSHA256: {digest}\n"


class _Handler(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name upstream)
        pass


@contextmanager
def served(root: Path) -> Iterator[int]:
    """Serve a folder on every address of this machine, and give the port."""
    with ThreadingHTTPServer(("0.0.0.0", 0), partial(_Handler, directory=str(root))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
