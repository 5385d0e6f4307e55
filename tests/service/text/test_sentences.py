import pytest

from service.text.sentences import FIRST_PIECE, LONGEST_PIECE, pieces

SENTENCE = "This is a sentence of a fair length, and it has a clause."
CLAUSES = "when the rain falls on the roof, " * 12
TEXTS = [
    "Hi.",
    SENTENCE,
    " ".join([SENTENCE] * 20),
    f"Hello. {SENTENCE} Bye.",
    CLAUSES,
    "word " * 200,
    "Dr. Smith met J. K. Rowling at 3 p.m. on Monday. They spoke, e.g. about 3.5 things... Then?",
    'He said, "Stop! Go away." Then he left. “Why?” she asked. No one knew. (Nobody.)',
    "  spaces \n and\tlines.  Everywhere. ",
    "Wait... what? Hmm… I see!! Really?! Yes.",
    "你好。你好吗。 " * 60,
    "Ärger über Öl; naïve café. Привет, мир. Как дела?",
    "a. " * 300,
]

ONE_SENTENCE = [
    "Dr. Smith went home.",
    "We met J. K. Rowling.",
    "George R. R. Martin is here.",
    "Fruits, e.g. apples, are good.",
    "It costs 3.50 euros.",
    "I was thinking... maybe not.",
    "He works at Apple Inc. in Cupertino.",
]


def collapsed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("longest", [40, LONGEST_PIECE])
def test_nothing_is_lost(text: str, longest: int) -> None:
    assert " ".join(pieces(text, first=30, longest=longest)) == collapsed(text)


@pytest.mark.parametrize("text", [*TEXTS, "x" * 1_000, "你好。" * 200])
@pytest.mark.parametrize("longest", [40, LONGEST_PIECE])
def test_no_piece_is_longer_than_asked(text: str, longest: int) -> None:
    assert max(len(piece) for piece in pieces(text, first=30, longest=longest)) <= longest


def test_a_text_without_words_has_no_pieces() -> None:
    assert pieces(" \n ") == ()


def test_the_first_piece_is_a_short_sentence() -> None:
    assert pieces(f"{SENTENCE} {SENTENCE} {SENTENCE}")[0] == SENTENCE


def test_a_long_first_sentence_starts_with_its_clauses() -> None:
    first = pieces(CLAUSES)[0]
    assert first.endswith(",")
    assert FIRST_PIECE / 2 < len(first) <= FIRST_PIECE


def test_a_long_first_clause_stays_whole() -> None:
    clause = (
        "nothing in this clause can be cut without making it sound like a list of words at all."
    )
    assert pieces(clause) == (clause,)


def test_short_sentences_share_a_piece() -> None:
    assert len(pieces("One here. Two here. " * 11)) == 2


def test_no_last_piece_is_tiny() -> None:
    text = " ".join([SENTENCE] * 8)
    assert len(pieces(f"{text} Bye.")[-1]) > len(SENTENCE)


@pytest.mark.parametrize("sentence", ONE_SENTENCE)
def test_a_full_stop_inside_a_sentence_does_not_end_it(sentence: str) -> None:
    assert pieces(f"Yes. {sentence} Yes.", first=1, longest=len(sentence))[1] == sentence


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    assert all(piece.endswith(",") for piece in pieces(CLAUSES))


def test_a_word_is_cut_only_when_it_alone_is_too_long() -> None:
    assert pieces(f"a {'b' * 50} c", first=40, longest=40) == (
        "a",
        "b" * 40,
        "b" * 10 + " c",
    )
