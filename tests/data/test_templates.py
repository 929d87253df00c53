"""Chat templates of sixteen kinds: transformers' ids, and who is trained on what."""

import functools
import json
import pathlib

import pytest
from chat_families import CHAT_FAMILIES, CONVERSATIONS, cases, messages_of
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data.conversations import conversation_form
from rlhf_jax.data.templates import TemplateForm
from rlhf_jax.errors import InputError

GOLDEN = pathlib.Path(__file__).parent / "golden" / "chat_templates.json"
DATE = "27 Nov 2026"


@functools.cache
def theirs(family: str):
    """The family's tokenizer in transformers."""
    import tempfile

    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        CHAT_FAMILIES[family].tokenizer.save(folder)
        return AutoTokenizer.from_pretrained(folder)


def their_ids(family, messages, *, opened, tools=None):
    """What `apply_chat_template` gives, its clock stopped."""
    return theirs(family).apply_chat_template(
        messages,
        tools=tools,
        add_generation_prompt=opened,
        return_dict=True,
        date_string=DATE,
    )["input_ids"]


def form_of(family, tools=None):
    return TemplateForm(CHAT_FAMILIES[family].tokenizer, tools, date_string=DATE)


def shown(family, ids):
    return "".join(map(CHAT_FAMILIES[family].tokenizer.token_text, ids))


@pytest.mark.parametrize(("family", "name"), cases())
def test_live(family, name):
    _, turns, tools = CONVERSATIONS[name]
    messages, form = messages_of(turns), form_of(family, tools)
    assert form.prompt_ids(messages) == their_ids(family, messages, opened=True, tools=tools)
    if messages[-1]["role"] != "assistant":
        return
    which = "last" if CHAT_FAMILIES[family].rewrites else "all"
    ids, mask = form.training_ids(messages, which)
    print(shown(family, ids))
    print(repr([shown(family, [i for i, m in zip(ids, mask) if m])]))
    assert ids == their_ids(family, messages, opened=False, tools=tools)
