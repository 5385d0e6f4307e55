"""The one exception tree of the service.

It knows nothing of HTTP: api/refusals.py gives each error its status.

SesameError
├── SettingsError      the environment cannot be served: refused at start
├── RequestError       the caller can mend it
│   ├── NotJsonError
│   ├── BodyTooLargeError
│   ├── BodyTooSlowError
│   ├── EncodingError      it is compressed
│   ├── LengthError        it is said to end in two ways
│   ├── ContentTypeError
│   ├── ServerKeyError
│   ├── HostRefusedError   it came under a name that is not ours
│   ├── OriginRefusedError a page that nobody listed sent it
│   ├── FieldError
│   ├── TextEmptyError
│   ├── TextTooLongError
│   ├── VoiceUnknownError
│   ├── AudioTooLongError
│   ├── AudioGoneError     what was kept for a while is kept no longer
│   ├── DrillRunningError  another drill has not ended
│   └── LoopError          the request has come back to us
├── ClientLeftError           nobody waits for the answer any more
├── ClientStalledError        somebody is there and does not read the answer
├── SpeechError          the request was good, and no speech came of it
│   ├── QueueFullError        too many wait already
│   ├── VoiceOfflineError     every rung failed, or there is none
│   ├── ShuttingDownError     it came, or was still being spoken, when the service had to end
│   ├── DeadlineError no rung gave a verified block in time
│   └── SpeechCutOffError     the rung that had begun to speak did not finish
└── RungError           one rung failed; the chain goes on to the next
    ├── EngineError     the engine said so
    └── AudioError    the engine handed over something that is not speech
"""

__all__ = [
    "AudioError",
    "AudioGoneError",
    "AudioTooLongError",
    "BodyTooLargeError",
    "BodyTooSlowError",
    "ClientLeftError",
    "ClientStalledError",
    "ContentTypeError",
    "DeadlineError",
    "DrillRunningError",
    "EncodingError",
    "EngineError",
    "FieldError",
    "HostRefusedError",
    "LengthError",
    "LoopError",
    "NotJsonError",
    "OriginRefusedError",
    "QueueFullError",
    "RequestError",
    "RungError",
    "ServerKeyError",
    "SesameError",
    "SettingsError",
    "ShuttingDownError",
    "SpeechCutOffError",
    "SpeechError",
    "TextEmptyError",
    "TextTooLongError",
    "VoiceOfflineError",
    "VoiceUnknownError",
]


class SesameError(Exception):
    """What happened, and a hint at what to do next. Neither ever holds request text or a secret."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(SesameError):
    """The environment cannot be served. The message holds one line a problem."""


class RequestError(SesameError):
    """The request cannot be served as it is; the caller can mend it."""


class NotJsonError(RequestError):
    """The body cannot be read as JSON."""


class BodyTooLargeError(RequestError):
    """The body is larger than the service reads."""


class EncodingError(RequestError):
    """The body is compressed, or encoded otherwise."""


class LengthError(RequestError):
    """The body is said to end in two ways."""


class BodyTooSlowError(RequestError):
    """The body did not come in time."""


class ContentTypeError(RequestError):
    """The content type names something other than JSON."""


class ServerKeyError(RequestError):
    """A server key is demanded, and none or a wrong one came."""


class HostRefusedError(RequestError):
    """The Host header names somebody else."""


class OriginRefusedError(RequestError):
    """A browser sent it for a page that may not ask."""


class FieldError(RequestError):
    """A field is missing, of the wrong type or out of its range."""


class TextEmptyError(RequestError):
    """The text holds nothing that can be spoken."""


class TextTooLongError(RequestError):
    """The text is longer than one request may be."""


class VoiceUnknownError(RequestError):
    """The name belongs to no persona and is no alias of one."""


class AudioTooLongError(RequestError):
    """The answer would be longer than one request may ask for."""


class AudioGoneError(RequestError):
    """There is no audio behind an address, or no longer."""


class DrillRunningError(RequestError):
    """A drill is being made, and there is one at a time."""


class LoopError(RequestError):
    """The request has come back to us through our own primary voice."""


class ClientLeftError(SesameError):
    """The client closed the connection before it had its answer."""


class ClientStalledError(SesameError):
    """The client keeps the connection open and reads nothing of its answer."""


class SpeechError(SesameError):
    """No speech came of a good request.

    + attempts: what each rung did: `basic=failed`
    + retry_after: seconds after which it is worth trying again, where that is known
    """

    def __init__(
        self, message: str, hint: str = "", *, attempts: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint)
        self.attempts = attempts
        self.retry_after = retry_after


class QueueFullError(SpeechError):
    """As many wait for the voice as may."""


class VoiceOfflineError(SpeechError):
    """Every rung failed, or there is none."""


class ShuttingDownError(SpeechError):
    """The service is coming to its end."""


class DeadlineError(SpeechError):
    """No rung gave a verified block before the deadline."""


class SpeechCutOffError(SpeechError):
    """The rung that had begun to speak stalled or failed before its end."""


class RungError(SesameError):
    """One rung failed. Its words never hold request text, a key or the body of an answer.

    + failure: its class, a name of `service.engines.failures.FAILURES`
    + outcome: the word for it in `X-Speech-Attempts`; by default the name of its class
    + retry_after: seconds from now after which the rung may be asked again, where it said so
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        failure: str = "failed",
        outcome: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.failure = failure
        self.outcome = outcome or failure
        self.retry_after = retry_after


class EngineError(RungError):
    """The engine could not speak."""


class AudioError(RungError):
    """The engine handed over something that is not speech: silence, NaN, far too loud."""

    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message, failure="bad_audio", outcome=outcome)
