"""The forms of a conversation, and records in them."""

from collections import Counter

import numpy as np
import pytest
from chat_families import CHAT_FAMILIES

from rlhf_jax.data import ByteTokenizer, Demonstration, Limits, Message, Prompt, Ranking
from rlhf_jax.data.conversations import conversation_form, default_form, require_form
from rlhf_jax.data.display import shown_tokens
from rlhf_jax.data.encoding import (
    encode_demonstrations,
    encode_prompts,
    encode_rankings,
)
from rlhf_jax.data.pipelines import demonstration_stream
from rlhf_jax.errors import InputError

BYTES, CHATML = ByteTokenizer(), CHAT_FAMILIES["chatml"].tokenizer
END = BYTES.end_token
TALK = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hi"),
    Message(role="assistant", content="Hello!"),
    Message(role="user", content="2+2?"),
    Message(role="assistant", content="4"),
]
ROW = Demonstration(id="1", prompt="Hi 2+2?", response="4", messages=TALK)


def trained(ids, weights, tokenizer=BYTES):
    return [tokenizer.token_text(i) for i, w in zip(ids, weights, strict=True) if w]


def test_the_default_form():
    assert default_form(CHATML, conversations=True) == "template"
    assert default_form(BYTES, conversations=True) == "transcript"
    assert default_form(CHATML, conversations=False) == "plain"


def test_another_form_than_the_models_is_refused_by_name():
    assert require_form("template", None, "runs/sft") == "template"
    with pytest.raises(
        InputError, match="runs/sft: .*'template', asked for is 'plain'"
    ):
        require_form("template", "plain", "runs/sft")
    with pytest.raises(InputError, match="expected one of template, transcript, plain"):
        conversation_form("chat", BYTES)
    with pytest.raises(InputError, match="expected the tokenizer to have one"):
        conversation_form("template", BYTES)


def test_a_transcript_trains_every_turn_of_the_assistant():
    form = conversation_form("transcript", BYTES)
    ids, weights = form.training_ids(TALK)
    assert BYTES.decode(ids) == (
        "\n\nSystem: Be brief.\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: 2+2?"
        "\n\nAssistant:4"
    )
    assert "".join(trained(ids, weights)) == " Hello!4<|endoftext|>"
    assert form.training_ids(TALK, "last")[0] == ids
    assert trained(*form.training_ids(TALK, "last")) == ["4", "<|endoftext|>"]
    assert form.prompt_ids(TALK[:-1]) == ids[:-2]


def test_a_transcript_in_subwords_trains_no_token_that_reaches_out_of_a_turn():
    tokenizer = CHAT_FAMILIES["llama3"].tokenizer  # joins two line ends
    talk = [*TALK[:2], Message(role="assistant", content="there\n\n"), *TALK[3:]]
    ids, weights = conversation_form("transcript", tokenizer).training_ids(talk)
    shown = "".join(trained(ids, weights, tokenizer))
    assert shown.startswith(" there") and "Human" not in shown


def test_a_question_is_the_same_in_every_form_without_a_template():
    for name in ("plain", "transcript"):
        form = conversation_form(name, BYTES)
        assert form.prompt_ids("Hi") == form.prompt_ids(TALK[1:2]) == [*b"Hi"]
        assert form.response_ids("Hi", "Ho") == [*b"Ho", END]
        assert form.end_tokens == (END,)


def test_a_conversation_has_no_plain_form():
    with pytest.raises(InputError, match="form 'template' or 'transcript'"):
        conversation_form("plain", BYTES).prompt_ids(TALK[:-1])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "im_start", "content": "x"}, r"messages\[0\].role"),
        ({"role": "user"}, r"messages\[0\].content"),
        ({"role": "user", "content": ["x"]}, r"messages\[0\].content"),
        (
            {"role": "assistant", "content": "x", "weight": -1},
            "weight: expected a number",
        ),
        ({"role": "assistant", "tool_calls": "{"}, "tool_calls: expected JSON"),
        ("x", "expected role and content"),
    ],
)
@pytest.mark.parametrize("form", ["transcript", "template"])
def test_a_message_that_is_none_is_refused(form, message, why):
    with pytest.raises(InputError, match=why):
        conversation_form(form, CHATML).training_ids([message])


def test_a_conversation_without_an_assistant_cannot_be_trained():
    for name in ("plain", "transcript", "template"):
        form = conversation_form(name, CHATML)
        with pytest.raises(InputError, match="a message of the assistant"):
            form.training_ids(TALK[:2])
        with pytest.raises(InputError, match="expected 'all' or 'last'"):
            form.training_ids(TALK, "first")


