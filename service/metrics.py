"""What the service counts, in Prometheus' form. It knows nothing of when something is counted."""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BREAKER_STATES = ("closed", "half_open", "open", "latched")
SWITCH_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 4, 8, 16)  # seconds


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._attempts = Counter(
            "sesame_rung_attempts_total",
            "Tries to have a text spoken, by rung and outcome",
            ("rung", "outcome"),
            registry=self._registry,
        )
        self._breakers = Gauge(
            "sesame_breaker_state",
            "1 for the state in which a rung's circuit breaker is",
            ("rung", "state"),
            registry=self._registry,
        )
        self._characters = Counter(
            "sesame_cloud_characters_total",
            "Characters sent to another host, by rung",
            ("rung",),
            registry=self._registry,
        )
        self._switch = Histogram(
            "sesame_switch_over_seconds",
            "From a request to the moment at which a rung that is not the first took it up",
            ("rung",),
            buckets=SWITCH_BUCKETS,
            registry=self._registry,
        )

    def attempt(self, rung: str, outcome: str) -> None:
        """Count one try of a rung."""
        self._attempts.labels(rung, outcome).inc()

    def sent(self, rung: str, characters: int) -> None:
        """Count characters that left this host."""
        self._characters.labels(rung).inc(characters)

    def switched(self, rung: str, seconds: float) -> None:
        """Note how long it took until a rung that is not the first took a request up."""
        self._switch.labels(rung).observe(seconds)

    def exposition(self, breakers: Iterable[tuple[str, str]]) -> bytes:
        """Give everything as text.

        + breakers: rung and state, as they are now
        """
        for rung, now in breakers:
            for state in BREAKER_STATES:
                self._breakers.labels(rung, state).set(state == now)
        return generate_latest(self._registry)
