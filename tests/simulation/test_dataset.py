import json
import math
from collections import Counter

import pytest

from rlhf_jax.data import records
from rlhf_jax.errors import InputError
from rlhf_jax.simulation import simulate, utility, write
from rlhf_jax.simulation.prompts import KIND_SHARES
from rlhf_jax.simulation.tasks import TASKS, USE_CASES

TINY = dict.fromkeys(
    ("demonstrations", "rankings", "held_out_rankings", "prompts", "skills"), 12
) | {"pretraining": 200}
GOLDEN = "f803d19c3620e0c6"
ASKED = ("demonstrations", "rankings", "held_out_rankings", "prompts", "truth")


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first = write(tmp_path / "a", 3, TINY, vocab_size=400)
    second = write(tmp_path / "b", 3, TINY, vocab_size=400)
    for name, path in first.items():
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            twin = second[name] / file.name if path.is_dir() else second[name]
            assert file.read_bytes() == twin.read_bytes(), file.name


def test_the_bytes_of_a_seed_are_fixed_for_ever():
    import hashlib

    text = "".join(
        record.model_dump_json(exclude_none=True)  # as `write` does
        for rows in simulate(0, TINY).values()
        for record in rows
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN


def test_hash_randomisation_changes_nothing():
    import subprocess
    import sys

    code = (
        "from rlhf_jax.simulation import simulate; import hashlib\n"
        f"rows = simulate(0, {TINY!r}).values()\n"
        "said = (r.model_dump_json(exclude_none=True) for s in rows for r in s)\n"
        "text = ''.join(said)\n"
        "print(hashlib.sha256(text.encode()).hexdigest()[:16])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "77"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.strip() == GOLDEN


def test_files_hold_records_that_parse_back(tmp_path):
    paths = write(tmp_path, 0, TINY, vocab_size=400)
    kinds = {"pretraining": records.Text, "demonstrations": records.Demonstration,
             "rankings": records.Ranking, "held_out_rankings": records.Ranking,
             "prompts": records.Prompt, "truth": records.Prompt,
             "skills": records.Demonstration}  # fmt: skip
    for name, kind in kinds.items():
        lines = paths[name].read_text().splitlines()
        assert lines and all(kind.model_validate_json(line) for line in lines)
    row = json.loads(paths["prompts"].read_text().splitlines()[0])
    prompt = records.Prompt(**row)
    assert utility(prompt, "Hello.").total == utility(prompt, "Hello.").total


@pytest.mark.parametrize(
    ("sizes", "vocab_size", "why"),
    [(TINY, 257, "vocab_size: expected at least 258, got 257"),
     ({"rows": 3}, 400, "unknown set 'rows'")],
)  # fmt: skip
def test_what_cannot_be_written_leaves_nothing(tmp_path, sizes, vocab_size, why):
    with pytest.raises(InputError, match=why):
        write(tmp_path / "new", 0, sizes, vocab_size=vocab_size)
    assert list(tmp_path.iterdir()) == []


def test_no_prompt_is_in_two_sets_or_twice_in_one(sets):
    texts = [row.prompt.lower() for name in ASKED for row in sets[name]]
    assert len(set(texts)) == len(texts)


def test_a_user_is_in_one_split_only(sets):
    splits = {}
    for name in ASKED[:4]:
        for row in sets[name]:
            assert splits.setdefault(row.user, row.split) == row.split
    assert set(splits.values()) == {"train", "valid", "test"}


def test_ids_are_unique_within_a_set(sets):
    for rows in sets.values():
        assert len({row.id for row in rows}) == len(rows)


def within(count, total, share, sigmas=3.5):
    """Whether a count is in the interval that its binomial share allows."""
    return abs(count - share * total) <= sigmas * math.sqrt(total * share * (1 - share))


def test_use_cases_have_the_shares_of_table_1(sets):
    rows = sets["prompts"]
    found = Counter(row.use_case for row in rows)
    for name, percent in USE_CASES.items():
        share = percent / sum(USE_CASES.values())
        assert within(found[name], len(rows), share), (name, found[name])


def test_all_three_kinds_are_there(sets):
    found = Counter(row.kind for row in sets["prompts"])
    for kind, share in KIND_SHARES.items():
        assert abs(found[kind] / len(sets["prompts"]) - share) < 0.06


def test_every_task_is_asked(sets):
    asked = {row.meta["task"] for name in ASKED for row in sets[name]}
    assert asked == set(TASKS)


def test_every_prompt_ends_its_last_line(sets):
    for name in ASKED:
        for row in sets[name]:
            assert row.prompt.endswith("\n") and not row.prompt.endswith("\n\n")
            assert "{" not in row.prompt and "[" not in row.prompt
            assert "  " not in row.prompt


def test_rankings_are_of_4_to_9_different_responses_with_ties_and_scores(sets):
    tied = 0
    for row in sets["rankings"] + sets["held_out_rankings"]:
        assert 4 <= len(row.responses) <= 9
        assert len(set(row.responses)) == len(row.responses)
        assert len(row.likert) == len(row.flags) == len(row.responses)
        tied += len(set(row.ranks)) < len(row.ranks)
    assert tied > 30
    assert {row.labeler.split("-")[0] for row in sets["rankings"]} == {"train"}
    assert {row.labeler[:8] for row in sets["held_out_rankings"]} == {"held-out"}


def test_demonstrations_are_good_but_human(sets):
    rows = sets["demonstrations"]
    worth = [utility(row, row.response).total for row in rows]
    assert 0.7 < sum(worth) / len(worth) < 0.92
    assert sum(value > 0.99 for value in worth) / len(worth) > 0.5
    styles = Counter(row.meta["style"] for row in rows)
    assert set(styles) == {"ideal", "wordy", "partial", "curt", "false"}


def test_no_wording_is_worn_out(sets):
    rows = [row for row in sets["prompts"] if row.kind == "plain"]
    starts = Counter(" ".join(row.prompt.lower().split()[:3]) for row in rows)
    assert starts.most_common(1)[0][1] / len(rows) < 0.12
    assert len(starts) > 150


def test_an_unknown_set_is_an_input_error():
    with pytest.raises(InputError, match="unknown set 'rows'"):
        simulate(0, {"rows": 3})
