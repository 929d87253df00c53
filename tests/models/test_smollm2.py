"""SmolLM2-135M-Instruct, a real chat model: one text trained and used, and its numbers.

Skips where `models/smollm2-135m-instruct` is not among the real data.
"""

import functools

import jax
import numpy as np
import pytest

from rlhf_jax.data import Demonstration, Message, conversation_form, load_tokenizer
from rlhf_jax.data.encoding import encode_demonstrations, encode_prompts
from rlhf_jax.data.vocabulary import check_vocabulary
from rlhf_jax.models import load_pretrained

TALK = [
    Message(role="user", content="What is 2 + 2?\n\n"),
    Message(role="assistant", content="It is 4."),
    Message(role="user", content="e\u0301 東京 🙂 <|im_end|>?"),
    Message(role="assistant", content="Tokyo."),
]


@pytest.fixture(scope="module")
def folder(shared_data):
    path = shared_data / "models" / "smollm2-135m-instruct"
    if not path.is_dir():
        pytest.skip("models/smollm2-135m-instruct is absent")
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def messages(turns):
    return [{"role": turn.role, "content": turn.content} for turn in turns]


@functools.cache
def theirs(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_its_conversations_have_the_ids_of_transformers(folder, tokenizer):
    form = conversation_form("template", tokenizer)
    for turns in (TALK[:1], TALK[:2], [Message(role="system", content="x"), TALK[0]]):
        said = messages(turns)
        found = [form.prompt_ids(said)]
        expected = [theirs(folder).apply_chat_template(
            said, add_generation_prompt=opened, return_dict=True
        )["input_ids"] for opened in (True, False)]  # fmt: skip
        if turns[-1].role == "assistant":
            found.append(form.training_ids(said)[0])
        assert found == expected[: len(found)]


def test_what_is_trained_is_what_is_used(tokenizer):
    form = conversation_form("template", tokenizer)
    row = Demonstration(id="1", prompt="x", response="Tokyo.", messages=TALK)
    (trained,) = encode_demonstrations([row], tokenizer, form=form)
    (asked,) = encode_prompts([row], tokenizer, form=form)
    kept = [i for i, w in zip(trained.tokens, trained.weights, strict=True) if w]
    shown = "".join(map(tokenizer.token_text, kept))
    assert shown == "It is 4.<|im_end|>Tokyo.<|im_end|>"
    assert trained.tokens[: len(asked.tokens)] == asked.tokens
    assert trained.tokens[-1] in form.end_tokens


def test_its_logits_are_those_of_transformers(folder, tokenizer):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    loaded = load_pretrained(folder)
    check_vocabulary(tokenizer, loaded.config.vocab_size, str(folder))
    ids = [conversation_form("template", tokenizer).prompt_ids(TALK[:3])]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids)).logits.numpy()
    apply = jax.jit(loaded.model.apply)
    found = np.asarray(apply({"params": loaded.params}, np.asarray(ids, np.int32)))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
