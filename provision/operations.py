"""What can be changed on a host. pyinfra operations only.

Each reads a fact, does nothing when all is well, and otherwise yields the commands that make it so.
"""

import io
import posixpath
import shlex
from collections.abc import Generator, Sequence
from typing import Literal

from pyinfra import host, state
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.api.command import PyinfraCommand
from pyinfra.connectors.local import LocalConnector
from pyinfra.facts.deb import DebPackages

from provision import facts
from provision._docker import missing_parts
from provision._image import Variant, pack_context
from provision._model import Model, ModelFile
from provision._release import COMPOSE_FILE, CONTAINER, HOME, RELEASE_LABEL, Release, ReleaseFile

Commands = Generator[str | PyinfraCommand, None, None]

APT_GET = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"
DAEMON_LOG = "/var/log/dockerd.log"
DAEMON_TIMEOUT_SECONDS = 60
PREVIOUS = f"{HOME}/.previous"
TOLD_OF_BYTES = 100 * 2**20
"""A file of this size may travel for a while, which is told."""


def script(*lines: str) -> StringCommand:
    """Return shell lines as one command that ends at the first line that fails."""
    return StringCommand("\n".join(["set -eu", *lines]))


def write_file(path: str, content: str, mode: str = "644", owner: int = 0) -> StringCommand:
    """Return a command that writes a file whole or not at all.

    The content travels on standard input, so it stands in no command line, log or temporary file
    that others can read.
    """
    place, half = shlex.quote(path), shlex.quote(f"{path}.half")
    return StringCommand(
        f"install -D -m {mode} -o {owner} -g {owner} /dev/stdin {half} && mv -f {half} {place}",
        _stdin=content,
    )


@operation()
def ensure_files(files: Sequence[ReleaseFile]) -> Commands:
    """Write files whose content, mode or owner differ.

    + files: files with absolute paths
    """
    states = host.get_fact(facts.FileStates, paths=[file.path for file in files])
    different = [file for file in files if states.get(file.path) != file.state]
    if not different:
        host.noop("every file is as wanted")
    for file in different:
        yield write_file(file.path, file.content, file.mode, file.owner)


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


@operation()
def ensure_docker_answers(*, systemd: bool) -> Commands:
    """Start the Docker daemon if it does not answer, and wait until every part of Docker does.

    + systemd: whether systemd runs the host; without it the daemon is started plainly
    """
    engine = host.get_fact(facts.DockerEngine)
    if not missing_parts(engine):
        host.noop("engine, Compose v2 and BuildKit answer")
        return
    if "engine" not in engine:
        yield _start_daemon_with_systemd() if systemd else _start_daemon_plainly()
    yield script(
        *(
            f"docker {part} version >/dev/null || {{ echo 'Docker is there, but not {part}: "
            f"docker {part} version says why.' >&2; exit 1; }}"
            for part in ("compose", "buildx")
        )
    )


def _start_daemon_with_systemd() -> StringCommand:
    return _start_daemon(
        "systemctl enable --now docker.service || true",
        "journalctl --no-pager --unit docker.service --lines 20",
    )


def _start_daemon_plainly() -> StringCommand:
    # Debian's init script raises limits, which a container without SYS_RESOURCE may not do.
    # Killed daemons leave their numbers behind, which other processes may have by now.
    return _start_daemon(
        "start-stop-daemon --status --exec $(command -v dockerd) || rm -f /run/docker.pid\n"
        "start-stop-daemon --status --exec $(command -v containerd) || "
        "rm -f /run/docker/containerd/containerd.pid\n"
        "start-stop-daemon --start --oknodo --background "
        f"--output {DAEMON_LOG} --exec $(command -v dockerd)",
        f"tail -n 20 {DAEMON_LOG}",
    )


