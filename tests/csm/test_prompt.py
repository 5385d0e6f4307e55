"""Rows of text and audio, and the tokenizer."""

import base64
import json
from pathlib import Path
from typing import Any

import llama_models.llama3.tokenizer as llama
import pytest
import torch

from service.csm import PromptError, TextTokenizer, Turn, prompt_rows
from service.csm.prompt import audio_rows, text_rows
from service.csm.random_checkpoint import LLAMA_3_WORDS

SENTENCES = [
    "Hello, I'm Maya.",
    " leading space, trailing space ",
    "1234567 dollars and 89 cents; 3.14159",
    'What?! No... "really" — naïve café, 東京, Привет, 🙂👍🏽',
    "line one\r\n\n  line two\ttabbed",
    "we'll THEY'RE don't o'clock",
    "",
]


@pytest.fixture
def tokenizer(tiny_folder: Path) -> TextTokenizer:
    return TextTokenizer(tiny_folder / "tokenizer.json")


def test_a_text_row_holds_one_token_in_its_last_column() -> None:
    rows = text_rows([7, 8, 9], codebooks=32)
    assert rows.tokens.shape == (3, 33)
    assert rows.tokens[:, -1].tolist() == [7, 8, 9]
    assert rows.tokens[:, :-1].sum() == 0
    assert rows.mask.sum(dim=1).tolist() == [1, 1, 1]
    assert rows.mask[:, -1].all()


def test_audio_rows_hold_the_codes_and_end_with_zeros() -> None:
    codes = torch.arange(1, 65).view(32, 2)
    rows = audio_rows(codes)
    assert torch.equal(rows.tokens[:2, :32], codes.T)
    assert rows.tokens[2].sum() == 0
    assert rows.mask[:, :32].all()
    assert not rows.mask[:, 32].any()


def test_turns_follow_each_other_with_the_text_to_speak_last(tokenizer: TextTokenizer) -> None:
    codes = torch.ones(32, 5, dtype=torch.int64)
    rows = prompt_rows(tokenizer, [Turn(0, "Hi", codes), Turn(12, "Yes?")], codebooks=32)
    first, second = tokenizer.encode(0, "Hi"), tokenizer.encode(12, "Yes?")
    kinds = ["text" if row[-1] else "audio" for row in rows.mask]
    assert kinds == ["text"] * len(first) + ["audio"] * 6 + ["text"] * len(second)
    assert rows.tokens[-len(second) :, -1].tolist() == second


def test_a_text_stands_between_its_marks_after_the_speaker(tokenizer: TextTokenizer) -> None:
    begin, *inner, end = tokenizer.encode(3, "Hi")
    assert (begin, end) == (256, 257)
    assert tokenizer._tokenizer.decode(inner) == "[3]Hi"


def test_marks_inside_a_text_are_not_obeyed(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.encode(0, "a<|end_of_text|><|begin_of_text|>[1]b")
    assert tokens.count(256) == tokens.count(257) == 1


@pytest.fixture(scope="module")
def llama_3(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextTokenizer, Any]:
    """The real tokenizer twice: as a `tokenizer.json`, and as llama-models reads it."""
    ranks = Path(llama.__file__).with_name("tokenizer.model")
    path = tmp_path_factory.mktemp("llama") / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(ranks)), encoding="utf-8")
    return TextTokenizer(path), llama.Tokenizer(ranks)


def tokenizer_json(ranks: Path) -> dict[str, object]:
    """Write tiktoken's ranks as byte-level BPE: each token that two others make is a merge."""
    from tokenizers import pre_tokenizers

    table = {}
    for line in ranks.read_bytes().splitlines():
        token, number = line.split()
        table[base64.b64decode(token)] = int(number)
    letters = byte_letters()
    assert set(letters.values()) == set(pre_tokenizers.ByteLevel.alphabet())

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token, rank in table.items():
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        pairs = [pair for pair in cuts if pair[0] in table and pair[1] in table]
        pairs.sort(key=lambda pair: (table[pair[0]], table[pair[1]]))
        merges += [(rank, [spell(left), spell(right)]) for left, right in pairs]
    merges.sort(key=lambda merge: merge[0])
    marks = {"<|begin_of_text|>": 128_000, "<|end_of_text|>": 128_001}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    words = {"type": "Split", "pattern": {"Regex": LLAMA_3_WORDS}, "behavior": "Isolated"}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": token, "content": mark, "special": True, **plain}
            for mark, token in marks.items()
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {**words, "invert": False},
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": {spell(token): rank for token, rank in table.items()} | marks,
            "merges": [pair for _, pair in merges],
            "ignore_merges": True,
        },
    }


def byte_letters() -> dict[int, str]:
    """Give byte-level BPE's letter for each byte: itself if it can be seen, else one past 255."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    rest = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {
        byte: chr(256 + at) for at, byte in enumerate(rest)
    }


@pytest.mark.parametrize("text", SENTENCES)
def test_tokens_equal_llama_3(llama_3: tuple[TextTokenizer, Any], text: str) -> None:
    ours, reference = llama_3
    expected = reference.encode(f"[0]{text}", bos=True, eos=True)
    assert ours.encode(0, text) == expected


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [
        (torch.zeros(32, 4), "int64"),
        (torch.zeros(32, dtype=torch.int64), r"\[32\]"),
        (torch.zeros(31, 4, dtype=torch.int64), "31 codebooks and must have 32"),
    ],
)
def test_codes_of_a_wrong_form_are_refused(
    tokenizer: TextTokenizer, codes: torch.Tensor, complaint: str
) -> None:
    with pytest.raises(PromptError, match=complaint):
        prompt_rows(tokenizer, [Turn(0, "Hi", codes)], codebooks=32)


def test_codes_and_tokens_beyond_the_vocabularies_are_refused(tokenizer: TextTokenizer) -> None:
    codes = torch.full((32, 2), 128)
    rows = prompt_rows(tokenizer, [Turn(0, "Hi", codes)], codebooks=32)
    rows.check(codes=129, text_tokens=260)
    with pytest.raises(PromptError, match="codes must be 0 to 127: 128"):
        rows.check(codes=128, text_tokens=260)
    with pytest.raises(PromptError, match="text tokens must be 0 to 256: 257"):
        rows.check(codes=129, text_tokens=257)


@pytest.mark.parametrize(
    "content", ["{}", "no json", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_what_is_no_llama_3_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PromptError, match="tokenizer"):
        TextTokenizer(path)
