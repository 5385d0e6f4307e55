"""Abbreviations, set phrases and Roman numbers as they are read aloud."""

import re

from service.text.numbers import cardinal, ordinal
from service.text.rule import Rule, any_of, rule
from service.text.vocabulary import (
    ABBREVIATIONS,
    COUNTED,
    ENDINGS,
    MONARCHS,
    NUMBERED,
    SET_PHRASES,
    TITLES,
)

__all__ = ["RULES"]

ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
# Up to 89. A lone I is a word, so only some words may stand before it.
TENS = r"(?:X{0,3}|XL|LX{0,3})"
ONES = r"(?:IX|IV|V?I{0,3})"
NUMERAL = rf"(?=[IVXL])(?!I\b){TENS}{ONES}"


def _monarch(found: re.Match[str]) -> str:
    return f"{found['name']} the {ordinal(str(_roman(found['numeral'])))}"


def _numbered(found: re.Match[str]) -> str:
    return f"{found['name']} {cardinal(str(_roman(found['numeral'])))}"


def _roman(numeral: str) -> int:
    values = [ROMAN[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(
        -value if value < after else value for value, after in zip(values, following, strict=True)
    )


def _ending(found: re.Match[str]) -> str:
    return ENDINGS[found["word"]] + ("" if found["stop"] is None else ".")


RULES: tuple[Rule, ...] = (
    rule(rf"(?<!\w)(?:{any_of(SET_PHRASES)})(?!\w)", lambda found: SET_PHRASES[found[0]]),
    rule(
        rf"(?<![\w.])(?:{any_of(COUNTED)})\.\s?(?=\d)",
        lambda found: COUNTED[found[0].rstrip(" .")] + " ",
    ),
    rule(
        rf"(?<![\w.])(?:{any_of(TITLES)})\.(?=\s?[A-Z])",
        lambda found: TITLES[found[0].rstrip(".")],
    ),
    rule(
        rf"(?<![\w.])(?i:{any_of(ABBREVIATIONS)})(?!\w)",
        lambda found: ABBREVIATIONS[found[0].lower()],
    ),
    rule(
        rf"(?<![\w.])(?P<word>{any_of(ENDINGS)})\.(?P<stop>$|(?=\s(?!(?:Co|Corp|Inc|Ltd)\b)[A-Z]))?",
        _ending,
    ),
    rule(r"(?<![\w.])Ph\.\s?D\b\.?", "PhD"),
    rule(
        r"(?<![\w.])(?![AP]\.M\.)((?:[A-Z]\.){2,8})(?P<stop>$)?",
        lambda found: found[1].replace(".", "") + ("" if found["stop"] is None else "."),
    ),
    rule(
        rf"\b(?P<name>{MONARCHS}) (?P<numeral>{NUMERAL})(?!\w)",
        _monarch,
    ),
    rule(rf"\b(?P<name>{NUMBERED}) (?P<numeral>{NUMERAL})(?!\w)", _numbered),
    rule(r"\b(?P<name>World War|Chapter|Act|Volume) (?P<numeral>I)(?!\w)", _numbered),
)