def _start_daemon(start: str, last_words: str) -> StringCommand:
    return script(
        start,
        f"for second in $(seq {DAEMON_TIMEOUT_SECONDS}); do",
        "  if docker info >/dev/null 2>&1; then exit 0; fi",
        "  sleep 1",
        "done",
        f"{last_words} >&2 || true",
        f'echo "The Docker daemon did not answer within {DAEMON_TIMEOUT_SECONDS} s; its last words '
        'are above. Mend what they say and deploy again." >&2',
        "exit 1",
    )


@operation()
def import_base_image(
    tag: str, image: str, mirror: str, security_mirror: str | None, release: str, components: str
) -> Commands:
    """Make a base image with debootstrap from the host's own package mirror.

    + tag: name and tag of the base image
    + image: name and tag of the service image, for which the base is needed
    + mirror: package mirror
    + security_mirror: mirror of security updates, if the host has one
    + release: codename of the release
    + components: components of the release, separated by commas
    """
    for wanted in (image, tag):
        if host.get_fact(facts.Image, tag=wanted):
            host.noop(f"{wanted}: there")
            return
    areas = components.replace(",", " ")
    keyring = "signed-by=/usr/share/keyrings/$keyring"
    updates = (
        f'echo "deb [{keyring}] {security_mirror} {release}-security {areas}" >> $sources'
        if security_mirror
        else ":"
    )
    yield script(
        f"command -v debootstrap >/dev/null || {{ {APT_GET} update -q; "
        f"{APT_GET} install -q -y --no-install-recommends debootstrap; }}",
        f"mkdir -p {HOME}",
        f"root=$(mktemp -d {HOME}/base.XXXXXX)",
        "trap 'rm -rf $root' EXIT",
        "eval $(apt-config shell http_proxy Acquire::http::Proxy)",
        "eval $(apt-config shell https_proxy Acquire::https::Proxy)",
        "export http_proxy https_proxy 2>/dev/null || true",
        f"debootstrap --variant=minbase --components={components} {release} $root {mirror} "
        "> $root.log 2>&1 || { tail -n 20 $root.log >&2; rm -f $root.log; exit 1; }",
        "rm -f $root.log",
        "sources=$root/etc/apt/sources.list",
        'keyring=$(cd $root/usr/share/keyrings && ls | grep -E "^(debian|ubuntu)-archive-keyring" '
        "| head -n 1)",
        f'echo "deb [{keyring}] {mirror} {release} {areas}" > $sources',
        updates,
        "rm -rf $root/var/cache/apt/archives/*.deb $root/var/lib/apt/lists/*",
        f"tar -C $root -c . | docker import --change 'CMD [\"bash\"]' - {tag}",
    )


@operation()
def build_service_image(
    image: str, base: str, target: Literal["light", "engine"] = "light", torch_index: str = ""
) -> Commands:
    """Build the service image on the host from the uploaded rooms, unless its content is there.

    The host's extra certificate authorities are built in. Its pip configuration, which may hold a
    password, is a build secret and stays in no layer.

    + image: name and tag of the image
    + base: image that the build starts from
    + target: target of the Dockerfile
    + torch_index: package index that torch alone comes from; empty: the host's own
    """
    if host.get_fact(facts.Image, tag=image):
        host.noop(f"{image}: built")
        return
    context = f"{HOME}/build"
    torch = f"--build-arg TORCH_INDEX={shlex.quote(torch_index)} " if torch_index else ""
    yield f"rm -rf {context} && install -d -m 700 {context}/ca"
    yield FileUploadCommand(
        io.BytesIO(pack_context(Variant(target, torch_index))), f"{context}/context.tar.gz"
    )
    yield script(
        f"trap 'rm -rf {context}' EXIT",
        f"cd {context}",
        "tar -xzf context.tar.gz",
        "touch ca/.keep pip.conf",
        "find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} ca/ \\; || true",
        "for file in ~/.pip/pip.conf ~/.config/pip/pip.conf /etc/pip.conf; do "
        "if [ -r $file ]; then cp $file pip.conf; fi; done",
        "chmod 600 pip.conf",
        "DOCKER_BUILDKIT=1 docker build --progress plain --file service/Dockerfile "
        f"--target {target} --build-arg BASE_IMAGE={shlex.quote(base)} "
        f"{torch}--secret id=pip_conf,src=pip.conf "
        f"--tag {shlex.quote(image)} . > build.log 2>&1 || "
        '{ tail -n 40 build.log >&2; echo "The image could not be built; the last lines of the '
        'build are above." >&2; exit 1; }',
    )


