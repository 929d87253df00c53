"""DPO and its kin as a stage: what it learns, in memory and from files."""

import dataclasses
import gc

import jax
import numpy as np
import pytest
from stage_worker import on_one_device

from rlhf_jax.data import ByteTokenizer, Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.registry import LoadedModel, load_model, reward_from, save_model
from rlhf_jax.stages import dpo
from rlhf_jax.tracking import read_metrics
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import RunSettings

SETTINGS = RunSettings(mesh="1,1,1", tensorboard=False, fetch_every=1)
# c is better than b, b than a; one ranking of two, one with a tie, one without a pair
ROWS = [
    Ranking(id="0", prompt="xx", responses=["a", "cc", "b"], ranks=[3, 1, 2]),
    Ranking(id="1", prompt="y", responses=["c", "a"], ranks=[1, 2]),
    Ranking(id="2", prompt="zz", responses=["b", "cc", "b"], ranks=[2, 1, 2]),
    Ranking(id="3", prompt="w", responses=["b", "b"], ranks=[1, 1]),
]
OWN = {
    "dpo": {"label_smoothing": 0.1},
    "ipo": {},
    "kto": {},
    "simpo": {},
    "orpo": {"odds_weight": 1.0},
}


@pytest.fixture(autouse=True, scope="module")
def one_device():
    on_one_device()


def start(seed=0):
    tokenizer = ByteTokenizer()
    model = LanguageModel(TrunkConfig(tokenizer.vocab_size, 16, 16, 1, 2))
    params = jax.jit(lambda: init_params(model, jax.random.key(seed)))()
    return LoadedModel(model, params, tokenizer, {})


def config(loss, **changes):
    fields = {
        "init": "start",
        "rankings": ("rows.jsonl",),
        "loss": loss,
        "epochs": 12,
        "batch_size": 4,
        "max_prompt": 4,
        "max_response": 4,
        "max_k": 3,
        "optimizer": OptimizerConfig(
            name="adam", learning_rate=1e-2, schedule="constant"
        ),
        **OWN[loss],
        **changes,
    }
    return dpo.Config(**fields)


@pytest.mark.parametrize("loss", OWN)
def test_every_loss_learns_the_order(loss):
    trained = dpo.train(start(), ROWS, config=config(loss), settings=SETTINGS)
    rows = list(trained)
    assert len(rows) == 12
    assert rows[-1]["accuracy"] == pytest.approx(1.0)
    assert rows[-1]["margin"] > rows[0]["margin"] + 0.05
    assert rows[-1]["loss"] < rows[0]["loss"]
    meta = trained.model.meta
    assert meta["loss"] == loss and meta.get("beta", 0) is not None


def test_training_in_memory_and_from_files_gives_the_same_bits(tmp_path):
    first, reference = start(), start(1)
    for name, model in {"start": first, "reference": reference}.items():
        save_model(tmp_path / name, model.model, model.params, model.tokenizer, {})
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(row.model_dump_json() + "\n" for row in ROWS))
    # micro-batches too: what KTO says of a whole batch is said before it is cut
    settings = config("kto", epochs=3, microbatches=2)
    named = dataclasses.replace(
        settings,
        init=str(tmp_path / "start"),
        reference=str(tmp_path / "reference"),
        rankings=(str(file),),
    )
    target = dpo.run(named, tmp_path / "run", SETTINGS)
    trained = dpo.train(
        first, ROWS, reference=reference, config=settings, settings=SETTINGS
    )
    rows = list(trained)
    written = list(read_metrics(tmp_path / "run"))
    for key in ("loss", "accuracy", "margin", "kl_baseline"):
        assert [row[key] for row in rows] == pytest.approx(
            [row[key] for row in written], rel=1e-6
        )
    loaded = load_model(target)
    assert loaded.meta["loss"] == "kto" and loaded.meta["beta"] == 0.1
    sides = map(jax.tree.leaves, (trained.model.params, loaded.params))
    for a, b in zip(*sides, strict=True):
        np.testing.assert_array_equal(a, b)


def embeddings(shape):
    """How many arrays of a shape are in memory."""
    gc.collect()
    return sum(array.shape == shape for array in jax.live_arrays())


@pytest.mark.parametrize(("loss", "copies"), [("dpo", 4), ("simpo", 3)])
def test_a_loss_without_a_reference_keeps_none_in_memory(loss, copies):
    model = start()
    shape = model.params["trunk"]["token_embed"]["embedding"].shape
    before = embeddings(shape) - 1
    training = dpo.train(model, ROWS, config=config(loss), settings=SETTINGS)
    del model
    next(training)
    # the policy, two moments and maybe the reference; not the policy's start
    assert embeddings(shape) - before == copies


def test_references_that_do_not_fit_are_refused():
    first = start()
    with pytest.raises(InputError, match="loss 'orpo' has none"):
        dpo.train(first, ROWS, reference=first, config=config("orpo"))
    wide = LoadedModel(
        LanguageModel(dataclasses.replace(first.model.config, embed_dim=32)),
        first.params,
        first.tokenizer,
        {},
    )
    with pytest.raises(InputError, match=r"dpo\.reference: is of another shape"):
        dpo.train(first, ROWS, reference=wide, config=config("dpo"))
    with pytest.raises(InputError, match=r"dpo\.reference"):
        scores = reward_from(first, jax.random.key(0))
        dpo.train(first, ROWS, reference=scores, config=config("dpo"))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"loss": "simpo", "reference": "m"}, "reference: loss 'simpo' has none"),
        ({"loss": "orpo", "beta": 0.1}, "beta: loss 'orpo' has none"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing: loss 'ipo'"),
        ({"loss": "kto", "robust": True}, "robust: loss 'kto' has none; it is of dpo"),
        ({"loss": "dpo", "margin": 0.5}, "margin: loss 'dpo' has none"),
        ({"loss": "simpo", "odds_weight": 0.5}, "odds_weight: loss 'simpo' has none"),
        ({"loss": "dpo", "desirable_weight": 2.0}, "desirable_weight: loss 'dpo'"),
        ({"loss": "ipo", "undesirable_weight": 2.0}, "undesirable_weight: loss"),
        ({"robust": True}, "robust: says nothing where label_smoothing is 0"),
        ({"loss": "kto", "batch_size": 1}, "batch_size: 1; loss 'kto'"),
        ({"loss": "grpo"}, "loss: 'grpo' is not 'dpo', 'ipo'"),
        ({"label_smoothing": 0.5}, "label_smoothing: 0.5 is not in [0, 0.5)"),
        ({"beta": 0.0}, "beta: 0.0 is not positive"),
        ({"loss": "simpo", "margin": -1.0}, "margin: -1.0 is not at least 0"),
    ],
)
def test_settings_without_use_or_sense_are_named(changes, line):
    (found,) = dpo.Config("start", ("rows.jsonl",), **changes).problems()
    assert found.startswith(line)


def test_every_loss_of_the_table_is_accepted_with_its_own_settings():
    for loss in OWN:
        assert not list(config(loss).problems())
    beta = {loss: config(loss).hyperparameters().get("beta") for loss in OWN}
    assert beta == {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "simpo": 2.0, "orpo": None}


@pytest.mark.slow
def test_the_stage_trains_a_policy(tiny):
    rows = tiny.metrics("dpo")
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert tiny.model("dpo").meta["stage"] == "dpo"
