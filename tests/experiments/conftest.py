"""The real data, a few rows of each file, laid out as the experiments ask."""

import gzip
import pathlib

import pytest

# file -> rows kept (of tables: the header too)
ROWS = {
    "text_tinystories/tinystories-first-500.jsonl.gz": 30,
    "sst2/sst2_train.tsv.gz": 300,
    "sst2/sst2_dev.tsv.gz": 400,
    "dolly_sample/dolly_151.jsonl.gz": 12,
    "oasst_trees/en_trees-first-50.jsonl.gz": 25,
    "oasst_trees/prompt_lottery_en_250_text.jsonl": 30,
    "self_instruct/seed_tasks.jsonl": 20,
    "hh_rlhf_harmless/harmless-base.test-first-1156.jsonl.gz": 40,
    "pplm_human/pplm_ab_3annotators.jsonl.gz": 40,
    "text_wikitext2/valid.txt.gz": 400,
    "text_c4_wiki_demo/c4_demo.jsonl.gz": 15,
    "text_c4_wiki_demo/wiki_demo.txt.gz": 4,
    **{
        f"text_gutenberg/pg-{book}.txt.gz": 300
        for book in ("being_ernest", "frankenstein", "grimm", "tom_sawyer")
    },
}


@pytest.fixture(scope="session")
def few_rows(shared_data, tmp_path_factory) -> pathlib.Path:
    """A folder like `shared_data` with the first rows of each file."""
    folder = tmp_path_factory.mktemp("few_rows")
    for name, count in ROWS.items():
        source, target = shared_data / name, folder / name
        opener = gzip.open if source.suffix == ".gz" else open
        target.parent.mkdir(parents=True, exist_ok=True)
        with opener(source, "rb") as read, opener(target, "wb") as written:
            written.writelines(
                line for line, _ in zip(read, range(count), strict=False)
            )
    for name in ("models", "gpt2_tokenizer"):
        (folder / name).symlink_to(shared_data / name)
    return folder
