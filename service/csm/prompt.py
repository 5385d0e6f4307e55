"""What CSM reads: turns of a conversation, as rows of codes and text tokens.

It knows no model and no audio.

A row has one column for each codebook and a last one for text; `mask` says which of them count. A
turn is its text, a row for each token, then its audio, a row for each frame, then a row of zeros
that ends the audio. Turns follow each other with nothing between, and the text to speak comes last,
without audio. (SesameAILabs/csm, `generator.py`.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from torch import Tensor

__all__ = ["PromptError", "Rows", "TextTokenizer", "Turn", "audio_rows", "prompt_rows", "text_rows"]

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"


class PromptError(ValueError):
    """A prompt that cannot be written: another tokenizer, or codes of a wrong shape or range."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a prompt.

    + tokens: `[T, Q + 1]` int64, codes in the first Q columns and a text token in the last.
    + mask: `[T, Q + 1]` bool, true where a column counts.
    """

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(torch.cat((self.tokens, other.tokens)), torch.cat((self.mask, other.mask)))

    def check(self, *, codes: int, text_tokens: int) -> None:
        """Refuse what the embeddings have no row for: on a GPU, a look-up would end the process.

        Raises:
            PromptError: A code is not below `codes`, or a text token not below `text_tokens`.
        """
        for name, columns, count in (
            ("codes", self.tokens[:, :-1], codes),
            ("text tokens", self.tokens[:, -1], text_tokens),
        ):
            wrong = columns[(columns < 0) | (columns >= count)]
            if len(wrong):
                raise PromptError(f"{name} must be 0 to {count - 1}: {wrong[0].item()}")

    def to(self, device: torch.device) -> "Rows":
        """Give the rows on a device."""
        return Rows(self.tokens.to(device), self.mask.to(device))


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says.

    + codes: `[Q, T]` int64, how it was said; None for the text that is to be spoken.
    """

    speaker: int
    text: str
    codes: Tensor | None = None


class TextTokenizer:
    """The Llama 3 tokenizer of a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            FileNotFoundError: There is none.
            PromptError: It is no tokenizer, or one without Llama 3's marks for the ends of a text.
        """
        text = path.read_text(encoding="utf-8")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise PromptError(f"{path} is no tokenizer: {error}") from error
        # Marks that stand in a text are read out, not obeyed: a caller cannot end the turn and open
        # another.
        self._tokenizer.encode_special_tokens = True
        self._begin = self._mark(BEGIN_OF_TEXT, path)
        self._end = self._mark(END_OF_TEXT, path)

    def encode(self, speaker: int, text: str) -> list[int]:
        """Give the tokens of `[speaker]text` between the marks for the ends of a text."""
        spoken = self._tokenizer.encode(f"[{speaker}]{text}", add_special_tokens=False)
        return [self._begin, *spoken.ids, self._end]

    def _mark(self, mark: str, path: Path) -> int:
        token = self._tokenizer.token_to_id(mark)
        if token is None:
            raise PromptError(f"{path} has no token {mark}; CSM uses the Llama 3 tokenizer")
        return int(token)


def text_rows(tokens: Sequence[int], codebooks: int) -> Rows:
    """Give one row for each text token."""
    rows = torch.zeros(len(tokens), codebooks + 1, dtype=torch.int64)
    rows[:, -1] = torch.tensor(tokens, dtype=torch.int64)
    return Rows(rows, _column_mask(rows, slice(codebooks, None)))


def audio_rows(codes: Tensor) -> Rows:
    """Give one row for each frame of codes `[Q, T]`, and the row of zeros that ends them.

    Raises:
        PromptError: The codes are not two-dimensional integers.
    """
    if codes.ndim != 2 or codes.dtype != torch.int64:
        raise PromptError(
            f"codes must be int64 [codebooks, frames]: {codes.dtype} {list(codes.shape)}"
        )
    codebooks, frames = codes.shape
    rows = torch.zeros(frames + 1, codebooks + 1, dtype=torch.int64)
    rows[:-1, :-1] = codes.T
    return Rows(rows, _column_mask(rows, slice(codebooks)))


def prompt_rows(tokenizer: TextTokenizer, turns: Iterable[Turn], codebooks: int) -> Rows:
    """Write turns as rows, one after the other.

    Raises:
        PromptError: The codes of a turn have another number of codebooks.
    """
    rows = text_rows((), codebooks)
    for turn in turns:
        rows += text_rows(tokenizer.encode(turn.speaker, turn.text), codebooks)
        if turn.codes is None:
            continue
        if len(turn.codes) != codebooks:
            raise PromptError(f"codes have {len(turn.codes)} codebooks and must have {codebooks}")
        rows += audio_rows(turn.codes)
    return rows


def _column_mask(rows: Tensor, columns: slice) -> Tensor:
    mask = torch.zeros(rows.shape, dtype=torch.bool)
    mask[:, columns] = True
    return mask
