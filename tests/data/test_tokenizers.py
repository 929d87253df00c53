"""Text to ids and back; special-token text is text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import ByteTokenizer, Tokenizer, load_tokenizer, pieces, train_bpe
from rlhf_jax.data.pieces import PieceMemo, cuts_at_spaces
from rlhf_jax.data.tokenizers import SubwordTokenizer
from rlhf_jax.errors import InputError

CORPUS = ["the cat sat on the mat", "the dog sat on the log", "naïve café"] * 20
CHAT_TOKENS = ["<|im_start|>", "<|im_end|>"]
text = st.text(st.characters(codec="utf-8"))


def trained() -> SubwordTokenizer:
    tokenizer = train_bpe(CORPUS, 300)
    tokenizer.backend.add_special_tokens(CHAT_TOKENS)
    return SubwordTokenizer(tokenizer.backend, tokenizer.config)


def unigram() -> SubwordTokenizer:
    """A model whose vocabulary holds the control token as an ordinary piece."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    pieces = [("<unk>", 0.0), ("</s>", -1.0)] + [(c, -5.0) for c in "</s>ab "]
    backend = Backend(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.add_special_tokens(["</s>"])
    return SubwordTokenizer(backend, {"eos_token": "</s>", "unk_token": "<unk>"})


TOKENIZERS = {"bytes": ByteTokenizer(), "bpe": trained(), "unigram": unigram()}


@pytest.mark.parametrize("name", ["bytes", "bpe"])
@given(text)
def test_every_text_round_trips(name, text):
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_batch([text, "x"])[0] == tokenizer.encode(text)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_typed_special_tokens_are_text_wherever_they_stand(name, data):
    tokenizer = TOKENIZERS[name]
    special = data.draw(st.sampled_from(sorted(tokenizer.special_tokens)))
    filler = st.text("ab </s>")
    text = data.draw(filler) + special + data.draw(filler) + special
    for ids in (tokenizer.encode(text), tokenizer.encode_batch([text])[0]):
        assert not set(ids) & set(tokenizer.special_tokens.values())
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


SPACES = st.sampled_from(" \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u2003\u2028\u3000")
SPACED = st.text(
    SPACES | st.sampled_from("ab1'sté!²½Ⅷ一́") | st.characters(codec="utf-8")
)


@given(st.lists(SPACED | st.text(st.sampled_from(" \na1'!")), max_size=4))
def test_pieces_between_spaces_give_the_ids_of_the_whole_text(texts):
    tokenizer = TOKENIZERS["bpe"]
    whole = tokenizer.backend.encode_batch(texts, add_special_tokens=False)
    assert tokenizer.encode_batch(texts) == [encoding.ids for encoding in whole]


def test_the_memory_of_pieces_is_bounded(monkeypatch):
    memo = PieceMemo(train_bpe(CORPUS, 300).backend)
    monkeypatch.setattr(pieces, "MOST", 10)
    for i in range(100):
        memo.encode_batch([f"a b{i} {'c' * 100}{i}"])
    assert len(memo._ids) <= 14 and max(map(len, memo._ids)) < 64


def test_only_a_plain_byte_level_bpe_is_encoded_by_pieces():
    assert cuts_at_spaces(train_bpe(CORPUS, 280).backend)
    assert not cuts_at_spaces(unigram().backend)
    words = train_bpe(CORPUS, 280).backend
    words.add_tokens(["on the"])
    assert not cuts_at_spaces(words)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_keeps_the_protocol(name):
    tokenizer = TOKENIZERS[name]
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.pad_token != tokenizer.end_token == tokenizer.end_tokens[0]
    assert 0 <= tokenizer.pad_token < tokenizer.vocab_size
    assert max(tokenizer.special_tokens.values()) < tokenizer.vocab_size


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_decoding_leaves_control_tokens_out(name):
    tokenizer = TOKENIZERS[name]
    ids = [*tokenizer.encode("cat"), tokenizer.end_token, tokenizer.pad_token]
    assert tokenizer.decode(ids) == "cat"
    assert tokenizer.token_text(tokenizer.end_token) == "<|endoftext|>"


@pytest.mark.parametrize("name", ["bytes", "bpe"])
def test_a_saved_tokenizer_is_the_same_tokenizer(name, tmp_path):
    tokenizer = TOKENIZERS[name]
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert type(again) is type(tokenizer)
    for key in ("vocab_size", "end_token", "pad_token", "special_tokens"):
        assert getattr(again, key) == getattr(tokenizer, key)
    assert again.encode("a cat <|endoftext|>") == tokenizer.encode(
        "a cat <|endoftext|>"
    )


def test_transformers_reads_a_saved_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    ByteTokenizer().save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("né").input_ids == ByteTokenizer().encode("né")
    assert (theirs.eos_token_id, theirs.pad_token_id) == (256, 257)


def test_training_gives_the_same_tokenizer_every_time():
    one, two = train_bpe(CORPUS, 280), train_bpe(iter(CORPUS), 280)
    assert one.backend.get_vocab() == two.backend.get_vocab()
    assert (one.pad_token, one.end_token) == (0, 1) and one.vocab_size <= 280


def test_training_joins_frequent_words():
    tokenizer = train_bpe(CORPUS, 400)
    assert len(tokenizer.encode("the cat sat on the mat")) <= 7


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(InputError, match="expected at least 258"):
        train_bpe(CORPUS, 257)


def test_pad_is_never_the_end_token_even_where_the_files_say_so(tmp_path):
    tokenizer = train_bpe(CORPUS, 280)
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    assert SubwordTokenizer(tokenizer.backend, config).pad_token != 1


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"tokenizer.json": "{"}, "tokenizer.json"),
        ({"tokenizer_config.json": "[]"}, "expected a JSON object"),
        ({"tokenizer_config.json": "{"}, "expected JSON"),
        ({"vocab.json": "{}", "merges.txt": "x"}, "not a BPE"),
        ({}, "expected a directory with tokenizer.json"),
    ],
)
def test_a_directory_that_is_no_tokenizer_is_refused(files, why, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=why):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    train_bpe(CORPUS, 280).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))
    with pytest.raises(InputError, match="eos_token: expected a token"):
        load_tokenizer(tmp_path)


def test_further_end_tokens_come_from_the_generation_config(tmp_path):
    train_bpe(CORPUS, 280).save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 5]}')
    assert load_tokenizer(tmp_path).end_tokens == (1, 5)
