"""The host that builds for the others, found while a host that takes from it is checked.

Reads both hosts and changes neither.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from gevent.event import AsyncResult
from pyinfra import state
from pyinfra.api import Host, State
from pyinfra.context import ctx_host, ctx_state

from provision import facts
from provision._docker import Refusal
from provision._handing import Seed
from provision._plan import HostPlan
from provision.settings import DeploySettings

Surveyed = tuple[HostPlan | None, list[Refusal]]
Survey = Callable[[DeploySettings], Surveyed]

_surveys: WeakKeyDictionary[State, dict[str, AsyncResult]] = WeakKeyDictionary()


def survey_once(survey: Survey, of: Host, settings: DeploySettings) -> Surveyed:
    """Survey a host once a run, as itself, whoever asks; those who ask meanwhile wait.

    Args:
        survey: reads the host and returns its plan, or None and why there is none.
        of: the host.
        settings: its own.
    """
    known = _surveys.setdefault(ctx_state.get(), {})
    if of.name not in known:
        result = known[of.name] = AsyncResult()
        asking = ctx_host.get()
        ctx_host.set(of)
        try:
            result.set(survey(settings))
        except BaseException as error:
            result.set_exception(error)
            raise
        finally:
            ctx_host.set(asking)
    surveyed: Surveyed = known[of.name].get()
    return surveyed


def find_seed(name: str, survey: Survey) -> Seed | Refusal:
    """Return the host that the image and the model come from, or say why it cannot hand them over.

    Args:
        name: the setting ``seed_host``.
        survey: how a host is surveyed.
    """
    hosts = state.inventory.hosts
    if name not in hosts:
        return Refusal(
            f"seed_host={name} is no host of this inventory", f"give one of {', '.join(hosts)}"
        )
    seed = hosts[name]
    if not seed.connected and seed not in state.failed_hosts:
        seed.connect(reason="its image is handed over")
    if not seed.connected:
        return Refusal(
            f"seed_host={name}, which builds for this host, cannot be reached",
            "mend its connection and deploy again, or give this host no seed_host",
        )
    settings = DeploySettings.of(seed)
    if settings.seed_host != name:
        return Refusal(
            f"seed_host={name}, but that host itself has seed_host={settings.seed_host}",
            f"give it seed_host={name} too: every host names the one that builds, itself included",
        )
    plan, _ = survey_once(survey, seed, settings)
    if plan is None:
        return Refusal(
            f"seed_host={name}, which builds for this host, is refused itself",
            "mend what is said about it and deploy again, or give this host no seed_host",
        )
    if not state.is_host_in_limit(seed) and not seed.get_fact(facts.Image, tag=plan.image):
        return Refusal(
            f"seed_host={name} has no image of this version yet, and is not part of this run",
            f"add --limit {name}, or leave --limit out",
        )
    return Seed(name, plan.architecture, plan.base_image, plan.variant, plan.image, plan.engine)
