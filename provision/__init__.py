"""The pyinfra package that brings a host to a running, verified voice.

Each public name is one stage of ``deploy.py``. Nothing here imports ``service`` or ``checks``: they
meet in the files that are rendered onto a host and over HTTP.
"""

from provision._plan import HostPlan
from provision.docker import install_docker
from provision.gpu import prepare_gpu
from provision.host import check_host
from provision.image import build_image
from provision.model import place_model
from provision.service import start_service
from provision.settings import DeploySettings
from provision.verify import verify_service

__all__ = [
    "DeploySettings",
    "HostPlan",
    "build_image",
    "check_host",
    "install_docker",
    "place_model",
    "prepare_gpu",
    "start_service",
    "verify_service",
]
