"""What Prometheus is told of a chain as it stands at the moment. It counts nothing itself."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.engines.chain import Chain
from service.engines.engine import Batch, ModelReport

__all__ = ["ObservedChain"]

BREAKER_STATES = ("closed", "half_open", "open", "latched")


class ObservedChain(Collector):
    """Tells who would speak, who waits for whom, and how the model is loaded and filled."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def collect(self) -> Iterable[Metric]:
        """Give what is true now."""
        chain = self._chain
        speaker = chain.speaker
        yield _gauge(
            "sesame_speaker",
            "1 for the rung that would speak now",
            ("rung",),
            (((rung.name,), float(rung is speaker)) for rung in chain.rungs),
        )
        yield _gauge(
            "sesame_breaker_state",
            "1 for the state in which a rung's circuit breaker is",
            ("rung", "state"),
            (
                ((name, state), float(state == breaker.state))
                for name, breaker in chain.breakers.items()
                for state in BREAKER_STATES
            ),
        )
        for name, meaning, field in (
            ("sesame_rung_permits", "Answers that a rung speaks at once at most", "count"),
            ("sesame_rung_speaking", "Answers that a rung speaks now", "taken"),
            ("sesame_rung_waiting", "Requests that wait for a rung", "waiting"),
        ):
            values = (
                ((rung,), float(getattr(permits, field))) for rung, permits in chain.permits.items()
            )
            yield _gauge(name, meaning, ("rung",), values)
        yield GaugeMetricFamily(
            "sesame_queue_limit",
            "Requests that may wait for the rung that is asked first",
            value=chain.queue_limit,
        )
        for rung in chain.rungs:
            if rung.state.model is not None:
                yield from _of_model(rung.state.model)


def _of_model(model: ModelReport) -> Iterator[Metric]:
    yield _gauge(
        "sesame_model_info",
        "1, with the model that speaks and where it runs",
        ("model", "device", "precision"),
        [((model.name, model.device, model.precision), 1.0)],
    )
    yield GaugeMetricFamily(
        "sesame_model_load_seconds",
        "From the start of loading to the end of the warm-up",
        value=model.load_seconds,
    )
    if model.batch is not None:
        yield from _of_batch(model.batch())


def _of_batch(batch: Batch) -> Iterator[Metric]:
    yield GaugeMetricFamily("sesame_batch_slots", "Pieces that fit a batch", value=batch.slots)
    yield GaugeMetricFamily("sesame_batch_filled", "Pieces in the batch now", value=batch.filled)
    yield CounterMetricFamily("sesame_batch_steps", "Steps of the model", value=batch.steps)
    yield CounterMetricFamily(
        "sesame_batch_frames",
        "Frames spoken in them: by steps, the mean occupancy",
        value=batch.frames,
    )


def _gauge(
    name: str,
    meaning: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for label, value in values:
        family.add_metric(label, value)
    return family
