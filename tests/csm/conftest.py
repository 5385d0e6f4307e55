"""Checkpoints with random weights, opened by us and by transformers, which is the oracle."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from service.csm import Mimi, TextTokenizer, TorchCSM, load, random_checkpoint


class Pair(NamedTuple):
    """One checkpoint, loaded twice."""

    folder: Path
    model: TorchCSM
    codec: Mimi
    tokenizer: TextTokenizer
    oracle: Any  # transformers.CsmForConditionalGeneration


OpenPair = Callable[[Path], Pair]


def open_pair(folder: Path) -> Pair:
    import transformers

    transformers.logging.set_verbosity_error()
    oracle = transformers.CsmForConditionalGeneration.from_pretrained(folder)
    model, codec = load(folder)
    assert isinstance(model, TorchCSM)
    return Pair(folder, model, codec, TextTokenizer(folder / "tokenizer.json"), oracle.eval())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    random_checkpoint.write(folder, random_checkpoint.SIZES["tiny"], clips=0.1)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Pair:
    return open_pair(tiny_folder)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The real model's widths, heads and codes, with one layer in each stack and 4 codebooks."""
    full, small = random_checkpoint.SIZES["1b"], random_checkpoint.SIZES["tiny"]
    depth = {**full["depth_decoder_config"], "num_hidden_layers": 1, "num_codebooks": 4}
    config = {
        **full,
        "num_hidden_layers": 1,
        "num_codebooks": 4,
        "depth_decoder_config": depth,
        "codec_config": {**small["codec_config"], "codebook_size": 2048, "num_quantizers": 4},
        **{key: small[key] for key in small if key.endswith("_token_id") and "codebook" not in key},
        "text_vocab_size": small["text_vocab_size"],
    }
    folder = tmp_path_factory.mktemp("wide")
    random_checkpoint.write(folder, config, clips=0.02)
    return open_pair(folder)


@pytest.fixture(params=["tiny", pytest.param("wide", marks=pytest.mark.full_width)])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Products this small gain nothing from a second thread, and lose much on shared cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
