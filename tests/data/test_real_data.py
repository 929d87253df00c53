"""Every real file is read by its reader, all its rows and none twice."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from rlhf_jax.data import (
    Ranking,
    Text,
    demonstration_stream,
    load_tokenizer,
    ranking_stream,
)
from rlhf_jax.data.readers import detect_format, read
from rlhf_jax.data.rows import Intake
from rlhf_jax.data.writers import write_trl

# file, format ("auto" where it must be found), rows, records
FILES = [
    ("dolly_sample/dolly_151.jsonl.gz", "auto", 151, 151),
    ("gsm8k/train.jsonl.gz", "auto", 7473, 7473),
    ("hh_rlhf_harmless/harmless-base.test-first-1156.jsonl.gz", "auto", 1156, 1156),
    ("oasst_trees/en_trees-first-50.jsonl.gz", "auto", 50, None),
    ("oasst_trees/prompt_lottery_en_250_text.jsonl", "auto", 250, 250),
    ("pplm_human/pplm_ab_3annotators.jsonl.gz", "auto", 3934, 3 * 3933),
    ("self_instruct/seed_tasks.jsonl", "auto", 175, 175),
    ("squality/v1-3_txt_train.jsonl.gz", "auto", 50, 50 * 5 * 4),
    ("hhh_alignment/hhh_alignment.jsonl", "auto", 221, 221),
    ("sst2/sst2_dev.tsv.gz", "auto", 6735, -(-6735 // 4)),
    ("sst2/sst2_train.tsv.gz", "auto", 60614, -(-60614 // 4)),
    ("text_c4_wiki_demo/c4_demo.jsonl.gz", "auto", 300, 300),
    ("text_c4_wiki_demo/wiki_demo.txt.gz", "lines", 30, 30),
    ("text_tinystories/tinystories-first-500.jsonl.gz", "auto", 500, 500),
    ("text_wikitext2/valid.txt.gz", "wikitext", 60, 60),
]
# file, format, characters of all texts together
CHARACTERS = [
    ("text_tinyshakespeare/input.txt.gz", "text", 1115394),
    ("text_c4_wiki_demo/wiki_demo.txt.gz", "text", 1026454),
    ("text_wikitext2/valid.txt.gz", "text", 1120192),
    ("text_gutenberg/pg-grimm.txt.gz", "text", 540174),
    ("text_gutenberg/pg-tom_sawyer.txt.gz", "text", 412665),
]


@pytest.mark.parametrize(("name", "format", "rows", "records"), FILES)
def test_the_counts_are_those_of_the_source(shared_data, name, format, rows, records):
    intake = Intake()
    made = list(read(shared_data / name, format, intake=intake))
    assert intake.rows == rows and intake.rejected == 0
    assert records is None or len(made) == intake.records == records
    ids = Counter((record.id, getattr(record, "labeler", None)) for record in made)
    assert max(ids.values()) == 1


@pytest.mark.parametrize(("name", "format", "characters"), CHARACTERS)
def test_no_character_of_a_text_is_lost(shared_data, name, format, characters):
    made = list(read(shared_data / name, format))
    assert all(isinstance(record, Text) for record in made)
    # the line end at the end of the file, if there is one, is not part of a document
    assert sum(len(record.text) for record in made) in (characters, characters - 1)


def test_books_lose_their_licence_and_keep_their_text(shared_data):
    for path in sorted((shared_data / "text_gutenberg").glob("*.gz")):
        (book,) = read(path, "gutenberg")
        whole = gzip.open(path, "rt", encoding="utf-8").read()
        assert 0.8 * len(whole) < len(book.text) < len(whole) - 1000
        assert "Project Gutenberg License" not in book.text


def test_tree_rankings_are_the_fully_ranked_human_siblings(shared_data):
    """Counted here by a walk of its own, straight over the JSON."""
    path = shared_data / "oasst_trees/en_trees-first-50.jsonl.gz"
    expected: Counter = Counter()

    def walk(node):
        if node.get("synthetic") or node.get("deleted"):
            return
        humans = [r for r in node["replies"] if not r["synthetic"] and not r["deleted"]]
        ranked = [r for r in humans if r.get("rank") is not None]
        if node["role"] == "prompter" and len(humans) >= 2 and humans == ranked:
            expected[len(humans)] += 1
        for reply in node["replies"]:
            walk(reply)

    for line in gzip.open(path):
        walk(json.loads(line)["prompt"])
    found = list(read(path))
    assert Counter(len(r.responses) for r in found) == expected
    assert sum(expected.values()) == 93


def test_rankings_survive_trl_pairs_with_their_group(shared_data, tmp_path):
    rows = list(read(shared_data / "oasst_trees/en_trees-first-50.jsonl.gz"))
    write_trl(tmp_path / "pairs.jsonl", rows)
    assert list(read(tmp_path / "pairs.jsonl")) == rows


@pytest.fixture(scope="module")
def gpt2(shared_data):
    return load_tokenizer(shared_data / "gpt2_tokenizer")


def test_gpt2_tokens(gpt2):
    assert gpt2.encode("Hello world") == [15496, 995]
    dog = [15496, 11, 616, 3290, 318, 13779]
    assert gpt2.encode("Hello, my dog is cute") == dog
    assert gpt2.vocab_size == 50257 and gpt2.end_token == 50256 != gpt2.pad_token
    assert gpt2.decode(gpt2.encode("naïve 🙂\n")) == "naïve 🙂\n"


def test_gpt2s_end_of_text_typed_by_a_user_is_text(gpt2):
    ids = gpt2.encode("say <|endoftext|> twice <|endoftext|>")
    assert 50256 not in ids
    assert gpt2.decode(ids) == "say <|endoftext|> twice <|endoftext|>"


def test_gpt2_equals_transformers_on_real_text(gpt2, shared_data, tmp_path):
    from transformers import AutoTokenizer

    gpt2.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    rows = list(read(shared_data / "dolly_sample/dolly_151.jsonl.gz"))[:40]
    assert gpt2.encode_batch([r.response for r in rows]) == [
        theirs(r.response).input_ids for r in rows
    ]


def test_the_small_llama_tokenizer_begins_with_its_begin_token(shared_data):
    tokenizer = load_tokenizer(shared_data / "models/stories260k")
    reference = json.loads(
        (shared_data / "models/stories260k/greedy_reference.json").read_text()
    )
    assert (tokenizer.begin_token, tokenizer.end_token) == (1, 2)
    assert tokenizer.end_tokens == (2, 1) and tokenizer.pad_token == 0
    assert tokenizer.decode(tokenizer.encode("Once upon a time")) == "Once upon a time"
    assert reference


def test_demonstrations_pack_without_losing_a_token(gpt2, shared_data):
    rows = list(read(shared_data / "self_instruct/seed_tasks.jsonl"))
    stream = demonstration_stream(rows, gpt2, batch_size=8, context_length=512)
    trained = sum(
        int(stream.batch(step)["mask"].sum()) for step in range(stream.steps_per_epoch)
    )
    dropped = stream.account.dropped.total() + stream.account.cut.total()
    expected = sum(len(gpt2.encode(r.response)) + 1 for r in rows)
    assert trained == expected if dropped == 0 else trained < expected


def test_k_wise_batches_of_real_rankings(gpt2, shared_data):
    rows = [
        row
        for row in read(shared_data / "oasst_trees/en_trees-first-50.jsonl.gz")
        if isinstance(row, Ranking)
    ]
    stream = ranking_stream(rows, gpt2, batch_size=16, max_prompt=512, max_response=256)
    batch = stream.batch(0)
    assert batch["responses"].shape == (16, 9, 256)
    for b, index in enumerate(stream.rows.index[batch["row"]]):
        k = len(rows[index].responses)
        assert batch["present"][b].sum() == k
        assert batch["ranks"][b, :k].tolist() == rows[index].ranks
        prompt = gpt2.decode(batch["prompts"][b][batch["prompt_valid"][b]])
        assert prompt == rows[index].prompt
    assert np.all(batch["mask"])


def test_formats_are_found(shared_data):
    names = {"sst2/sst2_dev.tsv.gz": "labelled", "gsm8k/train.jsonl.gz": "gsm8k"}
    for name, format in names.items():
        assert detect_format(shared_data / name) == format
