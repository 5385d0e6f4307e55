"""Text cut into pieces that a speech model reads well: a sentence or two. It knows no model."""

import re
from collections.abc import Iterator

from sentencex import segment

__all__ = ["FIRST_PIECE", "LONGEST_PIECE", "pieces"]

# Characters; English is spoken at about 15 a second. CSM reads a sentence or two well and degrades
# on long text.
LONGEST_PIECE = 220
FIRST_PIECE = 80
SHORTEST_PIECE = 20  # less than that is joined to its neighbour where there is room

CLAUSE = re.compile(r"[,;:\u2014\u2013][\"'”\u2019)\]]*\s")
SPACE = re.compile(r"\s")
MARK = re.compile(r"[\u3001\u3002\uff01\uff0c\uff1b\uff1f]")  # of Chinese and Japanese


def pieces(text: str, *, first: int = FIRST_PIECE, longest: int = LONGEST_PIECE) -> tuple[str, ...]:
    """Cut a text into pieces of at most `longest` characters, short sentences joined.

    + first: about how many characters the first piece has at most, so that the first sound comes
      soon: its sentence, or its clause where the sentence is longer; longer when it is one clause

    Cut at the ends of sentences; a sentence longer than `longest` at its clauses, then between
    words, and a word longer than that anywhere. Joined by spaces the pieces are the text again,
    with single spaces, except where a word was cut. Empty for a text without any word.
    """
    sentences = [" ".join(sentence.split()) for sentence in _sentences(" ".join(text.split()))]
    if not sentences:
        return ()
    head, *rest = _opening(sentences[0], first, longest) + sentences[1:]
    parts = [part for sentence in rest for part in _parts(sentence, longest)]
    opening = [head]
    while parts and len(" ".join([*opening, parts[0]])) <= first:
        opening.append(parts.pop(0))
    return (" ".join(opening), *_joined(parts, longest))


def _sentences(text: str) -> Iterator[str]:
    """Give the sentences; one that the next follows without a space is part of it."""
    held = ""
    for sentence in segment("en", text):
        held += sentence
        if held.endswith(" "):
            yield held
            held = ""
    if held.strip():
        yield held


def _opening(sentence: str, first: int, longest: int) -> list[str]:
    """Cut the first clause from a first sentence that is too long for a first piece."""
    if len(sentence) <= first:
        return [sentence]
    borders = [found.end() for found in CLAUSE.finditer(sentence, 0, first + 1)]
    if borders and borders[-1] > SHORTEST_PIECE:
        return [sentence[: borders[-1] - 1], sentence[borders[-1] :]]
    return list(_parts(sentence, longest))


def _parts(sentence: str, longest: int) -> Iterator[str]:
    """Cut a sentence into parts of about one length, so that no tiny one is left over."""
    while len(sentence) > longest:
        count = -(-len(sentence) // longest)
        end = _border(sentence, len(sentence) // count, longest)
        yield sentence[:end].rstrip()
        sentence = sentence[end:].lstrip()
    if sentence:
        yield sentence


def _border(sentence: str, target: int, longest: int) -> int:
    """Find the best place for a cut: the border of the best kind that is nearest to the target."""
    for kind, least in ((CLAUSE, target // 2), (SPACE, 1), (MARK, target // 2)):
        # The space after a border is no part of the piece.
        found = [match.end() for match in kind.finditer(sentence, least, longest + 1)]
        if found:
            return min(found, key=lambda end: abs(end - target))
    return longest


def _joined(parts: list[str], longest: int) -> Iterator[str]:
    """Join short parts to pieces, none tiny where its neighbours leave room."""
    groups: list[list[str]] = []
    for part in parts:
        if groups and len(" ".join([*groups[-1], part])) <= longest:
            groups[-1].append(part)
        else:
            groups.append([part])
    if len(groups) > 1 and len(" ".join(groups[-1])) < SHORTEST_PIECE and len(groups[-2]) > 1:
        moved = groups[-2].pop()
        groups[-1].insert(0, moved)
    for group in groups:
        yield " ".join(group)
