"""Chat templates of sixteen kinds: transformers' ids, and who is trained on what."""

import functools
import json
import pathlib
import tempfile
import unicodedata

import pytest
from chat_families import CHAT_FAMILIES, CONVERSATIONS, cases, messages_of
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.data.templates import TemplateForm
from rlhf_jax.data.tokenizers import SubwordTokenizer
from rlhf_jax.errors import InputError

GOLDEN = pathlib.Path(__file__).parent / "golden" / "chat_templates.json"
DATE = "27 Nov 2026"


@functools.cache
def theirs(family):
    """The family's tokenizer in transformers."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        CHAT_FAMILIES[family].tokenizer.save(folder)
        return AutoTokenizer.from_pretrained(folder)


def their_ids(family, messages, *, opened, tools=None):
    return theirs(family).apply_chat_template(
        messages,
        tools=tools,
        add_generation_prompt=opened,
        return_dict=True,
        date_string=DATE,
    )["input_ids"]


@functools.cache
def golden():
    return json.loads(GOLDEN.read_text())


def form_of(family, tools=None):
    return TemplateForm(CHAT_FAMILIES[family].tokenizer, tools, date_string=DATE)


def turns_of(family):
    """What can be trained: Qwen 3 writes earlier turns without their thoughts."""
    return "last" if CHAT_FAMILIES[family].rewrites else "all"


def trained_text(family, ids, weights):
    backend = CHAT_FAMILIES[family].tokenizer.backend
    kept = [i for i, weight in zip(ids, weights, strict=True) if weight]
    return backend.decode(kept, skip_special_tokens=False)


@pytest.mark.parametrize(("family", "name"), [*cases()])
def test_ids_are_those_of_transformers(family, name):
    _, turns, tools = CONVERSATIONS[name]
    messages, form = messages_of(turns), form_of(family, tools)
    expected = golden()[f"{family}: {name}"]
    assert form.prompt_ids(messages) == expected["prompt"]
    if messages[-1]["role"] == "assistant":
        ids, _ = form.training_ids(messages, turns_of(family))
        assert ids == expected["whole"]


@pytest.mark.parametrize(("family", "name"), [*cases()])
def test_ids_are_those_of_this_transformers(family, name):
    _, turns, tools = CONVERSATIONS[name]
    messages = messages_of(turns)
    for opened, key in ((True, "prompt"), (False, "whole")):
        found = their_ids(family, messages, opened=opened, tools=tools)
        assert found == golden()[f"{family}: {name}"][key]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_what_is_said_and_the_token_that_closes_it_are_trained(family):
    closing = CHAT_FAMILIES[family].closing
    messages = messages_of(CONVERSATIONS["two turns"][1])
    form = form_of(family)
    ids, weights = form.training_ids(messages, turns_of(family))
    said = trained_text(family, ids, weights).replace(" ", "")
    last = "<think>\n\n</think>\n\ntwo" if family == "qwen3" else "two"
    first = "" if family == "qwen3" else f"there,1234{closing}"
    assert said == f"{first}{last}{closing}"
    special = CHAT_FAMILIES[family].tokenizer.special_tokens
    assert form.end_tokens[0] == special[closing]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_an_answer_is_trained_behind_the_prompt_that_asks_for_it(family):
    """Prompt and response of generation and scoring are the two parts of training."""
    messages, form = messages_of(CONVERSATIONS["two turns"][1]), form_of(family)
    ids, weights = form.training_ids(messages, "last")
    prompt = form.prompt_ids(messages[:-1])
    response = form.response_ids(messages[:-1], messages[-1]["content"])
    assert ids[: len(prompt) + len(response)] == prompt + response
    assert weights[: len(prompt)] == [0.0] * len(prompt)
    assert weights[len(prompt) :] == [1.0] * len(response) + [0.0] * (
        len(ids) - len(prompt) - len(response)
    )


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_token_across_the_beginning_of_an_answer_is_cut_there(family):
    """An answer that begins with a line's end would melt into the header's."""
    said, answer = messages_of([("user", "hello")]), "\n\n there"
    form, spoken = form_of(family), [*said, {"role": "assistant", "content": answer}]
    if family == "zephyr":  # its tokenizer would put a space between
        with pytest.raises(InputError, match="across the beginning of an assistant's"):
            form.training_ids(spoken)
        return
    ids, weights = form.training_ids(spoken)
    prompt = form.prompt_ids(said)
    assert ids[: len(prompt)] == prompt
    assert weights[len(prompt) - 1 : len(prompt) + 1] == [0.0, 1.0]
    assert ids[len(prompt) :][: weights.count(1.0)] == form.response_ids(said, answer)


TOOL_CALLS = {
    "llama3.1": '{"name":"weather","parameters":{"city":"Zürich"}}<|eot_id|>',
    "mistral": '[TOOL_CALLS][{"name":"weather","arguments":{"city":"Zürich"}}]</s>',
    "qwen2.5": '<tool_call>\n{"name":"weather","arguments":{"city":"Zürich"}}\n'
    "</tool_call><|im_end|>",
}


@pytest.mark.parametrize("family", TOOL_CALLS)
def test_a_call_of_a_tool_is_trained_and_its_result_is_not(family):
    _, turns, tools = CONVERSATIONS["tools"]
    ids, weights = form_of(family, tools).training_ids(messages_of(turns))
    said = trained_text(family, ids, weights).replace(" ", "")
    assert said == f"{TOOL_CALLS[family]}21degrees{CHAT_FAMILIES[family].closing}"


def test_a_turn_that_is_written_otherwise_later_on_is_refused():
    messages = messages_of(CONVERSATIONS["two turns"][1])
    with pytest.raises(
        InputError, match=r"messages\[1\] otherwise.*train_turns='last'"
    ):
        form_of("qwen3").training_ids(messages, "all")


def test_weights_of_turns():
    messages = messages_of(CONVERSATIONS["two turns"][1])
    messages[1]["weight"], messages[3]["weight"] = 0, 0.5
    ids, weights = form_of("chatml").training_ids(messages)
    assert trained_text("chatml", ids, weights) == "two<|im_end|>"
    assert {*weights} == {0.0, 0.5}
    assert ids == golden()["chatml: two turns"]["whole"]


def test_a_system_message_is_refused_where_the_template_refuses_it():
    with pytest.raises(InputError, match="System role not supported"):
        form_of("gemma").prompt_ids(messages_of(CONVERSATIONS["system"][1]))


ADDED = len("<think></think>")  # the most that a template puts into an answer


PIECES = st.sampled_from(
    ["", " ", "\n", "\n\n", "hello", " there", "<|im_end|>", "</s>", "[/INST]", "<s"]
    + ["<|im_", "start|>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "é", "e\u0301"]
    + ["東京", "🙂", "\u200f", "\U000f0000", "\U00100000", "123", "{{ x }}", "]", "<"]
    + ["hello there " * 300]
)
TEXT = st.lists(PIECES | st.text(st.characters(codec="utf-8"), max_size=5), max_size=4)
ROLE = st.sampled_from(["system", "user", "assistant", "tool", "user", "assistant"])
TURN = st.tuples(ROLE, TEXT.map("".join))
TALK = st.lists(TURN, min_size=1, max_size=4) | st.builds(
    lambda a, b: [("user", a), ("assistant", b)], TEXT.map("".join), TEXT.map("".join)
)


@pytest.mark.parametrize("family", CHAT_FAMILIES)
@settings(max_examples=40)
@given(TALK)
def test_any_conversation_is_transformers_ids_or_refused(family, turns):
    """Control tokens that people type stay text; transformers reads them as such."""
    messages, form = messages_of(turns), form_of(family)
    tokenizer = CHAT_FAMILIES[family].tokenizer
    typed = any(name in said for _, said in turns for name in tokenizer.special_tokens)
    try:
        prompt = form.prompt_ids(messages)
        ids, weights = form.training_ids(messages, "last")
    except InputError as error:
        assert "\n" not in str(error)
        return
    controls = {*tokenizer.special_tokens.values()}
    clean = form.prompt_ids([{**m, "content": "x"} for m in messages])
    count = [sum(i in controls for i in found) for found in (prompt, clean)]
    assert count[0] == count[1]
    trained = [i for i, weight in enumerate(weights) if weight]
    assert trained == list(range(trained[0], trained[-1] + 1))
    before = messages[: -[m["role"] for m in reversed(messages)].index("assistant") - 1]
    if before:
        asked = form.prompt_ids(before)
        assert ids[: len(asked)] == asked and trained[0] == len(asked)
        answer = messages[len(before)]["content"]
        said = letters(tokenizer.decode([ids[i] for i in trained]))
        assert letters(answer) in said
        assert len(said) <= len(letters(answer)) + ADDED
    if not typed:
        whole = their_ids(family, messages, opened=False)
        # other ids only where a token of theirs stands across a turn's beginning
        assert ids == whole or tokenizer.decode(ids) == tokenizer.decode(whole)


def letters(text):
    """What can be compared whatever a tokenizer does to spaces and accents."""
    text = unicodedata.normalize("NFC", text).replace("\u2581", " ")
    return "".join(text.split())


NAMED = {
    "a begin token that the tokenizer itself puts nowhere": (
        "{{ bos_token }}" + CHAT_FAMILIES["chatml"].template,
        {"bos_token": "<|endoftext|>"},
    ),
    "a token of another name": (
        "{{ sep_token }}{{ unk_token is defined }}" + CHAT_FAMILIES["chatml"].template,
        {"sep_token": "<|im_end|>"},
    ),
    "a message as JSON": (
        "{% for m in messages %}<|im_start|>{{ m.content | tojson }}{% endfor %}",
        {},
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_every_token_that_the_configuration_names_is_a_variable(name, tmp_path):
    """Issue 19, case 11."""
    from transformers import AutoTokenizer

    template, names = NAMED[name]
    plain = CHAT_FAMILIES["chatml"].tokenizer
    config = {**plain.config, **names, "chat_template": template}
    tokenizer = SubwordTokenizer(plain.backend, config)
    tokenizer.save(tmp_path)
    said = [{"role": "user", "content": "héllo <b> there & you"}]
    expected = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        said, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert TemplateForm(tokenizer).prompt_ids(said) == expected


def test_a_template_that_closes_no_turn_is_not_trained():
    plain = CHAT_FAMILIES["chatml"].tokenizer
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    config = {**plain.config, "chat_template": template}
    form = TemplateForm(SubwordTokenizer(plain.backend, config))
    said = messages_of([("user", "hello"), ("assistant", "there")])
    assert form.end_tokens == plain.end_tokens
    with pytest.raises(InputError, match="could not learn to stop"):
        form.training_ids(said)
    with pytest.raises(InputError, match="could not learn to stop"):
        form.response_ids(said[:1], "there")


def test_generation_blocks_that_are_not_one_per_turn_are_refused():
    plain = CHAT_FAMILIES["smollm3"]
    template = plain.template.replace("m.role == 'assistant'", "loop.last")
    config = {**plain.tokenizer.config, "chat_template": template}
    form = TemplateForm(SubwordTokenizer(plain.tokenizer.backend, config))
    messages = messages_of(CONVERSATIONS["two turns"][1])
    with pytest.raises(InputError, match=r"one {% generation %} block for each turn"):
        form.training_ids(messages)
    assert form.prompt_ids(messages[:1])


def test_a_template_that_wants_a_system_prompt_is_read_with_one():
    wants = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}"
    form = variant(wants + "{% endif %}" + CHAT_FAMILIES["chatml"].template)
    said = messages_of([("system", "x"), ("user", "hello"), ("assistant", "two")])
    ids, weights = form.training_ids(said)
    assert trained_text("chatml", ids, weights) == "two<|im_end|>"
    with pytest.raises(InputError, match="no system"):
        form.prompt_ids(said[1:2])


def test_roles_spell_no_control_token():
    with pytest.raises(InputError, match=r"role: expected one of .*, got 'im_start'"):
        form_of("zephyr").prompt_ids([{"role": "im_start", "content": "x"}])


def test_two_texts_spell_no_control_token_together():
    plain = CHAT_FAMILIES["chatml"].tokenizer
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    config = {**plain.config, "chat_template": template}
    form = TemplateForm(SubwordTokenizer(plain.backend, config))
    ids = form.prompt_ids(messages_of([("user", "a <|im_"), ("user", "start|> b")]))
    assert not {*ids} & {*plain.special_tokens.values()}
    assert plain.decode(ids) == "a <|im_start|> b"


def test_a_vocabulary_with_gaps_is_refused_where_an_id_would_be_taken():
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    backend = Backend(models.BPE(vocab={"a": 0, "b": 1, "c": 5}, merges=[]))
    backend.add_special_tokens(["<1>", "</s>"])  # 3 and 4
    config = {"eos_token": "</s>", "chat_template": "{{ messages[0].content }}</s>"}
    with pytest.raises(InputError, match="its ids have gaps"):
        TemplateForm(SubwordTokenizer(backend, config)).prompt_ids("ab")


def variant(template):
    """A ChatML tokenizer's form with another template."""
    plain = CHAT_FAMILIES["chatml"].tokenizer
    config = {**plain.config, "chat_template": template}
    return TemplateForm(SubwordTokenizer(plain.backend, config))