def test_a_row_in_the_plain_form_has_the_ids_it_has_without_a_form():
    rows = [Demonstration(id="1", prompt="2+2=", response="4")]
    (as_it_was,) = encode_demonstrations(rows, BYTES)
    (now,) = encode_demonstrations(rows, BYTES, form=conversation_form("plain", BYTES))
    assert (now.tokens, now.start) == (as_it_was.tokens, as_it_was.start)
    assert now.weights == [0, 0, 0, 0, 1, 1]


def test_demonstrations_prompts_and_rankings_of_one_template():
    """What SFT trains, what PPO continues and what a reward model scores are one."""
    form = conversation_form("template", CHATML)
    (row,) = encode_demonstrations([ROW], CHATML, form=form)
    (asked,) = encode_prompts([ROW], CHATML, form=form)
    ranking = Ranking(
        id="1", prompt="x", responses=["4", "5"], ranks=[1, 2], messages=TALK[:-1]
    )
    (ranked,) = encode_rankings([ranking], CHATML, form=form)
    assert asked.tokens == ranked.prompt
    assert row.tokens == ranked.prompt + ranked.responses[0]
    closing = CHATML.special_tokens["<|im_end|>"]
    assert [ids[-1] for ids in ranked.responses] == [closing, closing]
    assert trained(row.tokens, row.weights, CHATML)[-1] == "<|im_end|>"
    (alone,) = encode_prompts([Prompt(id="1", prompt="Hi")], CHATML, form=form)
    assert alone.tokens == form.prompt_ids([Message(role="user", content="Hi")])


def test_limits_of_a_conversation():
    form, counts = conversation_form("transcript", BYTES), Counter()
    limits = Limits(prompt=45, response=3, total=70)
    (row,) = encode_demonstrations([ROW], BYTES, limits, form=form, counts=counts)
    assert len(row.tokens) == 70 and row.truncated
    assert not [
        *encode_demonstrations([ROW], BYTES, Limits(9, 9), form=form, counts=counts)
    ]
    (row,) = encode_demonstrations(
        [ROW], BYTES, Limits(100, 1), form=form, train_turns="last", counts=counts
    )
    assert row.tokens[-1] == ord("4")
    assert counts == {"response_truncated": 2, "prompt_too_long": 1}


def test_a_row_of_weight_0_is_counted():
    silent = [*TALK[:2], TALK[2].model_copy(update={"weight": 0.0})]
    row = Demonstration(id="1", prompt="Hi", response="Hello!", messages=silent)
    form, counts = conversation_form("template", CHATML), Counter()
    assert not [*encode_demonstrations([row], CHATML, form=form, counts=counts)]
    assert counts == {"untrained": 1}
    with pytest.raises(InputError, match="nothing of it is trained"):
        shown_tokens(row, CHATML, form=form)


def test_a_refusal_names_the_record():
    gemma = CHAT_FAMILIES["gemma"].tokenizer
    form = conversation_form("template", gemma)
    with pytest.raises(InputError, match="record '1': chat template: System role"):
        [*encode_demonstrations([ROW], gemma, form=form)]


@pytest.mark.parametrize("layout", ["packed", "padded", "buckets"])
@pytest.mark.parametrize("weight", [None, 0.5])
def test_batches_train_the_assistants_turns_alone(layout, weight, tmp_path):
    talk = [*TALK[:2], TALK[2].model_copy(update={"weight": weight}), *TALK[3:]]
    row = ROW.model_copy(update={"messages": talk})
    form = conversation_form("template", CHATML)
    stream = demonstration_stream(
        [row, row],
        CHATML,
        batch_size=2,
        context_length=256,
        layout=layout,
        form=form,
        cache=tmp_path,
    )
    batch = stream.batch(0)
    expected = trained(*form.training_ids(talk), CHATML)
    mask = batch["mask"]
    assert mask.dtype == (bool if weight is None else np.float32)
    found = [CHATML.token_text(i) for i in batch["tokens"][mask > 0]]
    assert found == expected * 2
    assert not mask[~batch["valid"]].any()
    if weight:
        assert {*mask[mask > 0].tolist()} == {0.5, 1.0}


def test_a_shown_record_is_coloured_by_what_is_trained():
    text = shown_tokens(ROW, CHATML, form=conversation_form("template", CHATML))
    green = [span for span in text.spans if span.style == "black on green"]
    shown = "".join(text.plain[span.start : span.end] for span in green)
    assert shown == "Hello!<|im_end|>4<|im_end|>"
