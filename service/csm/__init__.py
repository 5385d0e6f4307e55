"""CSM, a conversational speech model, and its codec: tensors in, tensors out.

A library of its own: it imports nothing else of ours, reads no settings, fetches no files and knows
no requests.

    model, codec = load(folder)
    tokenizer = TextTokenizer(folder / "tokenizer.json")
    persona = remember(model, prompt_rows(tokenizer, [Turn(0, transcript, codes)], codebooks=32))
    rows = prompt_rows(tokenizer, [Turn(0, text)], codebooks=32)
    frames = generate(model, rows, Sampling(seed=7), frames=frame_budget(text), prefix=persona)
"""

from service.csm.checkpoint import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointMissingError,
    CheckpointUnsafeError,
    load,
    read_config,
)
from service.csm.config import ConfigError, CsmConfig
from service.csm.generate import (
    FRAME_SECONDS,
    GenerationError,
    NotFiniteError,
    Prefix,
    PromptTooLongError,
    admit,
    frame_budget,
    generate,
    remember,
)
from service.csm.mimi import Mimi
from service.csm.model import CSM, State
from service.csm.prompt import PromptError, Rows, TextTokenizer, Turn, prompt_rows
from service.csm.sampling import Sampling

__all__ = [
    "CSM",
    "FRAME_SECONDS",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointMissingError",
    "CheckpointUnsafeError",
    "ConfigError",
    "CsmConfig",
    "GenerationError",
    "Mimi",
    "NotFiniteError",
    "Prefix",
    "PromptError",
    "PromptTooLongError",
    "Rows",
    "Sampling",
    "State",
    "TextTokenizer",
    "Turn",
    "admit",
    "frame_budget",
    "generate",
    "load",
    "prompt_rows",
    "read_config",
    "remember",
]
