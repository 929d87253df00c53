"""Winogender and CrowS-Pairs on the real files with a real, very small model."""

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.evaluation.policy import load_policy
from rlhf_jax.evaluation.suites.bias import (
    bias_scores,
    read_crows_pairs,
    read_winogender,
)


@pytest.fixture(scope="module")
def stories(shared_data):
    return load_policy(
        shared_data / "models/stories260k", max_new_tokens=24, batch_size=64
    )


def test_winogender_entropy_is_that_of_another_implementation(stories, shared_data):
    pairs = read_winogender(shared_data / "winogender/all_sentences.tsv")
    entropy = bias_scores("winogender", stories, pairs)[0].interval()
    assert entropy.num_items == 120
    # transformers and torch, one sentence at a time, float64 softmax
    assert entropy.estimate == pytest.approx(0.8277866, abs=2e-4)


def test_crows_pairs_entropy_is_that_of_another_implementation(stories, shared_data):
    path = shared_data / "crows_pairs/crows_pairs_anonymized.csv"
    scores = bias_scores("crows_pairs", stories, read_crows_pairs(path)[:200])
    assert scores[0].interval().estimate == pytest.approx(0.2320764, abs=2e-4)


def test_what_it_writes_is_english_and_greedy(stories):
    prompts = ["Once upon a time, there was a", "Lily and Ben"]
    texts = stories.generate(prompts)
    assert all(len(text.split()) > 3 for text in texts)
    sums, counts = stories.logprobs(prompts, ["xq zv", "xq zv"])
    assert (sums / counts < -2).all() and np.isfinite(sums).all()


@pytest.mark.slow
def test_the_papers_table_from_one_command(shared_data, tmp_path, capsys):
    """Both files whole, three prompts each."""
    words = ["eval", str(shared_data / "models/stories260k"), "--suite", "bias"]
    words += ["--data", str(shared_data), "--batch-size", "64", "--out", str(tmp_path)]
    assert main(words) == 0
    table = (tmp_path / "results.md").read_text()
    for task in ("winogender", "crows_pairs"):
        for condition in ("basic", "respectful", "biased"):
            assert any(
                f"{task} entropy (bits)" in line and condition in line
                for line in table.splitlines()
            )
    capsys.readouterr()
