"""A small random policy, sharp enough to end responses early, shared by the room."""

import dataclasses

import jax
import numpy as np
import pytest

from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.sampling import SamplingSpec

VOCAB, CONTEXT, WIDTH, BUDGET, ROWS = 61, 64, 12, 24, 6


@dataclasses.dataclass(frozen=True)
class Policy:
    model: LanguageModel
    params: dict


@pytest.fixture(scope="session")
def policy() -> Policy:
    config = TrunkConfig(
        vocab_size=VOCAB,
        context_length=CONTEXT,
        embed_dim=32,
        num_layers=2,
        num_heads=4,
    )
    model = LanguageModel(config)
    params = init_params(model, jax.random.key(0))
    return Policy(model, jax.tree_util.tree_map_with_path(_sharper, params))


def _sharper(path, leaf):
    """A fresh model is nearly uniform; one with larger matrices makes up its mind."""
    name = jax.tree_util.keystr(path)
    scale = 25 if "embedding" in name else 20 if "kernel" in name else 1
    return leaf * scale


@pytest.fixture(scope="session")
def spec() -> SamplingSpec:
    return SamplingSpec(BUDGET, end_tokens=(0, 5, 9), pad_token=1)


@dataclasses.dataclass(frozen=True)
class Batch:
    prompts: np.ndarray
    valid: np.ndarray
    row_ids: np.ndarray


@pytest.fixture(scope="session")
def batch() -> Batch:
    """Left-padded prompts of 1 to 12 tokens."""
    rng = np.random.default_rng(0)
    lengths = np.array([12, 1, 7, 3, 10, 5])
    valid = np.arange(WIDTH)[None] >= WIDTH - lengths[:, None]
    prompts = np.where(valid, rng.integers(10, VOCAB, (ROWS, WIDTH)), 1)
    return Batch(prompts.astype(np.int32), valid, 100 + np.arange(ROWS, dtype=np.int32))


@pytest.fixture(scope="session")
def key():
    return jax.random.key(11)
