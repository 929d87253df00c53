"""SFT, reward model, PPO and DPO by adapters of one base, by directories."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stage_worker import on_one_device

from rlhf_jax.data import ByteTokenizer, Demonstration, Prompt, Ranking, write_jsonl
from rlhf_jax.errors import InputError
from rlhf_jax.experience import make_assess
from rlhf_jax.models import (
    LanguageModel,
    LoRA,
    TrunkConfig,
    init_params,
    leaf_paths,
    merged,
)
from rlhf_jax.registry import (
    adapters,
    load_model,
    load_reward,
    load_reward_model,
    merged_model,
    save_model,
)
from rlhf_jax.stages import dpo, ppo, reward, sft
from rlhf_jax.stages.ppo.cast import Cast
from rlhf_jax.stages.ppo.run import make_players
from rlhf_jax.stages.split import split
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import RunSettings

SETTINGS = RunSettings(mesh="1,1,1", save_every=2, tensorboard=False, fetch_every=1)
LORA = LoRA(rank=2, alpha=4.0)
LENGTHS = {"max_prompt": 6, "max_response": 5}
ADAM = OptimizerConfig(name="adam", learning_rate=1e-2, schedule="constant")
WORDS = [f"a{i}" for i in range(8)]


class House:
    """A folder with a base, rows, and stages that are done when asked for."""

    def __init__(self, folder):
        self.folder = folder
        tokenizer = ByteTokenizer()
        model = LanguageModel(TrunkConfig(tokenizer.vocab_size, 24, 32, 2, 2))
        params = jax.jit(lambda: init_params(model, jax.random.key(0)))()
        params = jax.tree.map(lambda leaf: leaf * 2, params)
        save_model(folder / "base", model, params, tokenizer, {"form": "plain"})
        rows = {
            "demonstrations": [
                Demonstration(id=w, prompt=w, response=w * 2) for w in WORDS
            ],
            "rankings": [
                Ranking(id=w, prompt=w, responses=[w, "b"], ranks=[1, 2]) for w in WORDS
            ],
            "prompts": [Prompt(id=w, prompt=w) for w in WORDS],
        }
        for name, records in rows.items():
            write_jsonl(folder / f"{name}.jsonl", records)

    def config(self, name, **changes):
        file = lambda kind: (str(self.folder / f"{kind}.jsonl"),)  # noqa: E731
        base = str(self.folder / "base")
        made = {
            "sft": lambda: sft.Config(
                init=base,
                demonstrations=file("demonstrations"),
                epochs=2,
                batch_size=4,
                residual_dropout=0.0,
                optimizer=ADAM,
                select_by="last",
                adapter=LORA,
                **LENGTHS,
            ),
            "reward": lambda: reward.Config(
                init=str(self.done("sft")),
                rankings=file("rankings"),
                demonstrations=file("demonstrations"),
                epochs=2,
                batch_size=4,
                max_k=2,
                optimizer=ADAM,
                adapter=LORA,
                **LENGTHS,
            ),
            "ppo": lambda: ppo.Config(
                init=str(self.done("sft")),
                reward=str(self.done("reward")),
                prompts=file("prompts"),
                ptx_coef=0.0,
                episodes=8,
                batch_size=4,
                minibatch_size=2,
                warmup_iterations=0,
                optimizer=ADAM,
                value_optimizer=ADAM,
                result="last",
                snapshot_every=1,
                adapter=LORA,
                **LENGTHS,
            ),
            "dpo": lambda: dpo.Config(
                init=str(self.done("sft")),
                rankings=file("rankings"),
                epochs=2,
                batch_size=4,
                max_k=2,
                optimizer=ADAM,
                adapter=LORA,
                **LENGTHS,
            ),
        }[name]()
        return dataclasses.replace(made, **changes)

    def done(self, name):
        """The directory of a stage."""
        directory = self.folder / name
        if not directory.exists():
            self.run(name, directory)
        return directory

    def run(self, name, directory, **changes):
        module = {"sft": sft, "reward": reward, "ppo": ppo, "dpo": dpo}[name]
        return module.run(self.config(name, **changes), directory, SETTINGS)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    on_one_device()
    return House(tmp_path_factory.mktemp("house"))


def rows_of(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def bases_of(loaded):
    """Pointers to the matrices of a model's base."""
    leaves = leaf_paths(loaded.adapter.base.params).values()
    return {leaf.unsafe_buffer_pointer() for leaf in leaves}


def test_a_directory_of_an_adapter_holds_it_alone_and_names_its_base(house):
    model = house.done("sft") / "model"
    text = json.loads((model / "model.json").read_text())["adapter"]
    assert text["lora"]["rank"] == 2 and text["base"]["path"] == "../../base"
    stored = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    whole = sum(f.stat().st_size for f in (house.folder / "base").rglob("*"))
    loaded = load_model(house.done("sft"))
    own = split(loaded)[1]
    assert own.keys() == {"trunk"} and stored < whole
    moved = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(own))
    assert moved > 0.0


