"""Whether a token may have a model from a hub, asked from the deploying machine.

The token is shown to the hub itself and to nobody that it points to. Knows nothing of pyinfra.
"""

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus

from provision._docker import Refusal
from provision._model import HUB, Hub

TIMEOUT_SECONDS = 15
ACCEPT = "open https://huggingface.co/{repository}, sign in, accept the conditions"
TOKEN_PAGE = "https://huggingface.co/settings/tokens"  # noqa: S105 (an address)


@dataclass(frozen=True, slots=True)
class Unclear:
    """The hub could not be asked from here, which says nothing of the host."""

    why: str


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the token to another host, and is answer enough."""

    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


@cache
def judge_access(hub: Hub, path: str, token: str | None) -> Refusal | Unclear | None:
    """Return None when the hub hands out a model, or why not.

    Asked once a run, by the head of one file.

    Args:
        hub: where the model is.
        path: of a part of the weights: small files may be shown to who may not have the model.
        token: what the hub is shown, if anything.
    """
    request = urllib.request.Request(hub.url_of(path), method="HEAD")  # noqa: S310 (settings allow http and https alone)
    request.add_header("User-Agent", "sesame-csm-deploy")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        urllib.request.build_opener(_StayHere).open(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        return _judge_status(error.code, hub, token)
    except (OSError, http.client.HTTPException) as error:
        return Unclear(f"{hub.endpoint} does not answer here: {getattr(error, 'reason', error)}")
    return None


def _judge_status(status: int, hub: Hub, token: str | None) -> Refusal | Unclear | None:
    asked = f"{hub.endpoint} answers {status} for {hub.repository}"
    accept = ACCEPT.format(repository=hub.repository)
    if HTTPStatus.MULTIPLE_CHOICES <= status < 400:
        return None
    if status == HTTPStatus.UNAUTHORIZED and not token:
        return Refusal(
            f"{asked}: only who has accepted its conditions may have it, and there is no token",
            f"{accept}, make a token that may read at {TOKEN_PAGE}, and give model_token=env:NAME",
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return Refusal(
            f"{asked}: the token is wrong or has expired",
            f"make a new one that may read at {TOKEN_PAGE}, and give it in model_token",
        )
    if status == HTTPStatus.FORBIDDEN:
        return Refusal(
            f"{asked}: the token's owner has not accepted the model's conditions, or the token may "
            "not read gated repositories",
            f"{accept} with the account that the token belongs to; a fine-grained token needs the "
            "right to read public gated repositories",
        )
    if status == HTTPStatus.NOT_FOUND:
        return Refusal(
            f"{asked}: it has no such file at {hub.revision}",
            "compare model_manifest with the repository"
            if hub.endpoint == HUB
            else f"check that model_mirror={hub.endpoint} speaks the hub's protocol and holds it",
        )
    return Unclear(asked)
