"""How a request that comes back to where it began is known: by the instances it came through.

It knows neither who sends the header nor who reads it.
"""

import re
from collections.abc import Iterable, Sequence

from service.errors import FieldError, LoopError

__all__ = ["HEADER", "came_through", "passed_on"]

HEADER = "X-Sesame-Instance"
MOST = 8  # a chain of more gateways than these is taken for a loop
ID = re.compile(r"[0-9a-f]{32}")


def came_through(values: Iterable[str], ours: str) -> tuple[str, ...]:
    """Read the instances that a request came through, oldest first.

    + values: of the header, each a list of ids with commas between them
    + ours: our own id

    Raises LoopError when ours is among them or they are too many, FieldError when one is no id.
    """
    ids = tuple(one.strip() for value in values for one in value.split(",") if one.strip())
    if ours in ids or len(ids) > MOST:
        raise LoopError(
            f"the request has come through {len(ids)} instances of this service"
            + (", and through this one before" if ours in ids else f"; at most {MOST} may pass it"),
            "SESAME_URL of one of them leads back here: give each the address of a server that"
            " speaks itself",
        )
    if not all(ID.fullmatch(one) for one in ids):
        raise FieldError(
            f"{HEADER} holds something else than ids of 32 hexadecimal digits",
            "leave the header out; it is for instances of this service",
        )
    return ids


def passed_on(via: Sequence[str], ours: str) -> str:
    """Write the header for the next server: all that the request came through, and ourselves."""
    return ",".join(dict.fromkeys((*via, ours)))
