"""What a text written in Markdown says. It knows nothing of tags, and of how words are spoken."""

import re
from collections.abc import Iterable, Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["plain"]

# Indented text is no code and `[Maya]: hello` no link to "hello": nothing that can be spoken is
# dropped. Tags are mark-up's business.
PARSER = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["table", "strikethrough"])
    .disable(["code", "reference"])
)
SPOKEN_TOKENS = ("text", "code_inline", "image", "text_special")
MULTIPLIED = re.compile(r"(?<=\d) ?\* ?(?=\d)")  # 2*3*4 is no emphasis
CHECKBOX = re.compile(r"\[[ xX]\]\s+")
BORDERS = tuple(".!?:;,…\u3002\uff01\uff1f\u061f\u0964")  # Chinese, Arabic, Hindi too


def plain(text: str) -> str:
    """Drop the marks of Markdown: one line for each heading, paragraph, list item and table row.

    A line but the last ends in punctuation, a full stop where it had none. Links and images keep
    their text, code keeps its words, items their numbers. A text without marks stays as it
    is, and so does one of which nothing would be left: a link without words.
    """
    tokens = PARSER.parse(MULTIPLIED.sub(" \u00d7 ", text))
    lines = [line for line in _lines(tokens) if line]
    ended = [line if line.endswith(BORDERS) else f"{line}." for line in lines[:-1]]
    return "\n".join([*ended, *lines[-1:]]) or text


def _lines(tokens: Iterable[Token]) -> Iterator[str]:
    number = ""
    cells: list[str] | None = None
    for token in tokens:
        if token.type == "list_item_open":
            number = f"{token.info}{token.markup} " if token.info else ""
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            yield ", ".join(cells or ())
            cells = None
        elif token.type == "fence":
            yield from (line.strip() for line in token.content.splitlines())
        elif token.type == "inline":
            line = CHECKBOX.sub("", number + _inline(token), count=1)
            number = ""
            if cells is None:
                yield line.strip()
            elif line.strip():
                cells.append(line.strip())


def _inline(token: Token) -> str:
    return "".join(
        part.content if part.type in SPOKEN_TOKENS else " " * part.type.endswith("break")
        for part in token.children or ()
    )
