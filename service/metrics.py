"""What the service counts, in Prometheus' form. It knows nothing of when something is counted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from service import __version__

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SWITCH_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 4, 8, 16)  # seconds
QUEUE_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 2, 4, 8, 16)  # seconds
# Densest where a listener tells the difference: a turn of talk follows within 0.2 to 0.5 s.
FIRST_AUDIO_BUCKETS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 4, 8)  # seconds
# Below 1 speech is made faster than it is heard.
REAL_TIME_BUCKETS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 4)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._gauge("sesame_build_info", "1, with the version", "version").labels(__version__).set(
            1
        )
        self._requests = self._counter(
            "sesame_requests_total",
            "Requests to speak, by dialect, engine that spoke, and outcome",
            *("dialect", "engine", "outcome"),
        )
        self._in_progress = self._gauge(
            "sesame_requests_in_progress", "Requests to speak that are being answered", "dialect"
        )
        self._queue = self._histogram(
            "sesame_queue_seconds",
            "From a request to the moment at which its engine took it up",
            QUEUE_BUCKETS,
        )
        self._first_audio = self._histogram(
            "sesame_first_audio_seconds", "From a request to its first audio", FIRST_AUDIO_BUCKETS
        )
        self._real_time = self._histogram(
            "sesame_real_time_factor",
            "Seconds of work for a second of audio, of whole answers",
            REAL_TIME_BUCKETS,
        )
        self._audio = self._counter("sesame_audio_seconds_total", "Audio spoken", "engine")
        self._spoken = self._counter("sesame_characters_total", "Characters spoken", "engine")
        self._cache = self._counter(
            "sesame_cache_lookups_total",
            "Short texts looked up among those spoken lately: hit, miss or bypass",
            "result",
        )
        self._attempts = self._counter(
            "sesame_rung_attempts_total",
            "Tries to have a text spoken, by rung and outcome",
            *("rung", "outcome"),
        )
        self._cloud = self._counter(
            "sesame_cloud_characters_total", "Characters sent to another host, by rung", "rung"
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
        self._cloud.labels(rung).inc(characters)

    def switched(self, rung: str, seconds: float) -> None:
        """Note how long it took until a rung that is not the first took a request up."""
        self._switch.labels(rung).observe(seconds)

    def looked_up(self, result: str) -> None:
        """Count a look among what was said lately: hit, miss or bypass."""
        self._cache.labels(result).inc()

    @contextmanager
    def answering(self, dialect: str) -> Iterator[None]:
        """Count a request to speak as one in progress."""
        with self._in_progress.labels(dialect).track_inprogress():
            yield

    def answered(self, dialect: str, outcome: str, noted: Mapping[str, Any]) -> None:
        """Count a request to speak that is over.

        + noted: what its log line says
        """
        engine = noted.get("engine", "none")
        self._requests.labels(dialect, engine, outcome).inc()
        if "engine" not in noted:
            return
        self._audio.labels(engine).inc(noted.get("audio_s", 0))
        self._spoken.labels(engine).inc(noted["characters"])
        if noted.get("cached"):
            return
        self._queue.labels(engine).observe(noted["queue_ms"] / 1000)
        self._first_audio.labels(engine).observe(noted["first_audio_ms"] / 1000)
        if "real_time_factor" in noted:
            self._real_time.labels(engine).observe(noted["real_time_factor"])

    def watch(self, collector: Collector) -> None:
        """Have a collector say what stands at the moment of each exposition."""
        self._registry.register(collector)

    def exposition(self) -> bytes:
        """Give everything as text."""
        return generate_latest(self._registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(name, meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, meaning, ("engine",), buckets=buckets, registry=self._registry)
