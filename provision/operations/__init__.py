"""What can be changed on a host. pyinfra operations only.

Each reads a fact, does nothing when all is well, and otherwise yields the commands that make it so.
"""

from provision.operations.docker import (
    configure_daemon,
    ensure_daemon_proxy,
    ensure_docker_answers,
)
from provision.operations.files import Commands, ensure_files, remove_file
from provision.operations.gpu import adopt_nvidia_hook, restore_gpu
from provision.operations.handing import take_image, take_model
from provision.operations.image import build_service_image, import_base_image
from provision.operations.model import fetch_model, prune_models, upload_model
from provision.operations.packages import (
    disable_other_sources,
    ensure_engine_version,
    ensure_package_versions,
    ensure_packages,
    ensure_signing_key,
    mend_packages,
    remove_packages,
)
from provision.operations.release import install_release, start_release, stop_service
from provision.operations.voices import place_voices, prune_voices

__all__ = [
    "Commands",
    "adopt_nvidia_hook",
    "build_service_image",
    "configure_daemon",
    "disable_other_sources",
    "ensure_daemon_proxy",
    "ensure_docker_answers",
    "ensure_engine_version",
    "ensure_files",
    "ensure_package_versions",
    "ensure_packages",
    "ensure_signing_key",
    "fetch_model",
    "import_base_image",
    "install_release",
    "mend_packages",
    "place_voices",
    "prune_models",
    "prune_voices",
    "remove_file",
    "remove_packages",
    "restore_gpu",
    "start_release",
    "stop_service",
    "take_image",
    "take_model",
    "upload_model",
]
