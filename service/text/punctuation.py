"""Symbols as words, and everything else that is not a word as the punctuation of speech."""

import re
import unicodedata

from service.text.rule import Rule, any_of, rule
from service.text.vocabulary import SYMBOLS

__all__ = ["FOOTNOTE", "QUOTATION", "RULES", "tidy"]

KEPT = frozenset(" .,!?;:'-")
STRENGTH = "?!.:;,"  # of several marks in a row the strongest stays
OPENING, CLOSING = r"[(\[{<«\u2039]", r"[)\]}>»\u203a]"
OPERATORS = {"->": "→", "=>": "⇒", "!=": "≠", "<=": "≤", ">=": "≥", "+/-": "±"}
OTHER_SCRIPTS = "\u0250"  # from here on letters are not Latin, and their punctuation is their own
GENERAL_PUNCTUATION = range(0x2000, 0x2070)


def _ellipsis(found: re.Match[str]) -> str:
    after = found.string[found.end() :].lstrip()[:1]
    return ", " if after.islower() else ". "


QUOTATION = rule(r"\"", "")
FOOTNOTE = rule(r"(?<=[\w.,;:!?]) ?\[\d{1,3}\](?!\w)", "")

RULES: tuple[Rule, ...] = (
    rule(r"(?<=\w)\((e?s)\)", r"\1"),
    rule(any_of(OPERATORS), lambda found: OPERATORS[found[0]]),
    rule(r"(?<=\w) < (?=\w)", " is less than "),
    rule(r"(?<=\w) > (?=\w)", " is greater than "),
    rule(rf"\s?({any_of(SYMBOLS)})(?:\1)*+\s?", lambda found: f" {SYMBOLS[found[1]]} "),
    rule(r"(?<!\w)'([^']{1,200})'(?!\w)", r"\1"),
    rule(r"['\u2019](?=s\b)", "'"),
    rule(r"(?:\.\s?){2,}|…", _ellipsis),
    rule(rf"(?<=[^\s.!?;:,])\s?{OPENING}++\s?", ", "),
    rule(rf"\s?{CLOSING}++(?=\s?\w)", ", "),
    rule(r"\s?[\u2014\u2015|•·]++\s?|\s[-\u2013]{1,3}\s|(?<=\w)--++(?=\w)", ", "),
    rule(r"\u2013", "-"),
    rule(r"(?<=\w)\s?/\s?(?=\w)", " slash "),
    rule(r"(?<![/\w])/(?=\w)", "slash "),
    rule(r"(?<=[a-z])\.(?=[A-Z][a-z])", ". "),
    rule(r"(?<=\w)\.(?=\w)", " dot "),
    rule(r"(?<=[^\W\d_])([,;:!?])(?=[^\W\d_])", r"\1 "),
)


def tidy(text: str) -> str:
    """Drop what is left of symbols, and leave single marks where several meet."""
    spoken = "".join(character if _is_spoken(character) else " " for character in text)
    spoken = re.sub(r"(?<!\w)[-']++(?!\w)|(?<!\w)-++|-++(?!\w)", " ", spoken)
    spoken = re.sub(r"(?<!\w)'(?!\w)", " ", spoken)
    spoken = " ".join(spoken.split())
    spoken = re.sub(r"[.,!?;:](?:\s?[.,!?;:])*+", _strongest, spoken)
    spoken = re.sub(r"\s(?=[.,!?;:])", "", spoken)
    return spoken.lstrip(" .,!?;:-").rstrip(" ,")


def _is_spoken(character: str) -> bool:
    if character in KEPT or character.isalnum():
        return True
    category = unicodedata.category(character)
    if category.startswith("M"):
        return True
    own = character >= OTHER_SCRIPTS and ord(character) not in GENERAL_PUNCTUATION
    return category.startswith("P") and (own or character in "¡¿")


def _strongest(found: re.Match[str]) -> str:
    return min(found[0].replace(" ", ""), key=STRENGTH.index)
