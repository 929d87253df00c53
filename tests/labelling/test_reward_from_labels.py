"""A reward model trained from a study's database, end to end."""

import json

import jax
import pytest
from studies import server
from worlds import world_sets

from rlhf_jax.data import Prompt, Ranking, train_bpe
from rlhf_jax.feedback import Asked, load_labelers
from rlhf_jax.labelling.imports import CandidateSet
from rlhf_jax.labelling.serving import running
from rlhf_jax.labelling.simulate import simulate
from rlhf_jax.labelling.store import open_store
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.registry import LoadedModel
from rlhf_jax.stages import reward
from rlhf_jax.stages.candidates import rank_candidates, require_people
from rlhf_jax.training import OptimizerConfig

SETTINGS = {"max_prompt": 96, "max_response": 48, "batch_size": 16, "epochs": 3}


def asked_of(sets: list[CandidateSet]) -> tuple[list[Prompt], list[list[str]]]:
    names = set(Prompt.model_fields)
    fields = [row.model_dump(include=names) for row in sets]
    return [Prompt(**one) for one in fields], [row.responses for row in sets]


def ranked_by(spec: str, sets: list[CandidateSet]) -> list[Ranking]:
    """What a `candidates` stage makes of these sets."""
    prompts, responses = asked_of(sets)
    labelers = load_labelers(spec)
    require_people(prompts, responses, labelers, Asked())
    return rank_candidates(prompts, responses, labelers, [0])


@pytest.mark.slow
def test_a_reward_model_from_the_database_is_as_good_as_from_files(tmp_path):
    """The same sets, once ranked over HTTP and once directly, by the same group."""
    sets, other = world_sets(240), world_sets(240, "held")
    where = tmp_path / "study"
    with pytest.raises(ValueError, match="wait for people"):
        ranked_by(f"label:{where}", sets)
    study = open_store(where)
    with running(server(study)) as address:
        simulate(study, address, "training", count=12)
    study.close()
    held_out = {"valid": ranked_by("simulated:training", other)}
    start = fresh(sets)
    found = {}
    for name in ("database", "files"):
        spec = f"label:{where}" if name == "database" else "simulated:training"
        config = reward.Config(
            optimizer=OptimizerConfig(name="adam", learning_rate=1e-3), **SETTINGS
        )
        trained = reward.train(
            start, ranked_by(spec, sets), held_out=held_out, config=config,
            workdir=tmp_path / name,
        )  # fmt: skip
        assert trained.model is not None
        found[name] = json.loads((tmp_path / name / "report.json").read_text())["valid"]
    one, two = found["database"], found["files"]
    print({name: report["accuracy"] for name, report in found.items()})
    assert min(one["accuracy"], two["accuracy"]) > 0.5
    # other labels of the same people: the intervals miss each other by luck in 0.6 %
    assert one["accuracy_low"] <= two["accuracy_high"]
    assert two["accuracy_low"] <= one["accuracy_high"]


def fresh(sets: list[CandidateSet]) -> LoadedModel:
    """A small language model that knows nothing yet."""
    texts = [row.prompt for row in sets] + [t for row in sets for t in row.responses]
    model = LanguageModel(TrunkConfig(600, 160, 48, 2, 3))
    params = jax.jit(lambda: init_params(model, jax.random.key(0)))()
    return LoadedModel(model, params, train_bpe(texts, 600), {})
