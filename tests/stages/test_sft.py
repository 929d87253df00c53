"""SFT: what is trained on, which epoch is kept, and the start of PPO."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rlhf_jax.data import Demonstration, Text
from rlhf_jax.data.inputs import mixed_demonstrations, one_epoch, read_rows
from rlhf_jax.registry.directories import load_model
from rlhf_jax.stages import sft
from rlhf_jax.stages.likelihood import make_loss, make_perplexity
from rlhf_jax.tracking import read_metrics


def stream_of(tiny, name, files="demonstrations", **changes):
    config = tiny.config(name)
    fields = {"mix_fraction": config.mix_fraction} | changes
    return mixed_demonstrations(
        list(read_rows(getattr(config, files), Demonstration)),
        list(read_rows(config.texts, Text)),
        tiny.model("pretrain").tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=config.batch_size,
        seed=config.seed,
        **fields,
    )


def test_the_kept_model_is_that_of_the_lowest_validation_loss(tiny):
    rows = [r for r in tiny.metrics("sft") if "valid/nats_per_token" in r]
    config = tiny.config("sft")
    assert len(rows) == config.epochs
    best = min(rows, key=lambda row: row["valid/nats_per_token"])
    selected = json.loads((tiny.done("sft") / "selected.json").read_text())
    assert selected["step"] == best["step"]
    kept = tiny.model("sft")
    assert kept.meta["selected_by"] == "loss" and kept.meta["step"] == best["step"]
    held_out = stream_of(tiny, "sft", "valid_demonstrations")
    found = make_perplexity(kept.model)(kept.params, one_epoch(held_out))
    assert found["nats_per_token"] == pytest.approx(
        best["valid/nats_per_token"], rel=1e-5
    )


def test_the_model_can_be_chosen_by_the_reward_of_its_samples(tiny, tmp_path):
    changes = {
        "select_by": "reward",
        "reward": "@fresh_reward/model",
        "valid_prompts": ("@world/prompts.valid.jsonl",),
        "select_prompts": 4,
        "epochs": 3,
    }
    model = load_model(tiny.run("sft", tmp_path, **changes))
    rows = [
        json.loads(line)
        for line in (tmp_path / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    scored = [row for row in rows if "valid/reward" in row]
    assert len(scored) == 3
    best = max(scored, key=lambda row: row["valid/reward"])
    assert model.meta["selected_by"] == "reward"
    assert model.meta["step"] == best["step"]


class Measured(sft.Selection):
    """A selection whose measurements are given."""

    def __init__(self, select_by, workdir):
        names = ("valid/reward", "valid/nats_per_token")
        measures = {name: lambda params: 0.0 for name in names}
        config = sft.Config(select_by=select_by)
        super().__init__(config, None, workdir, measures)
        self.saved = []

    def at(self, step, **metrics):
        self.measures = {name: lambda _, v=v: v for name, v in metrics.items()}
        self.evaluate(None, step)

    def _save(self, params, meta):
        self.saved.append(meta["step"])


@pytest.mark.parametrize(
    "by, name, values, best",
    [
        ("reward", "valid/reward", [1.0, 3.0, 2.0, 3.0], 2),
        ("loss", "valid/nats_per_token", [3.0, 1.0, 2.0, 1.0], 2),
    ],
)
def test_a_run_that_was_cut_keeps_the_same_epoch(tmp_path, by, name, values, best):
    def kept(order):
        (tmp_path / "selected.json").unlink(missing_ok=True)
        selection = Measured(by, tmp_path)
        for step in order:
            selection.at(step, **{name: values[step - 1]})
        return selection.saved[-1]

    assert kept([1, 2, 3, 4]) == best
    for cut in ([1, 2, 1, 2, 3, 4], [1, 2, 3, 2, 3, 4], [1, 2, 3, 4, 1, 2, 3, 4]):
        assert kept(cut) == best, cut


def test_only_the_response_is_trained_on(tiny):
    batch = stream_of(tiny, "sft").batch(0)
    tokenizer = tiny.model("pretrain").tokenizer
    demonstrations = {}
    for line in (tiny.done("world") / "demonstrations.train.jsonl").open():
        row = json.loads(line)
        demonstrations[row["prompt"]] = row["response"]
    checked = 0
    for tokens, valid, mask in zip(
        batch["tokens"], batch["valid"], batch["mask"], strict=True
    ):
        if not mask.any():
            continue
        prompt = tokenizer.decode(tokens[valid & ~mask].tolist())
        *response, end = tokens[mask].tolist()
        assert demonstrations[prompt].startswith(tokenizer.decode(response))
        assert end == tokenizer.end_token or len(response) == 11
        checked += 1
    assert checked > 5


def test_dropout_acts_in_training_and_is_gone_from_the_result(tiny):
    assert tiny.config("sft").residual_dropout == 0.2
    assert tiny.model("sft").model.config.residual_dropout == 0.0
    model = tiny.model("pretrain").with_config(residual_dropout=0.2)
    batch = stream_of(tiny, "sft").batch(0)
    weights = batch["mask"] / batch["mask"].sum()
    batch = {n: v for n, v in batch.items() if n != "row"}
    batch["weights"] = weights.astype(np.float32)
    loss = jax.jit(lambda key: make_loss(model.model)(model.params, batch, key)[0])
    one, same, other = (float(loss(jax.random.key(k))) for k in (0, 0, 1))
    assert one == same != other


def test_the_start_of_ppo_has_the_papers_settings_and_a_pretraining_mix(tiny):
    config = sft.ppo_init("m", ("d",), texts=("t",))
    assert (config.epochs, config.mix_fraction) == (2, 0.1)
    assert config.optimizer.learning_rate == 5e-6 and config.select_by == "last"
    mixed = stream_of(tiny, "ppo_init")
    plain = stream_of(tiny, "ppo_init", mix_fraction=0.0)
    trained = mixed.batch(0)["mask"].sum(axis=1)
    whole_windows = (trained > tiny.config("ppo_init").max_response).sum()
    assert whole_windows == round(0.25 * tiny.config("ppo_init").batch_size)
    assert plain.batch(0)["mask"].sum(axis=1).max() <= 12


def test_settings_that_cannot_work_are_all_named():
    config = sft.Config("m", (), select_by="reward", mix_fraction=0.5, texts=())
    problems = "\n".join(config.problems())
    for field in ("demonstrations", "select_by", "texts"):
        assert f"{field}: " in problems
    wrong = dataclasses.replace(config, select_by="luck")
    assert "not 'reward', 'loss' or 'last'" in "\n".join(wrong.problems())


def test_float16_trains_with_its_loss_scaled(tiny, tmp_path):
    tiny.run("sft", tmp_path, dtype="float16", epochs=1)
    rows = read_metrics(tmp_path)
    assert rows[0]["loss_scale"] == 2.0**15
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert sum(row["skipped"] for row in rows) == 0
