"""A host to try things on. See prod.py for what can stand here."""

hosts = [
    ("voice-staging.example.com", {"ssh_user": "root", "port": 8001}),
]
