"""The machine that deploys: ``@local`` with a place for what differs from the defaults."""

hosts = ["@local"]
