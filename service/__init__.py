"""The speech service: what runs inside the container. It knows nothing of hosts or deploys."""

__version__ = "0.1.0"