@operation()
def upload_model(model: Model, folder: str) -> Commands:
    """Bring a model's files to the host: those that are missing there or differ, and no others.

    Each travels under a temporary name and takes its place when its SHA-256 is right. A stamp
    beside the folder tells later runs what was verified, so that only changed files are read again.
    A container that has a file from there which was wrong is started again.

    + model: files of the deploying machine
    + folder: where they go; its name is the model's content
    """
    paths = [file.path for file in model.files]
    placed = host.get_fact(facts.PlacedFiles, folder=folder, paths=paths)
    verified = {path: found["sha256"] for path, found in placed.items()}
    missing = [file for file in model.files if verified.get(file.path) != file.sha256]
    if not missing and all(found["stamped"] for found in placed.values()):
        host.noop(f"model {model.digest}: in place")
        return
    folders = sorted({posixpath.dirname(f"{folder}/{path}") for path in paths})
    yield script(f"install -d -m 755 {' '.join(map(shlex.quote, folders))}")
    for file in missing:
        if state.is_executing and file.size > TOLD_OF_BYTES:
            host.log(f"{file.path}: {file.size / 2**20:.0f} MiB")
        yield from _upload(model, file, f"{folder}/{file.path}")
    yield _stamp(model, folder)
    if missing:
        # What was mended under a running container is still the old file to it.
        yield (
            f"docker ps --quiet --filter name=^/{CONTAINER}$ --filter volume={folder} "
            "| xargs -r docker restart --time 35 >/dev/null"
        )


def _upload(model: Model, file: ModelFile, place: str) -> Commands:
    source, half = str(model.folder / file.path), f"{place}.half"
    if host.connector_cls is LocalConnector:
        # pyinfra would hold the file in memory. A copy, not a link: its owner may write to his.
        yield f"cp --reflink=auto {shlex.quote(source)} {shlex.quote(half)}"
    else:
        # With sudo it travels in two steps, and /tmp may be too small, as it may be memory.
        yield FileUploadCommand(
            source,
            half,
            remote_temp_filename=f"/var/tmp/sesame-csm-{file.sha256[:16]}",  # noqa: S108 (its copy is verified)
        )
    place, half = shlex.quote(place), shlex.quote(half)
    yield script(
        f"found=$(sha256sum < {half})",
        f'if [ "${{found%% *}}" != {file.sha256} ]; then rm -f {half}; '
        f"echo {shlex.quote(file.path)} did not arrive whole. Deploy again. >&2; exit 1; fi",
        f"mv -f {half} {place}",
    )


def _stamp(model: Model, folder: str) -> StringCommand:
    """Make the verified files readable by the container, and note what they then look like."""
    stamp = f"{folder}.verified"
    return script(
        f"cd {folder}",
        "while read -r digest path; do",
        '  chmod 644 "$path"',
        '  chown 0:0 "$path"',
        f'  echo "$digest $({facts.STATE_OF_FILE} "$path") $path"',
        f"done > {stamp}.half << 'END'",
        f"{model.manifest}END",
        f"mv -f {stamp}.half {stamp}",
    )


