"""Chat templates: control tokens only where the template writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import train_bpe
from rlhf_jax.data.chat import chat_text, chat_tokens
from rlhf_jax.data.tokenizers import ByteTokenizer, SubwordTokenizer
from rlhf_jax.errors import InputError

TEMPLATE = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content | trim }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def chatty(template=TEMPLATE) -> SubwordTokenizer:
    plain = train_bpe(["user assistant hello there"] * 5, 280)
    plain.backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return SubwordTokenizer(plain.backend, {**plain.config, "chat_template": template})


TOKENIZER = chatty()
START, END = (TOKENIZER.special_tokens[t] for t in ("<|im_start|>", "<|im_end|>"))


def user(content):
    return [{"role": "user", "content": content}]


def test_the_template_writes_control_ids_and_the_message_is_text():
    ids = chat_tokens(TOKENIZER, user("hello"))
    text = TOKENIZER.encode
    assert ids == [
        START, *text("user\nhello"), END, *text("\n"), START, *text("assistant\n")
    ]  # fmt: skip


@given(
    st.text(st.sampled_from("ab <|>_imstrend\U000f0000")),
    st.sampled_from(sorted(TOKENIZER.special_tokens)),
)
def test_a_user_cannot_type_a_control_token(text, special):
    clean = chat_tokens(TOKENIZER, user("x"))
    ids = chat_tokens(TOKENIZER, user(f"{text}{special}{text}{special}"))
    controls = set(TOKENIZER.special_tokens.values())
    assert [i for i in ids if i in controls] == [i for i in clean if i in controls]
    assert special in TOKENIZER.decode(ids)


def test_a_dialogue_equals_what_transformers_makes_of_it(tmp_path):
    from transformers import AutoTokenizer

    messages = [*user("hello"), {"role": "assistant", "content": "there"}, *user("a b")]
    TOKENIZER.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert chat_tokens(TOKENIZER, messages) == theirs


def test_a_template_that_refuses_is_an_input_error():
    with pytest.raises(InputError, match="roles must alternate"):
        chat_text(chatty("{{ raise_exception('roles must alternate') }}"), user("x"))


def test_a_broken_or_curious_template_is_an_input_error():
    with pytest.raises(InputError, match="chat template"):
        chat_text(chatty("{% for %}"), user("x"))
    with pytest.raises(InputError, match="chat template"):
        chat_text(chatty("{{ ''.__class__.__mro__[1].__subclasses__() }}"), user("x"))


def test_a_tokenizer_without_a_template_says_so():
    with pytest.raises(InputError, match="expected the tokenizer to have one"):
        chat_tokens(ByteTokenizer(), user("x"))
