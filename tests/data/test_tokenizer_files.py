"""Tokenizer directories of every kind: the ids of transformers' AutoTokenizer."""

import json

import pytest
from chat_families import CHAT_FAMILIES, HARD

from rlhf_jax.data import load_tokenizer
from rlhf_jax.data.templates import TemplateForm
from rlhf_jax.errors import InputError


def theirs(path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


def assert_same(path, texts=HARD):
    """Ids, control tokens, ends and templates of both; ours is given back."""
    ours, other = load_tokenizer(path), theirs(path)
    for text in texts:
        typed = other(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.encode(text) == typed.input_ids, text
        assert ours.encode_batch([text]) == [typed.input_ids]
    assert ours.end_token == other.eos_token_id
    assert ours.named_tokens == other.special_tokens_map
    assert ours.vocab_size == 1 + max(other.get_vocab().values())
    begun = other("hello").input_ids[:1] == [other.bos_token_id]
    assert ours.begin_token == (other.bos_token_id if begun else None)
    if ours.chat_template:
        said = [{"role": "user", "content": "hello there"}]
        whole = other.apply_chat_template(
            said, add_generation_prompt=True, return_dict=True
        )
        assert TemplateForm(ours).prompt_ids(said) == whole["input_ids"]
    return ours


def written(path, family, config=None, **files):
    """The family's tokenizer.json, with another configuration beside it."""
    tokenizer = CHAT_FAMILIES[family].tokenizer
    tokenizer.save(path)
    if config is not None:
        text = {**tokenizer.config, **config}
        text = {key: value for key, value in text.items() if value is not None}
        (path / "tokenizer_config.json").write_text(json.dumps(text))
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(json.dumps(content))
    return path


def slow_files(path, family, config):
    """vocab.json, merges.txt and added_tokens_decoder, as slow tokenizers save them."""
    backend = CHAT_FAMILIES[family].tokenizer.backend
    backend.model.save(str(path))
    added = {
        str(i): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": token.rstrip,
            "single_word": False,
            "special": True,
        }
        for i, token in backend.get_added_tokens_decoder().items()
    }
    names = CHAT_FAMILIES[family].names
    text = {**names, "added_tokens_decoder": added, **config}
    (path / "tokenizer_config.json").write_text(json.dumps(text))
    return path


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_tokenizer_json(family, tmp_path):
    ours = assert_same(written(tmp_path, family))
    assert ours.special_tokens == CHAT_FAMILIES[family].tokenizer.special_tokens


@pytest.mark.parametrize(
    ("family", "kind", "model_type"),
    [
        ("gemma", "GemmaTokenizer", "gemma"),
        ("mistral", "LlamaTokenizer", "llama"),
        ("llama2", "LlamaTokenizerFast", "llama"),
        ("llama3", "PreTrainedTokenizerFast", "llama"),
        ("qwen2", "Qwen2Tokenizer", "qwen2"),
        ("chatml", "GPT2Tokenizer", "gpt2"),
        ("olmo", "GPTNeoXTokenizer", "gpt_neox"),
        ("phi3", "LlamaTokenizer", None),
    ],
)
@pytest.mark.parametrize("begin", [None, True, False])
def test_a_tokenizer_json_of_a_class_that_builds_its_own(
    family, kind, model_type, begin, tmp_path
):
    config = {"tokenizer_class": kind, "add_bos_token": begin}
    about = {"config__json": {"model_type": model_type}} if model_type else {}
    ours = assert_same(written(tmp_path, family, config, **about))
    again = tmp_path / "again"
    ours.save(again)
    saved = assert_same(again)
    assert [saved.encode(text) for text in HARD] == [ours.encode(t) for t in HARD]
    assert (saved.begin_token, saved.special_tokens, saved.named_tokens) == (
        ours.begin_token,
        ours.special_tokens,
        ours.named_tokens,
    )


@pytest.mark.parametrize(
    ("family", "kind"), [("qwen2", "Qwen2Tokenizer"), ("chatml", "GPT2Tokenizer")]
)
def test_vocabulary_and_merges_with_added_tokens_decoder(family, kind, tmp_path):
    """The end token has its own id, not that of another token (issue 19, case 13)."""
    config = {"tokenizer_class": kind, "add_prefix_space": False}
    ours = assert_same(slow_files(tmp_path, family, config))
    assert ours.special_tokens == CHAT_FAMILIES[family].tokenizer.special_tokens


def test_special_tokens_map_and_added_tokens_json(tmp_path):
    extra = {"<|tool|>": CHAT_FAMILIES["chatml"].tokenizer.vocab_size}
    path = written(
        tmp_path,
        "chatml",
        {"eos_token": None, "pad_token": None},
        special_tokens_map__json={"eos_token": "<|im_end|>", "sep_token": "<|tool|>"},
        added_tokens__json=extra,
    )
    ours = assert_same(path)
    assert ours.token_text(ours.end_token) == "<|im_end|>"
    assert ours.special_tokens["<|tool|>"] == extra["<|tool|>"]


def test_tokens_that_only_the_configuration_names(tmp_path):
    config = {"extra_special_tokens": ["<|x|>"], "sep_token": "<|sep|>"}
    ours = assert_same(written(tmp_path, "smollm2", config))
    assert {"<|x|>", "<|sep|>"} <= ours.special_tokens.keys()


def test_what_cannot_be_read_exactly_is_refused(tmp_path):
    """A vocabulary without its class' unknown token; two tokens before each text."""
    model = CHAT_FAMILIES["chatml"].tokenizer.backend.model
    for name, why in (
        ("CLIPTokenizer", "cannot encode a letter: Unk token"),
        ("WhisperTokenizer", "several control tokens before a text"),
    ):
        model.save(str(tmp_path))
        config = json.dumps({"tokenizer_class": name})
        (tmp_path / "tokenizer_config.json").write_text(config)
        with pytest.raises(InputError, match=why):
            load_tokenizer(tmp_path)


def test_several_templates_by_name(tmp_path):
    tools = "{{ tools | tojson }}" + CHAT_FAMILIES["chatml"].template
    named = [
        {"name": "default", "template": CHAT_FAMILIES["chatml"].template},
        {"name": "tool_use", "template": tools},
    ]
    path = written(tmp_path, "chatml", {"chat_template": named})
    ours, said = load_tokenizer(path), [{"role": "user", "content": "hello"}]
    for given in (None, [{"name": "f"}]):
        expected = theirs(path).apply_chat_template(
            said, tools=given, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert TemplateForm(ours, given).prompt_ids(said) == expected


def test_a_template_file_beside_the_configuration(tmp_path):
    path = written(tmp_path, "chatml", {"chat_template": "{{ 1 }}"})
    (path / "chat_template.jinja").write_text(CHAT_FAMILIES["chatml"].template)
    assert load_tokenizer(path).chat_template == CHAT_FAMILIES["chatml"].template


def test_foreign_code_is_named_and_not_run(tmp_path):
    config = {"auto_map": {"AutoTokenizer": ["x.Y", None]}, "tokenizer_class": "Y"}
    path = written(tmp_path, "chatml", config)
    (path / "tokenizer.json").unlink()
    (path / "x.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(InputError, match="expected a directory with tokenizer.json"):
        load_tokenizer(path)


def test_a_sentencepiece_model_needs_its_library(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "LlamaTokenizer"}'
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="tokenizer.model.*pip install sentencepiece"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("name", ["LlamaTokenizer", "GemmaTokenizer", "T5Tokenizer"])
def test_a_sentencepiece_model_is_read_as_transformers_reads_it(name, kind, tmp_path):
    library = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "hello there, what is two plus two?\nthe price in Paris 12\n" * 20
    )
    library.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=300,
        model_type=kind,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    config = {"tokenizer_class": name, "eos_token": "</s>", "bos_token": "<s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    # a Unigram makes control tokens of what people type, there; here it stays text
    plain = [text for text in HARD if "</s>" not in text]
    assert_same(tmp_path, plain if name.startswith("T5") else HARD)


class OneIdTwice:
    """A backend that wrote one of two tokens of an id, which its merges need."""

    def to_str(self):
        return "{}"

    @staticmethod
    def from_str(text):
        raise Exception("Token `er` out of vocabulary")  # as `tokenizers` does


def test_two_tokens_of_one_id_are_refused_where_a_copy_is_needed():
    from rlhf_jax.data.tokenizers import copied

    with pytest.raises(InputError, match="not whole: Token `er` out of vocabulary"):
        copied(OneIdTwice())
