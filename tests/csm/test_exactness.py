"""Our model against `CsmForConditionalGeneration`: the same weights, float32, greedy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from service.csm import Rows, Sampling, Turn, generate, prompt_rows
from tests.csm.conftest import Pair

GREEDY = Sampling(temperature=0)
FRAMES = 110
TEXT = "The quick brown fox jumps over the lazy dog."


def clip(seconds: float, seed: int) -> Tensor:
    """Give something of speech's loudness for the codec to encode: `[1, S]`."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(24_000 * seconds)) / 24_000
    noise = torch.randn(len(time), generator=generator)
    return (0.3 * torch.sin(700 * time * (1 + 0.2 * seed)) + 0.1 * noise)[None]


def codes_of(pair: Pair, audio: Tensor) -> Tensor:
    return pair.codec.encode(audio[None])[0]


def ours(pair: Pair, turns: Sequence[Turn]) -> Rows:
    return prompt_rows(pair.tokenizer, turns, pair.model.config.codebooks)


def theirs(pair: Pair, turns: Sequence[Turn], clips: Sequence[Tensor]) -> dict[str, Tensor]:
    """Give the inputs that transformers' processor would make of the same turns."""
    config = pair.oracle.config
    tokens = []
    for turn in turns:
        tokens += pair.tokenizer.encode(turn.speaker, turn.text)
        if turn.codes is not None:
            tokens += [config.audio_token_id] * turn.codes.shape[1] + [config.audio_eos_token_id]
    inputs = {"input_ids": torch.tensor([tokens])}
    if clips:
        inputs["input_values"] = torch.cat(list(clips), dim=-1)[None]
        lengths = torch.tensor([[audio.shape[-1] for audio in clips]])
        inputs["input_values_cutoffs"] = lengths.cumsum(-1)
    return inputs


def greedy(pair: Pair, inputs: dict[str, Tensor], frames: int) -> Tensor:
    sequences: Tensor = pair.oracle.generate(
        **inputs, do_sample=False, depth_decoder_do_sample=False, max_new_tokens=frames
    )
    return sequences[0]


def assert_equal_and_lively(spoken: Tensor, expected: Tensor) -> None:
    """Equal codes prove nothing when they are always the same ones."""
    torch.testing.assert_close(spoken, expected, rtol=0, atol=0)
    assert len(set(map(tuple, spoken.tolist()))) > len(spoken) * 0.9
    assert min(len(set(column)) for column in spoken.T.tolist()) > 20


def test_every_greedy_code_equals_transformers(pair: Pair) -> None:
    turns = [Turn(0, TEXT)]
    spoken = torch.stack(list(generate(pair.model, ours(pair, turns), GREEDY, frames=FRAMES)))
    assert_equal_and_lively(spoken, greedy(pair, theirs(pair, turns, ()), FRAMES))


def test_every_greedy_code_after_context_turns_equals_transformers(pair: Pair) -> None:
    clips = [clip(0.8, seed=1), clip(1.35, seed=2)]
    turns = [
        Turn(0, "Did you see it?", codes_of(pair, clips[0])),
        Turn(1, "See what?", codes_of(pair, clips[1])),
        Turn(0, TEXT),
    ]
    spoken = torch.stack(list(generate(pair.model, ours(pair, turns), GREEDY, frames=FRAMES)))
    assert_equal_and_lively(spoken, greedy(pair, theirs(pair, turns, clips), FRAMES))


@torch.inference_mode()
def test_backbone_logits_equal_transformers_at_every_row(pair: Pair) -> None:
    turns = [Turn(3, TEXT)]
    rows = ours(pair, turns)
    state = pair.model.state(slots=2)
    hidden = pair.model.prefill(rows.tokens, rows.mask, state, slot=1, start=0)
    expected = pair.oracle(**theirs(pair, turns, ())).logits[0, :, : pair.model.config.codes]
    torch.testing.assert_close(pair.model.head(hidden), expected, rtol=0, atol=1e-4)
    assert expected.std() > 1


@torch.inference_mode()
def test_depth_logits_equal_transformers_in_every_codebook(pair: Pair) -> None:
    model, config = pair.model, pair.model.config
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(2, config.backbone.width, generator=generator)
    codes = torch.randint(config.codes, (2, config.codebooks - 1), generator=generator)
    expected = pair.oracle.depth_decoder(
        input_ids=torch.nn.functional.pad(codes, (1, 0)), backbone_last_hidden_state=hidden
    ).logits[..., : config.codes]

    depth = model.state(slots=2).depth
    assert depth
    rows = codes + torch.arange(config.codebooks - 1) * config.audio_vocabulary
    x = model.projection(torch.cat((hidden[:, None], model.audio_embedding(rows)), dim=1))
    deep = model.depth(x, depth.cache, depth.cache.run(0, config.codebooks))
    found = [head(deep[:, book]) for book, head in enumerate(model.depth_heads, start=1)]
    torch.testing.assert_close(torch.stack(found, dim=1), expected, rtol=0, atol=1e-4)
    assert expected.std() > 1
