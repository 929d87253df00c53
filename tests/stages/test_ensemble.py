"""Several reward models that score as one: numbers, directories, training, PPO."""

import json
import signal

import jax
import numpy as np
import pytest
from test_stage_kills import Runs, bits, lines

from rlhf_jax.data.inputs import encode_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.models.responses import response_scores
from rlhf_jax.registry import (
    as_reward,
    load_model,
    load_reward,
    load_reward_model,
    reward_from,
    save_model,
)
from rlhf_jax.registry.ensemble import (
    ensemble_of,
    first_member,
    member_scores,
    reward_scores,
    save_ensemble,
)
from rlhf_jax.stages import reward
from rlhf_jax.tracking import read_metrics

SEEDS = (1, 5, 9)
PROMPTS, TEXTS = ["Who?\n", "Name the mill.\n", "x"], ["Ann.", "", "Yes it is"]
LENGTHS = {"max_prompt": 40, "max_response": 12}


@pytest.fixture(scope="module")
def members(tiny):
    policy = tiny.model("pretrain")
    return [reward_from(policy, jax.random.key(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def by_member(members):
    """[E, B]: what each member says when nobody else is there."""
    return np.stack([as_reward(m, **LENGTHS).score(PROMPTS, TEXTS) for m in members])


def scores_of(members, **options):
    return as_reward(ensemble_of(members, **options), **LENGTHS).score(PROMPTS, TEXTS)


def test_an_ensemble_of_equal_members_is_the_member(members, by_member):
    for combination in ("mean", "min", "uncertainty_weighted"):
        found = scores_of([members[0]] * 3, combination=combination)
        np.testing.assert_allclose(found, by_member[0], rtol=1e-5, atol=1e-6)


def test_the_combinations_are_numpy_s(members, by_member):
    assert by_member.std(axis=0).min() > 1e-3
    wanted = {
        "mean": by_member.mean(axis=0),
        "min": by_member.min(axis=0),
        "uncertainty_weighted": by_member.mean(axis=0) - 3.0 * by_member.var(axis=0),
    }
    for combination, scores in wanted.items():
        found = scores_of(members, combination=combination, variance_coef=3.0)
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-5)


def test_the_spread_is_the_standard_deviation_of_the_members(members):
    whole = ensemble_of(members)
    batch = encode_prompts(PROMPTS, whole.tokenizer, 20)
    batch |= {"tokens": np.full((3, 4), 7, np.int32), "mask": np.ones((3, 4), bool)}

    @jax.jit
    def both(params):
        apart = member_scores(whole.model, params, batch)
        return apart, reward_scores(whole.model, params, batch)

    apart, found = both(whole.params)
    alone = [response_scores(m.model, m.params, batch) for m in members]
    np.testing.assert_allclose(apart, alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["score_spread"], np.std(apart, 0), rtol=1e-4)
    single = reward_scores(members[0].model, members[0].params, batch)
    assert set(single) == {"scores"}


def test_what_does_not_fit_together_is_refused(members):
    other = members[0].with_config(num_layers=1)
    with pytest.raises(InputError, match="another shape"):
        ensemble_of([members[0], other])
    with pytest.raises(InputError, match="no members"):
        ensemble_of([])
    with pytest.raises(InputError, match="'median' is not one of mean, min"):
        ensemble_of(members, combination="median")


def test_a_directory_names_its_members(members, tmp_path):
    for number, member in enumerate(members[:2]):
        save_model(
            tmp_path / f"{number}", member.model, member.params, member.tokenizer, {}
        )
    save_ensemble(tmp_path / "all", ["../0", "../1"], {})
    loaded = load_reward_model(tmp_path / "all", combination="min")
    first = first_member(loaded)
    for ours, wanted in zip(
        *map(jax.tree.leaves, (first.params, members[0].params)), strict=True
    ):
        np.testing.assert_array_equal(ours, wanted)
    assert first.model == members[0].model
    found = as_reward(loaded, **LENGTHS).score(PROMPTS, TEXTS)
    np.testing.assert_allclose(
        found, scores_of(members[:2], combination="min"), rtol=1e-5
    )
    with pytest.raises(InputError, match="an ensemble of reward models"):
        load_model(tmp_path / "all")
    (tmp_path / "all/ensemble.json").write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object"):
        load_reward(tmp_path / "all")


def test_a_language_model_is_no_reward(tiny):
    with pytest.raises(InputError, match="expected a reward model"):
        load_reward(tiny.done("pretrain") / "model")


@pytest.fixture(scope="module")
def two_seeds(tiny):
    """The config of a reward stage with two seeds, and with buckets."""
    return tiny.config("reward", epochs=2, seeds=(0, 3), k_buckets=(5,))


@pytest.fixture(scope="module")
def trained(tiny, two_seeds, tmp_path_factory):
    """The directory of that stage."""
    workdir = tmp_path_factory.mktemp("two_seeds")
    reward.run(two_seeds, workdir, tiny.settings)
    return workdir


def test_each_seed_is_a_model_of_its_own(trained):
    first, second = (bits(trained / f"seed_{seed}/model") for seed in (0, 3))
    assert first != second
    report = json.loads((trained / "report.json").read_text())
    assert 0 <= report["valid"]["accuracy"] <= 1
    assert load_reward_model(trained / "model").meta["members"] == 2


def test_a_report_draws_one_curve_for_each_member(trained):
    from rlhf_jax.reports.run_report import learning_sections

    (figure,) = learning_sections({"stages": {"RM": str(trained)}, "runs": {}})
    assert "seed_0" in figure and "seed_3" in figure


def test_two_seeds_killed_in_the_second_end_in_the_same_bits(
    tiny, two_seeds, trained, tmp_path
):
    runs = Runs(tiny, "reward", "fresh_reward", tmp_path, two_seeds)
    steps = len(lines(trained / "seed_0"))
    code = runs.start(tmp_path / "run", f"train.step:{steps + 6}:SIGKILL")
    assert code == -signal.SIGKILL
    assert (tmp_path / "run/seed_0/model/model.json").is_file()
    assert not (tmp_path / "run/seed_3/model").exists()
    assert not (tmp_path / "run/model").exists()
    reward.run(two_seeds, tmp_path / "run", tiny.settings)
    for name in ("seed_0", "seed_3"):
        ours, wanted = (folder / name for folder in (tmp_path / "run", trained))
        assert bits(ours / "model") == bits(wanted / "model")
        assert lines(ours) == lines(wanted)
    for name in ("model/ensemble.json", "report.json"):
        assert (tmp_path / "run" / name).read_text() == (trained / name).read_text()


def test_ppo_trains_against_an_ensemble_and_tells_its_spread(tiny, trained, tmp_path):
    tiny.run(
        "ppo", tmp_path, reward=str(trained / "model"), ensemble="min", episodes=16
    )
    rows = list(read_metrics(tmp_path))
    assert len(rows) == 2
    assert all(row["member_spread"] > 0 for row in rows)


def test_best_of_n_takes_an_ensemble(tiny, trained, tmp_path):
    changes = {"ensemble": "uncertainty_weighted", "variance_coef": 2.0}
    reward_model = str(trained / "model")
    tiny.run("best_of_n", tmp_path, reward=reward_model, max_prompts=2, **changes)
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").open()]
    lengths = {"max_prompt": 48, "max_response": 12}
    apart = [
        load_reward(trained / f"seed_{seed}/model", **lengths).score for seed in (0, 3)
    ]
    for row in rows:
        said = [one([row["prompt"]] * 4, row["responses"]) for one in apart]
        wanted = np.mean(said, axis=0) - 2.0 * np.var(said, axis=0)
        np.testing.assert_allclose(row["scores"], wanted, rtol=1e-3, atol=1e-4)
