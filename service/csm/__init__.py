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
    Loaded,
    Precision,
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
    Remembering,
    admit,
    frame_budget,
    generate,
    remember,
)
from service.csm.mimi import Mimi
from service.csm.model import CSM, State, TorchCSM
from service.csm.prompt import PromptError, Rows, TextTokenizer, Turn, prompt_rows
from service.csm.replay import CudaGraphs, Replay, ladder
from service.csm.sampling import SEEDS, Sampling, candidates_for
from service.csm.scheduler import Block, Ended, Ending, Event, Failed, Scheduler, Utterance
from service.csm.voice import Clip, ClipError, Voice, clip_rows, encode_clip, fit_turns
from service.csm.worker import Worker, WorkerDownError

__all__ = [
    "CSM",
    "FRAME_SECONDS",
    "SEEDS",
    "Block",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointMissingError",
    "CheckpointUnsafeError",
    "Clip",
    "ClipError",
    "ConfigError",
    "CsmConfig",
    "CudaGraphs",
    "Ended",
    "Ending",
    "Event",
    "Failed",
    "GenerationError",
    "Loaded",
    "Mimi",
    "NotFiniteError",
    "Precision",
    "Prefix",
    "PromptError",
    "PromptTooLongError",
    "Remembering",
    "Replay",
    "Rows",
    "Sampling",
    "Scheduler",
    "State",
    "TextTokenizer",
    "TorchCSM",
    "Turn",
    "Utterance",
    "Voice",
    "Worker",
    "WorkerDownError",
    "admit",
    "candidates_for",
    "clip_rows",
    "encode_clip",
    "fit_turns",
    "frame_budget",
    "generate",
    "ladder",
    "load",
    "prompt_rows",
    "read_config",
    "remember",
]