def test_a_turn_ends_at_its_control_token_whatever_follows_it_there():
    """Calls of tools are followed by a line's end that other turns have not."""
    form = variant(
        "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ ':' }}"
        "{% if m.tool_calls %}{{ m.tool_calls[0].name ~ '<|im_end|>\n' }}"
        "{% else %}{{ m.content ~ '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
    )
    said = messages_of([("user", "hello"), ("assistant", "x"), ("tool", "two")])
    said[1]["tool_calls"] = [{"name": "weather"}]
    ids, weights = form.training_ids(said)
    assert trained_text("chatml", ids, weights) == "weather<|im_end|>"
    assert form.training_ids(said[:2], "last")[1][-1] == 0.0  # the line's end


def test_a_turn_whose_prompt_is_written_otherwise_later_on_is_refused():
    users = "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
    form = variant(users + CHAT_FAMILIES["chatml"].template)
    messages = messages_of(CONVERSATIONS["two turns"][1])
    with pytest.raises(InputError, match=r"messages\[1\] otherwise"):
        form.training_ids(messages)
    ids, weights = form.training_ids(messages, "last")
    assert trained_text("chatml", ids, weights) == "two<|im_end|>"
    form = variant("{{ messages | length }}" + CHAT_FAMILIES["chatml"].template)
    with pytest.raises(InputError, match=r"messages\[3\] otherwise"):
        form.training_ids(messages, "last")  # its prompt counts one message less
