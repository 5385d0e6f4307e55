import pytest

from service.engines.breaker import FIRST_PAUSE, JITTER, LONGEST_PAUSE, WINDOW, Breaker
from service.engines.budget import RetryBudget
from service.engines.failures import FAILURES


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def state(breaker: Breaker) -> str:
    return breaker.state


def fail(
    breaker: Breaker,
    failure: str = "transient",
    *,
    times: int = 1,
    seconds: float = 0.01,
    retry_after: float | None = None,
) -> None:
    for _ in range(times):
        assert breaker.take()
        breaker.failed(FAILURES[failure], failure, seconds=seconds, retry_after=retry_after)


def speak(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.take()
        breaker.spoke()


def probed_well(breaker: Breaker, clock: Clock) -> None:
    clock.now += LONGEST_PAUSE * 2
    breaker.begin_probe()
    breaker.probed(None)


def test_it_opens_after_three_quick_failures(breaker: Breaker) -> None:
    fail(breaker, times=2)
    assert state(breaker) == "closed"
    fail(breaker)
    assert (state(breaker), breaker.admits, breaker.reason) == ("open", False, "transient")


@pytest.mark.parametrize("failure", ["timeout", "stalled"])
def test_one_failure_that_cost_a_listener_time_opens_it(breaker: Breaker, failure: str) -> None:
    fail(breaker, failure)
    assert state(breaker) == "open"


def test_a_quick_kind_of_failure_that_took_long_counts_as_slow(breaker: Breaker) -> None:
    fail(breaker, seconds=3)
    assert state(breaker) == "open"


def test_many_successes_outweigh_a_failure(breaker: Breaker) -> None:
    speak(breaker, 10)
    fail(breaker, "timeout", times=3)
    assert state(breaker) == "closed"
    fail(breaker, "timeout")
    assert state(breaker) == "open"


def test_what_is_long_past_is_forgotten(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, times=2)
    clock.now += WINDOW + 1
    fail(breaker, times=2)
    assert state(breaker) == "closed"


@pytest.mark.parametrize("failure", ["unspeakable", "no_voice", "queue_full"])
def test_what_is_not_the_rungs_fault_does_not_count(breaker: Breaker, failure: str) -> None:
    fail(breaker, failure, times=9)
    assert state(breaker) == "closed"


@pytest.mark.parametrize("failure", ["credentials", "quota", "payment", "wrong_address"])
def test_what_time_does_not_mend_latches_it(breaker: Breaker, clock: Clock, failure: str) -> None:
    fail(breaker, failure)
    clock.now += 1e6
    assert (state(breaker), breaker.probe_in, breaker.opens_in) == ("latched", None, None)


def test_a_quota_that_resets_is_probed_then(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "quota", retry_after=3_600)
    assert (state(breaker), breaker.probe_in) == ("latched", 3_600)
    clock.now += 3_600
    assert breaker.probe_in == 0


def test_who_is_busy_is_left_alone_for_as_long_as_it_said(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "busy", retry_after=7)
    assert (state(breaker), breaker.opens_in, breaker.probe_in) == ("open", 7, None)
    clock.now += 7
    assert breaker.take()


def test_one_probe_at_a_time(breaker: Breaker) -> None:
    fail(breaker, "timeout")
    assert breaker.probe_in is not None
    breaker.begin_probe()
    assert state(breaker) == "half_open"
    assert not breaker.take()
    assert breaker.probe_in is None


def test_the_pause_doubles_up_to_a_minute(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "timeout")
    for number in range(10):
        pause = breaker.probe_in
        assert pause is not None
        assert pause == pytest.approx(min(FIRST_PAUSE * 2**number, LONGEST_PAUSE), rel=JITTER)
        clock.now += pause
        breaker.begin_probe()
        breaker.probed(FAILURES["transient"], "still down")


def test_after_a_good_probe_one_call_tries_it_out(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "timeout")
    probed_well(breaker, clock)
    assert breaker.take()
    assert not breaker.take()
    breaker.spoke()
    assert breaker.take()
    assert breaker.take()


def test_on_trial_one_quick_failure_opens_it_for_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "timeout")
    probed_well(breaker, clock)
    fail(breaker)
    assert breaker.probe_in == pytest.approx(2 * FIRST_PAUSE, rel=JITTER)


def test_who_leaves_on_trial_leaves_room_for_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, "timeout")
    probed_well(breaker, clock)
    assert breaker.take()
    breaker.left()
    assert breaker.take()


def test_calls_under_way_when_it_opens_do_not_lengthen_the_pause(breaker: Breaker) -> None:
    for _ in range(20):
        assert breaker.take()
    for _ in range(20):
        breaker.failed(FAILURES["timeout"], "late", seconds=4)
    assert breaker.probe_in == pytest.approx(FIRST_PAUSE, rel=JITTER)


def test_nothing_but_settings_or_time_unlatches_it(breaker: Breaker) -> None:
    assert breaker.take()
    assert breaker.take()
    breaker.failed(FAILURES["credentials"], "the key is refused", seconds=0.1)
    breaker.failed(FAILURES["busy"], "too many", seconds=0.1, retry_after=1)
    assert (state(breaker), breaker.reason) == ("latched", "the key is refused")


def test_second_tries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(share=0.1, most=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(11):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]