@operation()
def install_release(release: Release) -> Commands:
    """Put a release's files into place, after its own image has accepted its settings.

    The files are written beside the running release and moved over it only when the service says
    that it can run with them, so a refused release leaves the running one untouched.

    + release: rendered files
    """
    paths = [*release.wanted, *release.unwanted]
    if host.get_fact(facts.FileStates, paths=paths) == release.wanted:
        host.noop(f"release {release.digest}: in place")
        return
    following = f"{HOME}/.next"
    yield script(
        f"rm -rf {following}",
        f"install -d -m 755 {HOME}",
        f"install -d -m 711 {following} {following}/secrets",
    )
    for file in release.files:
        yield write_file(f"{following}/{file.path}", file.content, file.mode, file.owner)
    yield script(
        f"docker compose --file {following}/{COMPOSE_FILE} run --rm --no-deps --no-TTY sesame-csm "
        f"python -m service --check-settings > {following}/answer 2>&1 || "
        f"{{ cat {following}/answer >&2; rm -rf {following}; "
        'echo "The service refuses these settings; nothing was switched over." >&2; exit 1; }'
    )
    yield script(
        f"rm -rf {PREVIOUS}",
        f"install -d -m 755 {PREVIOUS}",
        f"install -d -m 711 {PREVIOUS}/secrets {HOME}/secrets",
        *(f"if [ -f {path} ]; then cp -p {path} {_previous(path)}; fi" for path in paths),
        *(f"mv -f {following}/{file.path} {HOME}/{file.path}" for file in release.files),
        *(f"rm -f {path}" for path in release.unwanted),
        f"rm -rf {following}",
    )


def _previous(path: str) -> str:
    return path.replace(HOME, PREVIOUS, 1)


@operation()
def start_release(release: Release, timeout_seconds: int) -> Commands:
    """Start a release and wait until it is healthy.

    When it does not become healthy, its last words are printed, the release that ran before is
    started again, and the host fails.

    + release: the release whose files are in place
    + timeout_seconds: how long it may take
    """
    container = host.get_fact(facts.Container, container=CONTAINER) or {}
    settled = {
        "running": container.get("status") == "running",
        "healthy": container.get("health") == "healthy",
        "labelled": (container.get("labels") or {}).get(RELEASE_LABEL) == release.digest,
        "of the image": container.get("image") == host.get_fact(facts.Image, tag=release.image),
    }
    if all(settled.values()):
        host.noop(f"{CONTAINER}: {', '.join(settled)}")
        return
    up = (
        f"docker compose --project-directory {HOME} --file {HOME}/{COMPOSE_FILE} up --detach "
        f"--remove-orphans --wait --wait-timeout {timeout_seconds} > {HOME}/.start 2>&1"
    )
    yield script(
        f"if {up}; then rm -rf {HOME}/.start {PREVIOUS}; exit 0; fi",
        f"cat {HOME}/.start >&2",
        'echo "--- last words of the service ---" >&2',
        f"docker logs --tail 30 {CONTAINER} >&2 2>&1 || true",
        'echo "--- last health checks ---" >&2',
        "docker inspect --format "
        "'{{if .State.Health}}{{range .State.Health.Log}}{{.Output}}{{end}}{{end}}' "
        f"{CONTAINER} >&2 || true",
        f'echo "The service did not become healthy within {timeout_seconds} s. Mend what its last '
        'words say and deploy again, or give it longer: start_timeout_seconds." >&2',
        f"if [ -f {PREVIOUS}/{COMPOSE_FILE} ]; then",
        f"  rm -f {' '.join([*release.wanted, *release.unwanted])}",
        f"  cp -pR {PREVIOUS}/. {HOME}/",
        f"  if {up}; then",
        '    echo "Rolled back: the release that ran before speaks again." >&2',
        "  else",
        f"    cat {HOME}/.start >&2",
        '    echo "Rolled back, but the release that ran before does not start either." >&2',
        "  fi",
        "fi",
        f"rm -rf {HOME}/.start {PREVIOUS}",
        "exit 1",
    )


@operation()
def stop_service() -> Commands:
    """Stop the voice, as ``SESAME_ENABLED=false`` asks."""
    container = host.get_fact(facts.Container, container=CONTAINER)
    if container is None or container["status"] != "running":
        host.noop(f"{CONTAINER}: not running")
        return
    yield f"docker stop --time 35 {CONTAINER} && rm -rf {PREVIOUS}"
