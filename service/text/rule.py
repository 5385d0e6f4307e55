"""One way of writing, and how it is read aloud. It knows no particular one."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Rule", "any_of", "rule"]


@dataclass(frozen=True)
class Rule:
    """What is written, and what is said for it.

    The patterns are bounded or possessive and begin where a number or a word begins, so that a
    hostile text costs linear time.
    """

    written: re.Pattern[str]
    say: Callable[[re.Match[str]], str]

    def apply(self, text: str) -> str:
        """Put what is said in place of what is written, apart from letters and digits beside it."""
        return self.written.sub(lambda found: _apart(found, self.say(found)), text)


def rule(written: str, say: Callable[[re.Match[str]], str] | str) -> Rule:
    """Make a rule of a pattern and of a function, or of a template with group references."""
    if isinstance(say, str):
        template = say
        return Rule(re.compile(written), lambda found: found.expand(template))
    return Rule(re.compile(written), say)


def any_of(written: Iterable[str] | Mapping[str, object]) -> str:
    """Write a pattern of plain words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(written, key=len, reverse=True))


def _apart(found: re.Match[str], spoken: str) -> str:
    before = found.string[max(found.start() - 1, 0) : found.start()]
    after = found.string[found.end() : found.end() + 1]
    left = " " if before.isalnum() and spoken[:1].isalnum() else ""
    right = " " if after.isalnum() and spoken[-1:].isalnum() else ""
    return f"{left}{spoken}{right}"
