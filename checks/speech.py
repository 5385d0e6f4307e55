"""Whether every persona is spoken as a whole, plausible, audible WAV, by an engine that is ready.

Knows the guide's route and what speech measures like; understands no word of it.
"""

import asyncio
import json
from dataclasses import dataclass

from checks.client import Answer, Client
from checks.generate import generate, refusal
from checks.health import Health, observe
from checks.report import CheckError, Result, Verdict
from checks.riff import WaveError, read_wave
from checks.waveform import measure

PHRASE = "This is a short test of the voice."
"""Short, since a cloud voice may be the one that is paid to say it; all words are common."""

SECONDS_PER_WORD = (0.12, 0.75)
"""500 and 80 words a minute: twice the upper and half the lower rates of natural English speech,
which run from about 150 to 250 (Tauroza and Allison, "Speech rates in British English", 1990)."""

PAUSE_SECONDS = 2.0
"""Silence that may lead and trail, on top of the words."""

RATES = (24000, 16000, 44100)
"""In Hz: the first for every persona (the default), the others for the first persona only: what
Maya's client A asks for, and one that is no simple ratio of the default."""

CONCURRENCY = 4
"""Requests at a time: an eighth of the service's default queue, so that others still get in. A
service that speaks slower than sound is asked for one thing at a time, as a listener would."""

_LOG_HINT = "Look into the service's log: docker logs <container>."


@dataclass(frozen=True)
class _Case:
    name: str
    voice: str
    rate: int


@dataclass(frozen=True)
class _Outcome:
    """A case's result, and the engine that spoke, empty when none said so."""

    result: Result
    engine: str = ""


async def check(client: Client, health: Health) -> list[Result]:
    """Let every persona speak, and hold the engines that spoke against `health`."""
    factor = (health.form and health.form.real_time_factor) or 0.0
    permits = asyncio.Semaphore(CONCURRENCY if factor <= 1 else 1)

    async def spoken(case: _Case) -> _Outcome:
        async with permits:
            return await _speak(client, health, case)

    outcomes = await asyncio.gather(*map(spoken, _cases(client, health.voices)))
    agreement = await _check_engines(client, health, outcomes)
    return [*(outcome.result for outcome in outcomes), agreement]


def _cases(client: Client, voices: list[str]) -> list[_Case]:
    first_rate, *other_rates = RATES
    cases = [_Case(f"speech.{client.quote(voice)}", voice, first_rate) for voice in voices]
    cases += [_Case(f"{cases[0].name}.{rate}", voices[0], rate) for rate in other_rates]
    return cases


async def _speak(client: Client, health: Health, case: _Case) -> _Outcome:
    body = {"text": PHRASE, "voice": case.voice, "format": "wav", "sample_rate": case.rate}
    try:
        answer = await generate(client, json.dumps(body).encode())
        if answer.status != 200:
            raise refusal(client, health, answer)
    except CheckError as error:
        return _Outcome(Result.of_error(case.name, error))
    engine = client.quote(answer.headers.get("X-Speech-Engine", ""))
    audio_problems, heard = _hear(answer, case.rate)
    result = Result.of_problems(
        case.name,
        [client.quote(problem) for problem in _header_problems(answer, case) + audio_problems],
        met=f"{heard}, engine {engine}",
        next_step=_LOG_HINT,
        timing=answer.timing,
    )
    return _Outcome(result, engine)


def _header_problems(answer: Answer, case: _Case) -> list[str]:
    found = []
    voice = answer.headers.get("X-Speech-Voice")
    if voice != case.voice:
        found.append(f"X-Speech-Voice is {voice or 'missing'}, expected {case.voice}")
    if not answer.headers.get("X-Speech-Engine"):
        found.append("X-Speech-Engine is missing")
    if not answer.media_type.startswith("audio/"):
        found.append(f"Content-Type is {answer.media_type or 'missing'}, expected audio/wav")
    return found


def _hear(answer: Answer, rate: int) -> tuple[list[str], str]:
    """Return what is wrong with the audio, and what it is in a few words."""
    try:
        wave = read_wave(answer.body)
    except WaveError as error:
        return [str(error)], ""
    measured = measure(wave)
    found = [] if wave.rate == rate else [f"{wave.rate} Hz, expected {rate} Hz"]
    impossible = measured.problems()
    found += impossible
    words = len(PHRASE.split())
    shortest = SECONDS_PER_WORD[0] * words
    longest = SECONDS_PER_WORD[1] * words + PAUSE_SECONDS
    # What is spoken is only worth measuring when there is speech.
    if not impossible and measured.span < shortest:
        found.append(f"{measured.span:.2f} s of speech is too short for {words} words")
    if wave.seconds > longest:
        found.append(f"{wave.seconds:.1f} s is too long for {words} words")
    return found, f"{wave.seconds:.2f} s at {wave.rate} Hz, {measured.level:.0f} dBFS"


async def _check_engines(client: Client, before: Health, outcomes: list[_Outcome]) -> Result:
    """Hold `/health`, read before and after, against who spoke: a rung may fail in between."""
    name = "health.engine"
    heard = {outcome.engine for outcome in outcomes if outcome.engine}
    try:
        after = await observe(client)
    except CheckError as error:
        return Result.of_error(name, error)
    if before.form is None or after.form is None:
        return Result(
            name, Verdict.UNKNOWN, "/health does not say which are ready", "Mend health.form first."
        )
    if not heard:
        return _silent_result(name, after, outcomes)
    problems = []
    not_ready = heard - {*before.ready, *after.ready}
    if not_ready:
        problems.append(
            f"spoke, and /health does not call it ready: {', '.join(sorted(not_ready))}"
        )
    named = {str(form.engine) for form in (before.form, after.form)}
    if after.status in {"healthy", "degraded"} and not named & heard:
        problems.append(
            f"/health names {client.quote(', '.join(sorted(named)))}, "
            f"and every answer was spoken by {', '.join(sorted(heard))}"
        )
    return Result.of_problems(
        name,
        problems,
        met=f"spoken by {', '.join(sorted(heard))}, which /health calls ready",
        next_step=_LOG_HINT,
        timing=None,
    )


def _silent_result(name: str, health: Health, outcomes: list[_Outcome]) -> Result:
    if any(outcome.result.verdict is Verdict.UNKNOWN for outcome in outcomes):
        return Result(name, Verdict.UNKNOWN, "nothing was spoken", "See the checks of speech.")
    if health.status in {"healthy", "degraded"}:
        return Result(
            name,
            Verdict.NOT_MET,
            f"/health says {health.status}, yet no engine showed itself in an answer",
            _LOG_HINT,
        )
    return Result(name, Verdict.MET, f"/health says {health.status}, and nothing was spoken")
