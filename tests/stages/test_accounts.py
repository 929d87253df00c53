"""Every stage says what became of its rows: printed, kept in rows.json, warned of.

The files hold a known number of faults: prompts of 40 bytes (the limit is 16),
responses of 50 (the limit is 12), rows labelled bad, rankings that are all tied.
"""

import contextlib
import json
import sys

import jax
import pytest
from stage_worker import on_one_device

from rlhf_jax.cli import main
from rlhf_jax.data import ByteTokenizer
from rlhf_jax.models import TrunkConfig
from rlhf_jax.registry import reward_from, save_model
from rlhf_jax.stages import (
    baselines,
    best_of_n,
    candidates,
    dpo,
    evaluate,
    judge,
    labelled,
    ppo,
    prepare,
    pretrain,
    reward,
    sft,
    tokenizer,
)
from rlhf_jax.stages.pretrain import fresh_model
from rlhf_jax.tracking import read_metrics
from rlhf_jax.training.session import RunSettings

SETTINGS = RunSettings(mesh="1,1,1", tensorboard=False)
LENGTHS = {"max_prompt": 16, "max_response": 12}
LONG, SAID = "x" * 40, "y" * 50
CUT = "2 cut at max_response 12"
TOO_LONG = "3 dropped as too long for max_prompt 16"
BAD = "1 dropped (labelled bad)"
TIED = "1 dropped as all responses are tied"


def demonstrations():
    """8 rows: 1 labelled bad, 3 too long, 2 cut, 2 whole."""
    sizes = [(LONG, "y")] * 3 + [("x", SAID)] * 2 + [("x", "y")] * 3
    for number, (prompt, completion) in enumerate(sizes):
        row = {"prompt": prompt, "completion": completion, "id": str(number)}
        yield row | {"label": number != 7}


def rankings():
    """7 rows: 3 too long, 2 cut, 1 tied, 1 whole."""
    sizes = [(LONG, "y")] * 3 + [("x", SAID)] * 2 + [("x", "y")] * 2
    for number, (prompt, response) in enumerate(sizes):
        row = {"prompt": prompt, "responses": [response, "z", "zz"]}
        yield row | {"ranks": [1, 1, 1] if number == 6 else [1, 2, 3]}


