"""The service image and what it is built on."""

import io
import shlex
from typing import Literal

from pyinfra import host
from pyinfra.api import FileUploadCommand, operation

from provision import facts
from provision._apt import install_lines
from provision._image import Variant, pack_context
from provision._proxy import BUILD_ARGUMENTS, OF_APT, PROXIES
from provision._release import HOME
from provision.operations.files import Commands, script


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
        "if ! command -v debootstrap >/dev/null; then",
        *install_lines(("debootstrap",)),
        "fi",
        f"mkdir -p {HOME}",
        f"root=$(mktemp -d {HOME}/base.XXXXXX)",
        "trap 'rm -rf $root' EXIT",
        *PROXIES,
        *OF_APT,
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
        *PROXIES,
        "DOCKER_BUILDKIT=1 docker build --progress plain --file service/Dockerfile "
        f"--target {target} {BUILD_ARGUMENTS} --build-arg BASE_IMAGE={shlex.quote(base)} "
        f"{torch}--secret id=pip_conf,src=pip.conf "
        f"--tag {shlex.quote(image)} . > build.log 2>&1 || "
        '{ tail -n 40 build.log | sed "s#//[^/@ ]*@#//#g" >&2; '
        'echo "The image could not be built; the last lines of the build are above." >&2; '
        'if grep -q "No space left on device" build.log; then '
        'echo "The disk is full: docker system prune frees some, then deploy again." >&2; fi; '
        "exit 1; }",
    )
