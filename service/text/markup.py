"""Mark-up to words and pauses: SSML, the tags of Maya's backend, Markdown. It knows no voices."""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from service.errors import TextEmptyError, TextTooLongError
from service.text.markdown import plain

__all__ = ["LONGEST_PAUSE", "LONGEST_TEXT", "Pause", "Segment", "Words", "prose", "segments"]

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
STRENGTH_ATTRIBUTE = re.compile(r"\bstrength\s*=\s*[\"']?\s*(?P<strength>[a-z-]+)", re.IGNORECASE)
STRENGTHS = {
    "none": 0.0,
    "x-weak": 0.25,
    "weak": 0.5,
    "medium": 0.75,
    "strong": 1.0,
    "x-strong": 1.25,
}
"""Seconds of silence. SSML 1.1 names the strengths; Azure's speech service gives the seconds."""
PAUSES = ("pause", "break")
SEPARATORS = ("p", "s", "br", "speak", *PAUSES)

SUBSTITUTED = re.compile(
    r"""<sub\s++alias\s*+=\s*+(?P<quote>["'])(?P<alias>[^"'<>]*+)(?P=quote)\s*+>[^<]*+</sub\s*+>""",
    re.IGNORECASE,
)
SAID_AS = re.compile(
    r"""<say-as\s++interpret-as\s*+=\s*+["']?(?P<kind>[a-z-]++)["']?(?:\s[^<>]*+)?>
        (?P<words>[^<]*+)</say-as\s*+>""",
    re.IGNORECASE | re.VERBOSE,
)
SPELLED = ("characters", "digits", "spell-out")

# Emoji that Unicode counts among digits, letters and punctuation: keycaps, the i of information.
LETTERED_EMOJI = re.compile(r"[0-9#*]\ufe0f?\u20e3|[©®™]\ufe0f|[\u2139\u3030\u303d]\ufe0f?")
EMOTICON = re.compile(r"(?<!\S)(?:[:;][-o^']?[()\[\]DPp/\\|*O]|<3|[xX]D|\^_?\^)(?!\w)")


@dataclass(frozen=True)
class Words:
    """Text to speak: one line, no mark-up, no control characters, at least one letter or digit.

    Pictures may be among the words; a text of nothing else is no words.
    """

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
    found = tuple(_merge_pauses(_split(_interpret(trimmed))))
    if not any(isinstance(segment, Words) for segment in found):
        raise TextEmptyError(
            "text holds nothing that can be spoken", "send at least one letter or digit"
        )
    return found


def prose(spoken: Iterable[Segment]) -> str:
    """Write segments as one text, for a voice elsewhere; a pause in it becomes an ellipsis."""
    words = [segment.text for segment in spoken if isinstance(segment, Words)]
    return " … ".join(words)


def _interpret(text: str) -> str:
    """Put in place of `sub` its alias, of `say-as` its words, written as they are to be said."""
    return SAID_AS.sub(_say_as, SUBSTITUTED.sub(lambda found: found["alias"], text))


def _say_as(found: re.Match[str]) -> str:
    if found["kind"].lower() in SPELLED:
        return " ".join(html.unescape(found["words"]).replace(" ", ""))
    return found["words"]


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
        if not found:
            return _strength_seconds(attributes)
    time = TIME.fullmatch(found["time"]) if found else None
    if time is None:
        return 0
    seconds = float(time["number"]) / (1000 if time["unit"].lower() == "ms" else 1)
    return min(seconds, LONGEST_PAUSE)


def _strength_seconds(attributes: str) -> float:
    """Read a break without a time. One without any attribute is of medium strength (SSML 1.1)."""
    if not attributes:
        return STRENGTHS["medium"]
    found = STRENGTH_ATTRIBUTE.search(attributes)
    return STRENGTHS.get(found["strength"].lower(), 0) if found else 0


def _words(raw: str) -> Iterator[Words]:
    composed = LETTERED_EMOJI.sub("", unicodedata.normalize("NFC", html.unescape(raw)))
    printable = "".join(_printable(character) for character in composed)
    text = EMOTICON.sub("", " ".join(plain(printable).split())).strip()
    if any(character.isalnum() for character in text):
        yield Words(text)


def _printable(character: str) -> str:
    """Turn controls and lone surrogates into spaces; drop invisible format characters."""
    if character == "\n":
        return character
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