def test_training_lowers_the_loss_and_leaves_the_base_alone(house):
    rows = rows_of(house.done("sft"))
    assert rows[-1]["loss"] < rows[0]["loss"]
    base = load_model(house.folder / "base").params
    kept = load_model(house.done("sft")).adapter.base.params
    for path, leaf in leaf_paths(kept).items():
        given = leaf_paths(base)[path].astype(leaf.dtype)
        np.testing.assert_array_equal(leaf, given, err_msg=path)


def test_a_run_that_was_cut_goes_on_with_the_same_bits(house, tmp_path):
    house.run("sft", tmp_path / "long", epochs=3)
    house.run("sft", tmp_path / "cut", epochs=1)
    house.run("sft", tmp_path / "cut", epochs=3)
    long, cut = (
        leaf_paths(split(load_model(tmp_path / name))[1]) for name in ("long", "cut")
    )
    for path, leaf in long.items():
        np.testing.assert_array_equal(leaf, cut[path], err_msg=path)


def test_a_base_that_has_changed_is_refused(house, tmp_path, monkeypatch):
    shutil.copytree(house.folder / "base", tmp_path / "base")
    house.run("sft", tmp_path / "sft", init=str(tmp_path / "base"), epochs=1)
    other = load_model(house.folder / "base")
    params = jax.tree.map(lambda leaf: leaf * 1.01, other.params)
    save_model(tmp_path / "base", other.model, params, other.tokenizer, other.meta)
    monkeypatch.setattr(adapters, "_BASES", {})  # as in a new process
    with pytest.raises(InputError, match="other parameters than those it was trained"):
        load_model(tmp_path / "sft")
    shutil.rmtree(tmp_path / "base")
    monkeypatch.setattr(adapters, "_BASES", {})
    with pytest.raises(InputError, match="the base of this adapter"):
        load_model(tmp_path / "sft")


def test_an_adapter_of_another_kind_is_not_gone_on_with(house, tmp_path):
    other = dataclasses.replace(LORA, rank=3)
    with pytest.raises(InputError, match="take the same, or export it merged first"):
        house.run("reward", tmp_path, adapter=other)


def test_the_reward_model_is_a_change_of_the_same_arrays(house):
    policy = load_model(house.done("sft"))
    scorer = load_reward_model(house.done("reward"))
    assert bases_of(policy) == bases_of(scorer)
    assert "head" in split(scorer)[1]
    report = json.loads((house.done("reward") / "report.json").read_text())
    scores = load_reward(house.done("reward")).score(WORDS, [w * 2 for w in WORDS])
    assert abs(float(scores.mean())) < 1e-4 and report["bias"] != 0.0


def players_of(house, **changes):
    config = house.config("ppo", **changes)
    scorer = load_reward(config.reward, **LENGTHS)
    return config, make_players(config, load_model(config.init), scorer, None)


def test_four_roles_stand_on_one_base(house):
    config, players = players_of(house)
    cast = Cast.of(players)
    assert set(cast.roles) == {"policy", "reference", "reward", "value"}
    assert len(cast.frozen["bases"]) == 1
    (base,) = cast.frozen["bases"].values()
    own = {**cast.first, **cast.frozen}
    own.pop("bases")
    whole = cast.whole(own, cast.frozen["bases"])
    pointers = lambda tree: {  # noqa: E731
        leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)
    }
    for role, params in whole.items():
        assert pointers(params) <= pointers(base) | pointers(own[role])
    small = sum(leaf.nbytes for leaf in jax.tree.leaves(own["policy"]))
    assert small < 0.2 * sum(leaf.nbytes for leaf in jax.tree.leaves(base))


def test_what_the_roles_say_is_what_whole_models_of_their_own_say(house):
    config, players = players_of(house)
    cast = Cast.of(players)
    rng = np.random.default_rng(0)
    samples = {
        "prompts": jnp.asarray(rng.integers(0, 200, (3, 6)), jnp.int32),
        "valid": jnp.ones((3, 6), bool),
        "tokens": jnp.asarray(rng.integers(0, 200, (3, 5)), jnp.int32),
        "mask": jnp.arange(5)[None] < jnp.array([[5], [2], [4]]),
        "finished": jnp.ones(3, bool),
    }
    models = players.policy.model, players.reward_model, players.value.model
    assess = make_assess(*models, temperature=1.0)
    # a policy that has moved on from the reference
    moved = jax.tree.map(lambda leaf: leaf + 0.03, cast.first["policy"])
    own = {**cast.frozen, **cast.first, "policy": moved}
    found = jax.jit(cast.of_whole(assess))(own, samples)
    alone = dataclasses.replace(
        players.policy, params=split(players.policy)[0].whole(moved)
    )
    four = {
        "policy": merged_model(alone).params,
        "reference": merged_model(load_model(house.done("sft"))).params,
        "reward": merged_model(load_reward_model(house.done("reward"))).params,
        "value": merged_model(players.value).params,
    }
    expected = assess(four, samples)
    assert float(found["exact_kl"].max()) > 1e-3
    for name in ("old_logprobs", "ref_logprobs", "exact_kl", "old_values", "scores"):
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-5, atol=2e-5, err_msg=name
        )


