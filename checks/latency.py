"""How soon the voice is heard, and how fast it speaks, against objectives.

Knows the guide's route and the clock; whether it is speech that is heard, `speech` finds out.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from checks import objectives
from checks.client import Answer, Client
from checks.generate import generate, refusal
from checks.health import LOADED_STEP, Health
from checks.report import CheckError, Result, Verdict
from checks.riff import StreamedWave, WaveError, read_streamed_wave
from checks.waveform import MIN_LEVEL_DBFS

PHRASE = "The quick brown fox jumps over the lazy dog, and then it rests in the sun."
"""Some four seconds: long enough that an answer in one piece can be told from a streamed one."""

REQUESTS = 5
"""Measured by default, one after the other, after one that is not measured."""

AUDIBLE = 32768 * 10 ** (MIN_LEVEL_DBFS / 20)
"""Magnitude of a 16-bit sample that is heard; under this level a recording counts as silent."""

_UNSTREAMED = {400, 422}
"""How a server that does not know the field `stream` may refuse it."""

_NEXT_STEP = (
    "Run it again on an idle host; then look at device, precision and queue: Server-Timing of an "
    "answer tells waiting from speaking."
)


def _show_nothing(_done: int, _of: int) -> None:
    """Take the place of a progress bar."""


@dataclass(frozen=True)
class Plan:
    """What to measure, and what the figures are held against.

    + requests: how many are measured
    + objectives: limits by the names of `objectives.NAMES`; they join the guide's own
    + progress: is told how many of how many requests are done
    """

    requests: int = REQUESTS
    objectives: Mapping[str, float] = field(default_factory=dict)
    progress: Callable[[int, int], None] = _show_nothing


@dataclass(frozen=True)
class Measurement:
    """One answer in figures, by the names of `objectives.UNITS`.

    `first_byte` and `total` are ms from the request to the first and the last byte of the body.
    `first_audio` is ms from the request to the moment at which the first audible sample is played,
    when playback begins with the first sample that arrives and waits for each that is late: so
    silence before it counts, and a header that comes early does not help.
    `real_time_factor` is total over the length of the audio.

    + engine: who spoke, empty when the answer does not say
    + streamed: whether the answer began before its length was known
    + missing: why `first_audio` and `real_time_factor` are not there, if they are not
    """

    figures: Mapping[str, float]
    engine: str
    streamed: bool
    missing: str = ""


@dataclass(frozen=True)
class _Measured:
    """All answers of a run, at least one."""

    answers: tuple[Measurement, ...]
    asked: int

    @property
    def engines(self) -> list[str]:
        return list(dict.fromkeys(answer.engine for answer in self.answers))

    @property
    def missing(self) -> str:
        return next((answer.missing for answer in self.answers if answer.missing), "")

    def percentiles(self, figure: str) -> dict[str, float]:
        """Return p50 and p95 by nearest rank (each is an observed value), empty when one lacks."""
        values = [answer.figures[figure] for answer in self.answers if figure in answer.figures]
        if len(values) < len(self.answers):
            return {}
        ranks = zip(objectives.keys(figure), objectives.PERCENTILES.values(), strict=True)
        return {
            key: float(np.percentile(values, rank, method="inverted_cdf")) for key, rank in ranks
        }


async def check(client: Client, health: Health, plan: Plan | None = None) -> list[Result]:
    """Measure answers one after the other and hold the figures against the objectives."""
    plan = plan or Plan()
    if health.status == "loading":
        return [
            Result(
                "latency",
                Verdict.UNKNOWN,
                "not measured: the model is loading",
                LOADED_STEP,
            )
        ]
    try:
        measured = await _measure_all(client, health, plan)
    except CheckError as error:
        return [Result.of_error("latency", error)]
    limits = {**(objectives.GUIDE if on_gpu(health) else {}), **plan.objectives}
    rows = [_row(figure, measured, limits) for figure in objectives.UNITS]
    return [_who(client, health, measured), *(row for row in rows if row is not None)]


def on_gpu(health: Health) -> bool:
    """Tell whether the service names a device that is no CPU."""
    device = health.form.device if health.form else None
    return bool(device) and not str(device).lower().startswith("cpu")


def measure(answer: Answer, *, engine: str = "") -> Measurement:
    """Return the figures of an answer with audio, as far as its form lets them be told."""
    figures = {
        "first_byte": answer.timing.first_byte * 1000,
        "total": answer.timing.total * 1000,
    }
    streamed = "Content-Length" not in answer.headers
    try:
        audio = read_streamed_wave(answer.body)
    except WaveError as error:
        return Measurement(MappingProxyType(figures), engine, streamed, str(error))
    heard = _heard_after(audio, answer)
    if heard is None:
        return Measurement(MappingProxyType(figures), engine, streamed, "nothing can be heard")
    figures["first_audio"] = heard * 1000
    figures["real_time_factor"] = answer.timing.total / audio.wave.seconds
    return Measurement(MappingProxyType(figures), engine, streamed)


def _heard_after(audio: StreamedWave, answer: Answer) -> float | None:
    """Return seconds from the request until the first audible sample is played, if there is one."""
    audible = np.flatnonzero(np.abs(audio.wave.samples.astype(np.int32)) >= AUDIBLE)
    if not audible.size:
        return None
    wanted = int(audible[0])
    played = 0.0
    first = 0  # the first sample that an arrival completes
    for arrival in answer.arrivals:
        complete = max(0, arrival.size - audio.start) // 2
        if complete > first:
            # Playback can have come to `wanted` no sooner than this, if it waited here.
            played = max(played, arrival.seconds + (wanted - first) / audio.wave.rate)
            first = complete
        if complete > wanted:
            break
    return played


async def _measure_all(client: Client, health: Health, plan: Plan) -> _Measured:
    first, stream = await _warm_up(client, health)
    plan.progress(1, plan.requests + 1)
    answers = [first]
    for number in range(plan.requests):
        if client.seconds_left < max(answer.timing.total for answer in answers):
            break
        answer = await _ask(client, health, stream=stream)
        if answer.status != 200:
            raise refusal(client, health, answer)
        answers.append(answer)
        plan.progress(number + 2, plan.requests + 1)
    # Where there is time for one answer only, the one that was to warm the service up has to do.
    measured = [
        measure(answer, engine=client.quote(answer.headers.get("X-Speech-Engine", "")))
        for answer in answers[1:] or answers
    ]
    return _Measured(tuple(measured), plan.requests)


async def _warm_up(client: Client, health: Health) -> tuple[Answer, bool]:
    """Let the service speak once, and say whether it takes the field `stream`."""
    for stream in (True, False):
        answer = await _ask(client, health, stream=stream)
        if answer.status == 200:
            return answer, stream
        if answer.status not in _UNSTREAMED:
            break
    raise refusal(client, health, answer)


async def _ask(client: Client, health: Health, *, stream: bool) -> Answer:
    body: dict[str, object] = {"text": PHRASE, "voice": health.voices[0], "format": "wav"}
    if stream:
        body["stream"] = True
    return await generate(client, json.dumps(body).encode())


def _who(client: Client, health: Health, measured: _Measured) -> Result:
    """Return whose figures these are, and what is particular about them."""
    name = "latency.engine"
    device = client.quote(str(health.summary()["device"] or "a device that is not named"))
    engines = ", ".join(engine or "one without a name" for engine in measured.engines)
    count = f"requests measured: {len(measured.answers)}"
    if len(measured.answers) < measured.asked:
        count += f" of {measured.asked}, for want of time"
    said = [f"engine {engines} on {device}, {count}"]
    if not all(answer.streamed for answer in measured.answers):
        said.append("the answers came whole: this server does not stream")
    if measured.missing:
        said.append(f"no figures of the audio: {client.quote(measured.missing)}")
    doubts = _doubts(client, health, measured.engines)
    if doubts:
        return Result(
            name,
            Verdict.UNKNOWN,
            "; ".join([*said, *doubts]),
            "Look into the service's log for why another engine spoke: docker logs <container>.",
        )
    return Result(name, Verdict.MET, "; ".join(said))


def _doubts(client: Client, health: Health, engines: list[str]) -> list[str]:
    """Return why the figures may not be those of the voice that `/health` names."""
    if len(engines) > 1:
        return ["the engine changed between the requests"]
    named = health.form.engine if health.form else None
    if named and engines[0] and named != engines[0]:
        return [f"/health names {client.quote(named)}"]
    return []


def _row(figure: str, measured: _Measured, limits: Mapping[str, float]) -> Result | None:
    """Return one figure against its objectives; nothing when it was neither measured nor asked."""
    name = f"latency.{figure}"
    keys = objectives.keys(figure)
    wanted = {key: limits[f"{figure}_{key}"] for key in keys if f"{figure}_{key}" in limits}
    seen = measured.percentiles(figure)
    told = ", ".join(_spoken(key, limit) for key, limit in wanted.items())
    if not seen:
        if not wanted:
            return None
        return Result(name, Verdict.UNKNOWN, f"not measured, objective: {told}", _NEXT_STEP)
    if not wanted:
        return Result(name, Verdict.MET, "reported only", figures=seen)
    if all(seen[key] <= limit for key, limit in wanted.items()):
        return Result(name, Verdict.MET, f"objective: {told}", figures=seen)
    return Result(name, Verdict.NOT_MET, f"over its objective: {told}", _NEXT_STEP, figures=seen)


def _spoken(key: str, limit: float) -> str:
    """Return an objective as a person reads it: `p95 at most 400 ms`."""
    percentile, _, unit = key.partition("_")
    return f"{percentile} at most {limit:g} {unit}".rstrip()
