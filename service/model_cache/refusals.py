"""Every way in which a model is not to be had: what happened and what to do, as a table.

It knows no hub and no folder; who notices what happened names the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["REFUSALS", "Refusal", "RefusedError"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way. `{words}` in it are filled by who refuses.

    again: whether it may go away by itself, so that trying later is worth it
    """

    what: str
    next_step: str
    again: bool = False


TOKENS = "https://huggingface.co/settings/tokens"
NETWORK = "check this host's network, its proxy settings and the address, then run it again"
LATER = "run it again later; what has arrived is kept"
CHOOSE = "name a repository in the layout of sesame/csm-1b for transformers"
REPORT = "run it again; if it stays, take another mirror, or the Hub itself"

REFUSALS: Mapping[str, Refusal] = {
    # Who may have it.
    "no_token": Refusal(
        "{repository} is gated, and no token was given",
        "accept the licence at https://huggingface.co/{repository}, create a read token at "
        + TOKENS
        + ", and give it",
    ),
    "no_licence": Refusal(
        "the token is good, but its account has not accepted the licence of {repository}",
        "log in with that account, accept at https://huggingface.co/{repository}, then run it"
        " again with the same token",
    ),
    "licence_pending": Refusal(
        "the request for {repository} waits for its authors",
        "wait until https://huggingface.co/{repository} says that access is granted, then run it"
        " again",
    ),
    "licence_denied": Refusal(
        "the authors of {repository} have rejected this account's request",
        "use the token of another account, or bring the files from a folder",
    ),
    "wrong_token": Refusal(
        "{host} does not know the token",
        "copy it again, whole, or create a new read token at " + TOKENS,
    ),
    "expired_token": Refusal("the token has expired", "create a new read token at " + TOKENS),
    "token_right": Refusal(
        "the token is fine-grained and may not read gated repositories",
        "edit it at " + TOKENS + ': allow "Read access to contents of all public gated repos you'
        ' can access"',
    ),
    "forbidden": Refusal(
        "{host} forbids {path} (403)",
        "see at "
        + TOKENS
        + " what the token may do; create a read token of the account that accepted the"
        " licence",
    ),
    "not_a_token": Refusal(
        "the token is none of Hugging Face's: it does not begin with hf_",
        "copy it whole from " + TOKENS + "; it was sent nowhere",
    ),
    "disabled": Refusal("access to {repository} is disabled by {host}", CHOOSE),
    # What there is.
    "no_repository": Refusal(
        "{host} has no repository {repository}, or shows it to nobody without a right to it",
        "check the name; for a private one give a token that may read it",
    ),
    "no_revision": Refusal(
        "{repository} has no revision {revision}",
        "check the commit or branch at https://huggingface.co/{repository}/commits/main",
    ),
    "no_file": Refusal(
        "{repository} has no {path} at {revision}", "check the manifest, the commit and the mirror"
    ),
    "not_csm": Refusal(
        "{repository} is no CSM: its config.json is of a model of the type {found}", CHOOSE
    ),
    "original_format": Refusal(
        "{repository} has CSM only in its original format at {revision}",
        "name a revision that holds transformers.safetensors.index.json",
    ),
    "pickles": Refusal(
        "{repository} has its weights only as a pickle, which runs code when it is read: {found}",
        "name a repository with safetensors files",
    ),
    "incomplete": Refusal("{repository} is no whole CSM checkpoint: {found}", CHOOSE),
    # What came.
    "longer": Refusal(
        "{path} is longer at {host} than its manifest says: {found}, not {size} bytes", REPORT
    ),
    "shorter": Refusal(
        "{path} is shorter at {host} than its manifest says: {found}, not {size} bytes", REPORT
    ),
    "wrong_hash": Refusal(
        "{path} came whole from {host}, but its SHA-256 is not the manifest's: {found}", REPORT
    ),
    "changed": Refusal(
        "{path} is another file at {host} than its manifest says: its digest is {found}", REPORT
    ),
    "compressed": Refusal("{host} compresses {path} unasked", "take another mirror"),
    "range": Refusal("{host} refuses to send {path} from byte {at} (416)", REPORT),
    "not_a_hub": Refusal(
        "{host} does not answer as a Hub does: {found}",
        "check the endpoint; it is the address before /api/models, such as https://huggingface.co",
    ),
    "redirects": Refusal("{host} redirects in circles", "check the endpoint, and a proxy"),
    "unexpected": Refusal("{host} refused {path} with status {found}", REPORT),
    # What may go away by itself.
    "unknown_host": Refusal("{host} is a name that is not known here", NETWORK, again=True),
    "connection_refused": Refusal("{host} refuses the connection", NETWORK, again=True),
    "unreachable": Refusal("{host} cannot be reached", NETWORK, again=True),
    "timeout": Refusal("{host} did not answer in time", NETWORK, again=True),
    "proxy": Refusal(
        "{host} cannot be reached through the proxy",
        "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, then run it again",
        again=True,
    ),
    "cut": Refusal("{host} cut {path} off at byte {at}", LATER, again=True),
    "stalled": Refusal("{host} went silent in the middle of {path}", LATER, again=True),
    "too_many": Refusal(
        "{host} has had too many requests from this address or account (429)",
        "wait {seconds} s, then run it again; what has arrived is kept",
        again=True,
    ),
    "failing": Refusal("{host} has a fault of its own ({found})", LATER, again=True),
    "store": Refusal(
        "{host} passed {path} on to {store}, which refused it ({found})",
        "let this host reach {store}, or run it again later",
        again=True,
    ),
    # This host.
    "tls": Refusal(
        "{host} cannot be trusted: TLS failed ({found})",
        "check the clock, a proxy and the certificates of this host",
    ),
    "offline": Refusal(
        "HF_HUB_OFFLINE is set, and the hub would have to be asked",
        "unset HF_HUB_OFFLINE, or bring the files from a folder",
    ),
    "disk_full": Refusal(
        "{folder} has {free} MiB free; what is missing takes {needed} MiB, with {headroom} MiB to"
        " spare",
        "free {short} MiB there, then run it again",
    ),
    "no_space": Refusal(
        "the disk ran full at byte {at} of {path}",
        "free {needed} MiB at {folder}, then run it again; what has arrived is kept",
    ),
    "too_large": Refusal(
        "{folder} takes no file as large as {path}: it ended at byte {at} of {size}",
        "use a file system without that limit (FAT ends at 4 GiB), or lift the limit on file"
        " sizes, then run it again",
    ),
    "read_only": Refusal(
        "{folder} is read-only", "mount it writable, or fill it where it can be written"
    ),
    "no_right": Refusal(
        "user {user} may not write {folder}",
        "run it as root, or give the folder to that user: chown -R {user} FOLDER",
    ),
    "not_a_folder": Refusal("{folder} is no folder", "give a folder, or a path that is free"),
    "disk": Refusal("{path} cannot be read or written: {found}", "check the disk: dmesg"),
}


class RefusedError(Exception):
    """A model that is not to be had now. Its text never holds a token or an address's query.

    kind: the row of `REFUSALS`
    seconds: after which the hub wants to be asked again, where it said so
    """

    def __init__(self, kind: str, **found: object) -> None:
        row = REFUSALS[kind]
        seconds = found.get("seconds")
        self.kind = kind
        self.again = row.again
        self.seconds = seconds if isinstance(seconds, float) else None
        words = {**found, "seconds": "60" if self.seconds is None else f"{self.seconds:.0f}"}
        self.what = row.what.format_map(words)
        self.next_step = row.next_step.format_map(words)
        super().__init__(f"{self.what}; {self.next_step}")