def prompts():
    """7 rows: 3 too long."""
    for number in range(7):
        yield {"prompt": LONG if number < 3 else f"p{number}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Files with faults, and models."""
    on_one_device()
    folder = tmp_path_factory.mktemp("faults")
    texts = [{"text": f"the mill is by the river, {n} miles up"} for n in range(6)]
    files = {
        "demos": list(demonstrations()),
        "ranks": list(rankings()),
        "prompts": list(prompts()),
        "texts": texts,
        "prompts.test": [row | {"source": "world"} for row in prompts()],
        "pretraining.valid": texts,
    }
    for name, rows in files.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    words = ("bad dull", "good warm")
    rows = [f"the day was {words[i % 2]} {i}\t{i % 2}" for i in range(40)]
    rows += ["no\t0"] * 10
    (folder / "labels.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    model = fresh_model(TrunkConfig(1, 64, 8, 1, 2), ByteTokenizer())
    save_model(folder / "policy", model.model, model.params, model.tokenizer, {})
    scalar = reward_from(model, jax.random.key(0))
    meta = {"max_prompt": 16, "max_response": 12}
    save_model(folder / "scalar", scalar.model, scalar.params, scalar.tokenizer, meta)
    return folder


def stage(module, told, **fields):
    """A stage, its config with {} for the folder, and the lines that it must say."""
    return pytest.param(module, fields, told, id=module.__name__.split(".")[-1])


DEMOS = f"8 read, 4 used ({CUT}), {BAD}, {TOO_LONG}"
ASKED = f"prompts: 7 read, 4 used, {TOO_LONG}"
POLICY = {"policies": ("{}/policy", "{}/policy"), "names": ("a", "b")}
BEGUN = "3 cut at the beginning to max_prompt 16"
STAGES = [
    stage(
        sft,
        [
            f"demonstrations: {DEMOS}",
            f"valid demonstrations: {DEMOS}",
            f"valid prompts: 7 read, 2 used, {TOO_LONG}, "
            "2 left out by select_prompts 2",
        ],
        init="{}/policy", demonstrations=("{}/demos.jsonl",), epochs=1, batch_size=2,
        valid_demonstrations=("{}/demos.jsonl",), select_by="reward",
        reward="{}/scalar", valid_prompts=("{}/prompts.jsonl",), select_prompts=2,
        residual_dropout=0.0, **LENGTHS,
    ),
    stage(
        pretrain,
        ["texts: 6 read, 6 used", "valid texts: 6 read, 6 used"],
        init="{}/policy", texts=("{}/texts.jsonl",), window=16, batch_size=2, steps=1,
        valid_texts=("{}/texts.jsonl",), evaluate_every=1,
    ),
    stage(
        reward,
        [
            f"rankings: 7 read, 3 used ({CUT}), {TIED}, {TOO_LONG}",
            "valid rankings: 7 read, 7 used",
            f"demonstrations: {DEMOS}",
            "responses scored by reward model: 21 read, 21 used (9 cut by the longest "
            "prompts it reads, 2 cut by the longest responses it reads)",
        ],
        init="{}/policy", rankings=("{}/ranks.jsonl",), batch_size=2, max_k=3,
        valid_rankings=("{}/ranks.jsonl",), demonstrations=("{}/demos.jsonl",),
        **LENGTHS,
    ),
    stage(
        dpo,
        [f"rankings: 7 read, 3 used ({CUT}), {TIED}, {TOO_LONG}"],
        init="{}/policy", rankings=("{}/ranks.jsonl",), batch_size=2, max_k=3,
        **LENGTHS,
    ),
    stage(
        ppo,
        [f"{ASKED}, 1 left over in each epoch"],
        init="{}/policy", reward="{}/scalar", prompts=("{}/prompts.jsonl",),
        ptx_coef=0.0, episodes=3, batch_size=3, minibatch_size=3, snapshot_every=0,
        prompt_buckets=(), **LENGTHS,
    ),
    stage(
        candidates,
        [
            f"prompts: 7 read, 2 used, {TOO_LONG}, 2 left out by max_prompts 2",
            "responses scored by scalar: 4 read, 4 used",
        ],
        policies=("{}/policy",), prompts=("{}/prompts.jsonl",), reward="{}/scalar",
        max_prompts=2, min_k=2, max_k=2, batch_size=4, **LENGTHS,
    ),
    stage(
        best_of_n,
        [
            f"prompts: 7 read, 2 used, {TOO_LONG}, 2 left out by max_prompts 2",
            "responses scored by scalar: 4 read, 4 used",
        ],
        policy="{}/policy", reward="{}/scalar", prompts=("{}/prompts.jsonl",),
        samples=2, max_prompts=2, batch_size=4, **LENGTHS,
    ),
    stage(
        judge,
        [
            "labelled sentences: 50 read, 40 used, 10 dropped (shorter than 3 words)",
            f"prompts: 7 read, 6 used ({BEGUN}), 1 left out by max_prompts 6",
            "held-out texts: 6 read, 6 used",
            "responses scored by scalar: 18 read, 18 used (9 cut by the longest",
        ],
        **POLICY, labelled="{}/labels.tsv", reward="{}/scalar", window=16,
        prompts=("{}/prompts.jsonl",), texts=("{}/texts.jsonl",), max_prompts=6,
        **LENGTHS,
    ),
    stage(
        baselines,
        [
            f"rankings: 7 read, 6 used, {TIED}",
            f"held-out rankings: 7 read, 6 used, {TIED}",
            "prompts: 7 read, 6 used, 1 left out by max_prompts 6",
            "held-out texts: 6 read, 6 used",
            "responses scored by scalar: 48 read, 48 used (24 cut by the longest",
        ],
        **POLICY, reward="{}/scalar", rankings=("{}/ranks.jsonl",), window=16,
        held_out=("{}/ranks.jsonl",), prompts=("{}/prompts.jsonl",),
        texts=("{}/texts.jsonl",), max_prompts=6, **LENGTHS,
    ),
    stage(
        evaluate,
        [
            "prompts: 7 read, 6 used, 1 left out by max_prompts 6",
            "held-out texts: 6 read, 6 used",
            "responses scored by scalar: 12 read, 12 used (6 cut by the longest",
        ],
        **POLICY, world="{}", baseline="a", reward="{}/scalar", max_prompts=6,
        window=16, **LENGTHS,
    ),
    stage(
        labelled,
        [
            "labelled sentences: 50 read, 40 used, 10 dropped (shorter than 3 words)",
            "prompts: 7 read, 7 used",
        ],
        labelled=("{}/labels.tsv",), prompts=("{}/prompts.jsonl",), count=2,
        valid_count=2, valid=0.5,
    ),
    stage(
        tokenizer, ["texts: 6 read, 6 used"], texts=("{}/texts.jsonl",), vocab_size=300
    ),
]  # fmt: skip


def filled(value, folder):
    if isinstance(value, str):
        return value.replace("{}", str(folder))
    return (
        tuple(filled(v, folder) for v in value) if isinstance(value, tuple) else value
    )


@contextlib.contextmanager
def without_world_suites(module):
    """The evaluation of policies without the suites that read no file."""
    with pytest.MonkeyPatch.context() as patch:
        if module is evaluate:
            run = sys.modules["rlhf_jax.stages.evaluate.run"]
            for name in ("truth", "toxicity", "bias", "skills"):
                patch.setattr(run, f"world_{name}", lambda *args, **options: ())
            for name in ("gold_table", "preference"):
                patch.setattr(run, name, lambda *args, **options: {})
        yield


@pytest.mark.parametrize(("module", "fields", "told"), STAGES)
def test_a_stage_says_what_became_of_its_rows(
    module, fields, told, world, tmp_path, capsys
):
    fields = {name: filled(value, world) for name, value in fields.items()}
    with without_world_suites(module):
        module.run(module.Config(**fields), tmp_path, SETTINGS)
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert [account["name"] for account in kept] == [
        line.partition(":")[0] for line in told
    ]
    for line, account in zip(told, kept, strict=True):
        assert any(found.startswith(line) for found in said.splitlines()), line
        lost = sum(account["dropped"].values()) + sum(account["cut"].values())
        warned = f"of the rows are dropped or cut: {line}" in said
        assert warned == (lost > 0.05 * account["read"])
        limited = sum(account["limited"].values())
        dropped = sum(account["dropped"].values())
        assert account["read"] == account["used"] + dropped + limited
    if (tmp_path / "metrics.jsonl").exists():
        first = next(iter(read_metrics(tmp_path)))
        assert first[f"rows/{kept[0]['name']}/read"] == kept[0]["read"]


def test_the_preparation_says_what_became_of_its_rows(world, tmp_path, capsys):
    rows = [
        {"prompt": f"What is {n} and {n * n}, {n:b}?", "user": str(n), "id": str(n)}
        | {"completion": "a number", "label": n > 0}
        for n in range(40)
    ]
    rows[1]["prompt"] = " ".join(f"word{n}" for n in range(40))
    lines = [*map(json.dumps, rows), json.dumps({"prompt": 3, "completion": "x"})]
    (tmp_path / "d.jsonl").write_text("\n".join(lines) + "\n")
    config = prepare.Config((str(tmp_path / "d.jsonl"),), max_prompt=60)
    prepare.run(config, tmp_path, SETTINGS)
    (account,) = json.loads((tmp_path / "rows.json").read_text())
    assert account["read"] == 41
    assert account["dropped"]["as bad rows"] == account["dropped"]["labelled bad"] == 1
    assert account["dropped"]["by the rule of prompt length"] == 1
    assert "demonstrations: 41 read" in capsys.readouterr().out


CHECKED = {"sft": "demos", "reward": "ranks", "dpo": "ranks", "ppo": "prompts"}


@pytest.mark.parametrize("stage", [*CHECKED, "candidates", "best_of_n", "pretrain"])
def test_data_check_says_before_what_the_stage_says_then(stage, world, capsys):
    told = {param.id: param.values[2][0] for param in STAGES}
    name = {**CHECKED, "pretrain": "texts"}.get(stage, "prompts")
    words = ["data", "check", f"{world}/{name}.jsonl", "--model", f"{world}/policy"]
    words += ["--stage", stage, "--max-prompt", "16", "--max-response", "12"]
    assert main([*words, "--max-k", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    # how many prompts are asked for, only a config knows
    expected = ASKED if name == "prompts" else told[stage]
    assert f"stage {stage} with {world}/policy, form 'plain'" in said
    assert any(line.startswith(expected) for line in said)


def test_data_check_says_what_a_stage_would_refuse(world, capsys):
    words = ["data", "check", "--model", f"{world}/policy", f"{world}/demos.jsonl"]
    assert main([*words, "--stage", "reward"]) == 2
    said = capsys.readouterr().out
    assert "error: " in said and "the stage wants preferences" in said
    assert main([*words, "--stage", "ppo"]) == 2
    said = capsys.readouterr().out
    assert (
        "error: max_prompt + max_response is 2000 tokens, expected at most 64" in said
    )
    assert main([*words, "--form", "template"]) == 2
    assert "error: chat template: expected the tokenizer to have" in (
        capsys.readouterr().out
    )
    assert main([*words, "--json", "--max-prompt", "16", "--max-response", "12"]) == 0
    found = json.loads(capsys.readouterr().out)["stage"]
    assert found["stage"] == "sft" and found["form"] == "plain"
    assert found["account"]["cut"] == {"at max_response 12": 2}
