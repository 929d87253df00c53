"""The form of conversation that a model is trained in is the one it is used in."""

import dataclasses
import pathlib
import sys

import jax
import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "data"))

from chat_families import CHAT_FAMILIES  # noqa: E402

from rlhf_jax.data import Demonstration, Message  # noqa: E402
from rlhf_jax.data.inputs import prompt_rows  # noqa: E402
from rlhf_jax.errors import InputError  # noqa: E402
from rlhf_jax.experience import Writer  # noqa: E402
from rlhf_jax.models import TrunkConfig  # noqa: E402
from rlhf_jax.registry import (  # noqa: E402
    ModelReward,
    load_model,
    load_reader,
    reward_from,
    save_model,
)
from rlhf_jax.stages import sft  # noqa: E402
from rlhf_jax.stages.pretrain import fresh_model  # noqa: E402
from rlhf_jax.training.settings import RunSettings  # noqa: E402

TALK = [
    Message(role="user", content="Who runs the mill?"),
    Message(role="assistant", content="Ann."),
]
ROWS = [
    Demonstration(id=str(i), prompt="p", response="Ann.", messages=TALK) for i in (0, 1)
]
CONFIG = sft.Config(
    epochs=1,
    batch_size=2,
    max_prompt=120,
    max_response=20,
    residual_dropout=0.0,
    select_by="last",
)


@pytest.fixture(scope="module")
def start():
    tokenizer = CHAT_FAMILIES["chatml"].tokenizer
    return fresh_model(TrunkConfig(1, 160, 16, 1, 2), tokenizer)


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms") / "sft"
    settings = RunSettings(mesh="1,1,1", tensorboard=False)
    with pytest.MonkeyPatch.context() as patch:
        one = jax.devices()[:1]
        from rlhf_jax.parallel import make_mesh

        patch.setattr(RunSettings, "make_mesh", lambda self: make_mesh(devices=one))
        sft.train(
            start, ROWS, config=CONFIG, workdir=folder, settings=settings
        ).result()
    return folder


def test_conversations_choose_the_template_and_the_model_keeps_it(trained):
    assert load_model(trained).form.name == "template"
    assert load_reader(trained).form.name == "template"
    assert (trained / "rows.json").exists()


def test_what_is_sampled_after_is_what_was_trained_before_the_answer(trained):
    form = load_model(trained).form
    ids, weights = form.training_ids(TALK)
    asked = form.prompt_ids(TALK[:1])
    assert ids[: len(asked)] == asked and not any(weights[: len(asked)])
    assert prompt_rows([TALK[:1]], form) == [asked]
    written = next(
        Writer(load_model(trained), 4).batches([TALK[:1]], jax.random.key(0))
    )
    valid = np.asarray(written.samples["valid"][0])
    assert np.asarray(written.samples["prompts"][0])[valid].tolist() == asked


def test_a_reward_model_reads_the_form_of_its_policy(trained):
    judge = reward_from(load_model(trained), jax.random.key(1))
    rows = ModelReward(judge)._rows([TALK[:1]], ["Ann."])
    form = judge.form
    whole = form.prompt_ids(TALK[:1]) + form.response_ids(TALK[:1], "Ann.")
    assert rows == [whole] == [form.training_ids(TALK)[0][: len(whole)]]
    records = [{"messages": TALK[:1]}]
    given = ModelReward(judge).score(["p"], ["Ann."], records)
    np.testing.assert_array_equal(given, ModelReward(judge).score([TALK[:1]], ["Ann."]))


def test_another_form_than_the_models_is_refused_by_name(trained):
    config = dataclasses.replace(CONFIG, form="plain")
    with pytest.raises(InputError, match="sft.form.*'template'.*'plain'"):
        sft.train(load_model(trained), ROWS, config=config)


def test_a_reward_that_was_saved_keeps_its_form(trained, tmp_path):
    judge = reward_from(load_model(trained), jax.random.key(1))
    save_model(tmp_path / "m", judge.model, judge.params, judge.tokenizer, judge.meta)
    assert load_model(tmp_path / "m").form.name == "template"