def test_ppo_learns_by_adapters_and_hands_one_over(house):
    rows = rows_of(house.done("ppo"))
    assert len(rows) == 2 and rows[0]["first_ratio_error"] < 1e-4
    assert rows[0]["kl_exact"] == 0.0 and rows[1]["kl_exact"] > 0.0
    policy = load_model(house.done("ppo"))
    assert bases_of(policy) == bases_of(load_model(house.done("sft")))
    snapshot = load_model(house.done("ppo") / "snapshots/000001")
    assert snapshot.adapter.base is policy.adapter.base
    manifest = next((house.done("ppo") / "checkpoints").rglob("MANIFEST.json"))
    kept = json.loads(manifest.read_text())["leaves"]
    assert not [path for path in kept if "embed" in path or "norm" in path]
    of_layers = [path for path in kept if "/layers/" in path]
    assert of_layers and all(path[-6:-1] == "lora_" for path in of_layers)
    heads = {path.split("/")[1] for path in kept if "/head/" in path}
    assert "params/value/head/kernel" in kept and "policy" not in heads


def test_a_base_lives_once_while_ppo_runs(house):
    config, players = players_of(house)
    matrix = players.policy.adapter.base.params["trunk"]["token_embed"]["embedding"]
    run = ppo.train(
        load_model(config.init),
        [Prompt(id=w, prompt=w) for w in WORDS],
        reward=load_reward(config.reward, **LENGTHS),
        config=dataclasses.replace(config, snapshot_every=None),
        settings=SETTINGS,
    )
    next(iter(run))
    alive = {
        leaf.unsafe_buffer_pointer()
        for leaf in jax.live_arrays()
        if leaf.shape == matrix.shape and leaf.dtype == matrix.dtype
    }
    assert alive == {matrix.unsafe_buffer_pointer()}


def test_dpo_begins_at_its_reference_and_shares_the_base(house):
    rows = rows_of(house.done("dpo"))
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert load_model(house.done("dpo")).adapter.config == LORA


@pytest.mark.parametrize("loss", ["kto", "orpo"])
def test_other_losses_of_preferences_learn_by_adapters(house, tmp_path, loss):
    changes = {"reference": str(house.folder / "base")} if loss == "kto" else {}
    house.run("dpo", tmp_path, loss=loss, **changes)
    assert all(np.isfinite(row["loss"]) for row in rows_of(tmp_path))


def test_an_ensemble_of_adapters_is_scored_on_one_base(house, tmp_path):
    house.run("reward", tmp_path, seeds=(0, 1))
    whole = load_reward_model(tmp_path / "model")
    members = [load_reward_model(tmp_path / f"seed_{i}/model") for i in (0, 1)]
    assert whole.model.one_base and bases_of(whole) == bases_of(members[0])
    from rlhf_jax.registry import as_reward

    answers = [w + "b" for w in WORDS]
    each = [as_reward(member).score(WORDS, answers) for member in members]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    found = as_reward(whole).score(WORDS, answers)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)
    rows = house.run("ppo", tmp_path / "ppo", reward=str(tmp_path / "model"))
    assert load_model(rows).adapter is not None


def test_training_whole_goes_on_from_the_merged_matrices(house, tmp_path):
    house.run("sft", tmp_path, init=str(house.done("sft")), adapter=None, epochs=1)
    whole = load_model(tmp_path)
    assert whole.adapter is None
    first = rows_of(tmp_path)[0]["loss"]
    assert first < rows_of(house.done("sft"))[0]["loss"]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(whole.params))


def test_a_model_in_memory_leaves_its_base_beside_the_adapter(house, tmp_path):
    base = load_model(house.folder / "base")
    params = jax.tree.map(lambda leaf: leaf * 1.1, base.params)
    start = dataclasses.replace(base, params=params, source=None)
    rows = [Demonstration(id=w, prompt=w, response=w) for w in WORDS]
    config = house.config("sft", epochs=1)
    sft.train(start, rows, config=config, workdir=tmp_path, settings=SETTINGS).result()
    assert (tmp_path / "model/base/model.json").is_file()
    again = load_model(tmp_path)
    tokens = jnp.arange(8, dtype=jnp.int32)[None]
    out = again.model.apply({"params": again.params}, tokens)
    same = again.model.apply({"params": merged(again.params)}, tokens)
    np.testing.assert_allclose(out, same, atol=0.05)
