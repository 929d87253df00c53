"""Suites ask a model in its own form: what is read, and what is scored."""

import dataclasses
import pathlib
import sys

import jax
import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "data"))

from chat_families import CHAT_FAMILIES  # noqa: E402

from rlhf_jax.cli import main  # noqa: E402
from rlhf_jax.data import Message, Prompt  # noqa: E402
from rlhf_jax.errors import InputError  # noqa: E402
from rlhf_jax.evaluation.model_functions import ModelPolicy  # noqa: E402
from rlhf_jax.evaluation.policy import load_policy  # noqa: E402
from rlhf_jax.evaluation.suites.bias import SentencePair, bias_scores  # noqa: E402
from rlhf_jax.evaluation.suites.public import PUBLIC_TASKS  # noqa: E402
from rlhf_jax.evaluation.suites.runs import preference_results  # noqa: E402
from rlhf_jax.evaluation.suites.tasks import Item  # noqa: E402
from rlhf_jax.evaluation.suites.truthfulness import (  # noqa: E402
    Question,
    choice_truthfulness,
)
from rlhf_jax.models import TrunkConfig  # noqa: E402
from rlhf_jax.registry import (  # noqa: E402
    ModelReward,
    reward_from,
    save_model,
    score_records,
)
from rlhf_jax.stages.pretrain import fresh_model  # noqa: E402

QUERY = "Passage: hello\nQuestion: what is two?\nAnswer:"
TALK = [
    Message(role="user", content="hello"),
    Message(role="assistant", content="there"),
    Message(role="user", content="what?"),
]


@dataclasses.dataclass
class Watched(ModelPolicy):
    """Keeps what the model reads before a completion, and the completion."""

    def __post_init__(self):
        self.heads, self.tails = [], []

    def _pair_arrays(self, heads, tails):
        self.heads += heads
        self.tails += tails
        return super()._pair_arrays(heads, tails)


def model_of(family, form):
    shape = TrunkConfig(1, 512, 16, 1, 2)
    found = fresh_model(shape, CHAT_FAMILIES[family].tokenizer)
    return found.in_form((), form)


@pytest.fixture(scope="module")
def chat():
    return model_of("chatml", "template")


def spelled(model, ids):
    return "".join(map(model.tokenizer.token_text, ids))


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_what_is_scored_is_the_answer_alone_behind_its_prompt(family):
    model = model_of(family, "template")
    policy = ModelPolicy("p", model)
    head = policy._prompt_ids(QUERY, 512)
    tail = policy._completion_ids(QUERY, " two")
    asked = [{"role": "user", "content": QUERY}]
    assert head == model.form.prompt_ids(asked)
    said = [*asked, {"role": "assistant", "content": "two"}]
    ids, weights = model.form.training_ids(said)
    assert ids[: len(head) + len(tail)] == head + tail
    closing = [i for i, weight in zip(ids, weights, strict=True) if weight][len(tail) :]
    assert spelled(model, tail).strip(" \u2581").endswith("two")
    assert "two" not in spelled(model, closing) and closing[-1] in model.form.end_tokens
    assert policy._completion_ids(QUERY, "") == []


@pytest.mark.parametrize("form", ["plain", "transcript"])
def test_without_a_template_a_prompt_is_read_as_it_stands(form):
    policy = ModelPolicy("p", model_of("chatml", form))
    tokenizer = policy.tokenizer
    assert policy._prompt_ids(QUERY, 512) == tokenizer.encode(QUERY)
    assert policy._completion_ids(QUERY, " two") == tokenizer.encode(" two")


def test_solved_examples_and_query_are_one_turn_of_the_user(chat):
    policy = Watched("p", chat, batch_size=2)
    item = Item("1", QUERY, "Yes", options=(" Yes", " No"))
    PUBLIC_TASKS["rte"].ask(policy, [item], ["Passage: x\nAnswer: No"], "few-shot")
    asked = f"Passage: x\nAnswer: No\n\n{QUERY}"
    assert policy.heads == [chat.form.prompt_ids(asked)] * 2
    assert sorted(spelled(chat, ids) for ids in policy.tails) == ["No", "Yes"]


def test_an_answer_of_truthfulqa_is_the_turn_of_the_assistant(chat):
    policy = Watched("p", chat, batch_size=2)
    choice_truthfulness(policy, [Question("what?", "two", ("two",), ("12",))])
    assert {spelled(chat, ids) for ids in policy.tails} == {"two", "12"}
    begin = spelled(chat, policy.heads[0])
    assert begin.startswith("<|im_start|>user\nQ: What is human life expectancy")
    assert begin.endswith("Q: what?\nA:<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("condition", ["basic", "respectful"])
def test_a_sentence_is_scored_behind_its_instruction(chat, condition):
    policy = Watched("p", chat, batch_size=2)
    pair = SentencePair("1", "you are two", "you are twelve")
    prefixes = {"basic": "", "respectful": "Be brief:"}
    bias_scores("bias", policy, [pair], condition=condition, prefixes=prefixes)
    expected = chat.form.prompt_ids(prefixes[condition])
    assert policy.heads == [expected] * 2
    assert sorted(spelled(chat, i) for i in policy.tails) == [pair.second, pair.first]


def test_a_conversation_is_asked_as_one_and_judged_as_one(chat):
    record = Prompt(id="1", prompt="as a transcript", messages=TALK)
    policies = [ModelPolicy(n, chat, max_new_tokens=2, batch_size=1) for n in "ab"]
    seen = []

    def judge(records, first, second):
        seen.extend(records)
        return np.full(len(records), 0.5)

    assert set(preference_results(policies, [record], "a", judge)) == {"b"}
    assert seen == [record, record]
    reward = ModelReward(reward_from(chat, jax.random.key(0)))
    found = score_records(reward, [record], ["two"])
    np.testing.assert_array_equal(found, reward.score([TALK], ["two"]))
    assert found != reward.score([record.prompt], ["two"])


def test_another_form_is_asked_for_by_name_or_refused(chat, tmp_path, capsys):
    settled, free = tmp_path / "settled", tmp_path / "free"
    for folder, meta in ((settled, chat.meta), (free, {})):
        save_model(folder, chat.model, chat.params, chat.tokenizer, meta)
    assert load_policy(settled).loaded.form.name == "template"
    assert load_policy(free).loaded.form.name == "plain"
    assert load_policy(free, form="template").loaded.form.name == "template"
    with pytest.raises(InputError, match="settled: reads .* 'template'.* 'plain'"):
        load_policy(settled, form="plain")
    data = tmp_path / "val.jsonl"
    data.write_text('{"premise": "x.", "hypothesis": "y", "label": "entailment"}\n')
    words = ["eval", "--suite", "rte", "--data", str(tmp_path), "--shots", "0"]
    assert main([*words, str(free)]) == 0
    said = capsys.readouterr().err
    assert "free: prompts in the form 'plain'; its tokenizer has a chat temp" in said
    assert main([*words, str(settled), "--form", "plain"]) == 2
    assert "settled: reads conversations as 'template'" in capsys.readouterr().err


def test_conversations_choose_the_form_of_a_policy_that_keeps_none(chat, tmp_path):
    save_model(tmp_path, chat.model, chat.params, chat.tokenizer, {})
    record = Prompt(id="1", prompt="as a transcript", messages=TALK)
    assert load_policy(tmp_path, records=[record]).loaded.form.name == "template"
    plain = load_policy(tmp_path, form="plain", records=[record])
    with pytest.raises(InputError, match="'plain' holds a single question"):
        plain.generate([TALK])
