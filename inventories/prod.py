"""The hosts that speak in production: name them, and say only what differs from the defaults.

    pyinfra inventories/prod.py deploy.py

Every setting is listed in docs/reference/settings.md. Secrets are taken from where they are kept:
``env:NAME`` from the environment of the deploying machine, ``file:PATH`` from a file on it.
"""

hosts = [
    ("voice.example.com", {"ssh_user": "root"}),
]
