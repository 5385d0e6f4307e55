"""Which rungs the settings ask for, built: the gate through which text may leave this host.

It decides nothing about speech.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from pydantic import SecretStr

from service.engines.absent import Absent
from service.engines.basic import BasicVoice
from service.engines.engine import Engine
from service.engines.snapshot import find_snapshot
from service.errors import EngineError, SettingsError
from service.settings import ServiceSettings, close_hub
from service.voices import Personas

__all__ = ["build_engines"]


def build_engines(settings: ServiceSettings, personas: Personas, instance: str) -> list[Engine]:
    """Give the rungs that the settings ask for, in the order in which they are tried.

    + instance: our own name, by which a request that comes back to us is known

    Raises SettingsError when none of them could ever speak, or an operator's clip is unusable.
    """
    if "huggingface" not in settings.fallbacks:
        close_hub()
    if not settings.enabled:
        return []
    rungs: list[Engine] = []
    if settings.mode == "online":
        rungs.append(_remote(settings, personas, instance))
    elif settings.model:
        rungs.append(_csm(settings, personas))
    rungs += [CLOUDS[name](settings, personas) for name in settings.fallbacks]
    if settings.basic_voice:
        rungs.append(BasicVoice(personas.values()))
    if rungs and all(isinstance(rung, Absent) for rung in rungs):
        raise SettingsError(
            f"no rung could ever speak: {rungs[0].name}: {rungs[0].state.reason}; mend that, or set"
            " SESAME_BASIC_VOICE=true"
        )
    return rungs


def _csm(settings: ServiceSettings, personas: Personas) -> Engine:
    try:
        snapshot = find_snapshot(settings.model, settings.model_revision, settings.hf_home)
    except EngineError as error:
        return Absent("csm", f"{error}; {error.hint}")
    if find_spec("torch") is None:
        return Absent("csm", "this image has no PyTorch; deploy with a model, which brings it")
    from service.engines.csm import CsmVoice  # noqa: PLC0415 (the light image has no torch)

    return CsmVoice(
        snapshot,
        personas,
        device=settings.device,
        precision=settings.precision,
        streams=settings.max_streams,
    )


def _remote(settings: ServiceSettings, personas: Personas, instance: str) -> Engine:
    from service.engines.remote import RemoteVoice  # noqa: PLC0415 (see CLOUDS)

    return RemoteVoice(
        settings.url or "",
        _secret(settings.api_key),
        personas,
        form=settings.remote_form,
        substitute=settings.missing_voice == "substitute",
        instance=instance,
    )


def _huggingface(settings: ServiceSettings, personas: Personas) -> Engine:
    if settings.hf_hub_offline:
        return Absent("huggingface", "HF_HUB_OFFLINE=1; unset it, or remove HF_TOKEN")
    from service.engines.huggingface import HuggingFaceVoice  # noqa: PLC0415 (see CLOUDS)

    return HuggingFaceVoice(
        _secret(settings.hf_token) or "",
        settings.hf_model,
        settings.hf_provider,
        settings.huggingface_url,
        personas,
        substitute=settings.missing_voice == "substitute",
    )


def _elevenlabs(settings: ServiceSettings, personas: Personas) -> Engine:
    from service.engines.elevenlabs import ElevenLabsVoice  # noqa: PLC0415 (see CLOUDS)

    return ElevenLabsVoice(
        _secret(settings.elevenlabs_api_key) or "",
        settings.elevenlabs_model_id,
        settings.elevenlabs_voice_id,
        settings.elevenlabs_base_url,
        personas,
        substitute=settings.missing_voice == "substitute",
    )


# What can send text away is imported only where it may: nothing leaks through what is not there.
CLOUDS: Mapping[str, Callable[[ServiceSettings, Personas], Engine]] = {
    "huggingface": _huggingface,
    "elevenlabs": _elevenlabs,
}


def _secret(key: SecretStr | None) -> str | None:
    return None if key is None else key.get_secret_value()
