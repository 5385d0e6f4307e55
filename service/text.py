"""From what a caller sends to what can be spoken: words and pauses. It knows no voices."""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import TextEmptyError, TextTooLongError

__all__ = ["LONGEST_PAUSE", "LONGEST_TEXT", "Pause", "Segment", "Words", "segments"]

LONGEST_TEXT = 5_000  # characters after trimming
LONGEST_PAUSE = 3.0  # seconds

# A tag is a name with `key=value` attributes only, so that `3 < 5`, `a <b and c> d` stay text.
# Possessive quantifiers: a hostile text costs linear time.
TAG = re.compile(
    r"""</?(?P<name>[a-z][a-z0-9:._-]*+)
        (?P<attributes>(?:\s++[a-z][a-z0-9:._-]*+\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>/]++))*+)
        \s*+/?>
      | <!--.*?-->
      | <\?[^<>]*\?>""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
PAUSE_NAME = re.compile(r"pause-(?P<time>[\d.]+m?s)", re.IGNORECASE)
PAUSE_ATTRIBUTE = re.compile(
    r"\b(?:duration|time)\s*=\s*[\"']?\s*(?P<time>[\d.]+\s*m?s)\b", re.IGNORECASE
)
TIME = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>ms|s)", re.IGNORECASE)
PAUSES = ("pause", "break")
SEPARATORS = ("p", "s", "br", "speak", *PAUSES)


@dataclass(frozen=True)
class Words:
    """Text to speak: one line, no mark-up, no control characters, at least one letter or digit."""

    text: str


@dataclass(frozen=True)
class Pause:
    """Silence of so many seconds, above 0 and at most LONGEST_PAUSE."""

    seconds: float


Segment = Words | Pause


def segments(text: str) -> tuple[Segment, ...]:
    """Turn a caller's text into what is spoken and what is silent, in order.

    Mark-up is never spoken: pauses become silence, other tags are dropped.
    Raises TextTooLongError above LONGEST_TEXT characters, TextEmptyError without any word.
    """
    trimmed = text.strip()
    if len(trimmed) > LONGEST_TEXT:
        raise TextTooLongError(
            f"text has {len(trimmed)} characters; at most {LONGEST_TEXT} can be spoken at once",
            "send it in several requests, cut between sentences",
        )
    found = tuple(_merge_pauses(_split(trimmed)))
    if not any(isinstance(segment, Words) for segment in found):
        raise TextEmptyError(
            "text holds nothing that can be spoken", "send at least one letter or digit"
        )
    return found


def _split(text: str) -> Iterator[Segment]:
    spoken, end = "", 0
    for tag in TAG.finditer(text):
        spoken += text[end : tag.start()]
        end = tag.end()
        pause = _pause_seconds(tag)
        if pause:
            yield from _words(spoken)
            yield Pause(pause)
            spoken = ""
        elif (tag["name"] or "").lower() in SEPARATORS:
            spoken += " "
    yield from _words(spoken + text[end:])


def _pause_seconds(tag: re.Match[str]) -> float:
    name, attributes = tag["name"] or "", tag["attributes"] or ""
    found = PAUSE_NAME.fullmatch(name)
    if name.lower() in PAUSES:
        found = PAUSE_ATTRIBUTE.search(attributes)
    time = TIME.fullmatch(found["time"]) if found else None
    if time is None:
        return 0
    seconds = float(time["number"]) / (1000 if time["unit"].lower() == "ms" else 1)
    return min(seconds, LONGEST_PAUSE)


def _words(raw: str) -> Iterator[Words]:
    plain = unicodedata.normalize("NFC", html.unescape(raw))
    printable = "".join(_printable(character) for character in plain)
    text = " ".join(printable.split())
    if any(character.isalnum() for character in text):
        yield Words(text)


def _printable(character: str) -> str:
    """Turn controls and lone surrogates into spaces; drop invisible format characters."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cs"):
        return " "
    return "" if category == "Cf" else character


def _merge_pauses(found: Iterator[Segment]) -> Iterator[Segment]:
    held = 0.0
    for segment in found:
        if isinstance(segment, Pause):
            held = min(held + segment.seconds, LONGEST_PAUSE)
            continue
        if held:
            yield Pause(held)
            held = 0.0
        yield segment
    if held:
        yield Pause(held)
