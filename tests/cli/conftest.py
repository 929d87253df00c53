"""Directories as `rlhf-jax run` leaves them, with tiny models."""

import functools
import json

import jax
import pytest

from rlhf_jax.data import ByteTokenizer
from rlhf_jax.models import LanguageModel, ScalarModel, TrunkConfig, init_params
from rlhf_jax.registry.directories import save_model
from rlhf_jax.registry.ensemble import save_ensemble


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory):
    """Stages "sft", "ppo" (policies), "reward" (an ensemble of "seed_0" and "seed_1")
    and "world", which makes no model."""
    folder = tmp_path_factory.mktemp("run")
    config = TrunkConfig(
        vocab_size=258, context_length=512, embed_dim=16, num_layers=1, num_heads=2
    )
    saved = [
        ("sft", "sft", LanguageModel),
        ("ppo", "ppo", LanguageModel),
        ("reward/seed_0", "reward", ScalarModel),
        ("reward/seed_1", "reward", ScalarModel),
    ]
    for seed, (place, stage, kind) in enumerate(saved):
        params = jax.jit(functools.partial(init_params, kind(config)))(
            jax.random.key(seed)
        )
        meta = {"stage": stage}
        save_model(
            folder / place / "model", kind(config), params, ByteTokenizer(), meta
        )
    members = ["../seed_0/model", "../seed_1/model"]
    save_ensemble(folder / "reward/model", members, {"stage": "reward"})
    (folder / "world").mkdir()
    for stage in ("sft", "ppo", "reward", "world"):
        for name in ("config.json", "stage.json", "done.json"):
            (folder / stage / name).write_text(json.dumps({"learning_rate": 1e-3}))
    return folder
