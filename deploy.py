"""From a bare Linux host to a running, verified, private voice: pyinfra INVENTORY deploy.py."""

from pyinfra import host

from provision import (
    DeploySettings,
    build_image,
    check_host,
    install_docker,
    place_model,
    prepare_gpu,
    start_service,
    verify_service,
)

settings = DeploySettings.of(host)
plan = check_host(settings)

if plan is not None:
    install_docker(plan)
    prepare_gpu(plan)
    build_image(plan)
    place_model(plan)
    start_service(plan)
    verify_service(plan)
