"""A real chat model through the whole house: trained, asked, evaluated, exported.

Skips where `models/smollm2-135m-instruct` is not among the real data; some 5 GB.
"""

import functools
import json

import jax
import pytest

from rlhf_jax.cli import main
from rlhf_jax.data import Message
from rlhf_jax.parallel import make_mesh
from rlhf_jax.registry import load_model
from rlhf_jax.stages import sft
from rlhf_jax.training import OptimizerConfig, settings
from rlhf_jax.training.session import RunSettings

TALKS = [
    [
        ("system", "Be brief."),
        ("user", "Who runs the mill?"),
        ("assistant", "Ann does."),
        ("user", "Since when?"),
        ("assistant", "Since spring."),
    ],
    [("user", "What is 2 + 2?"), ("assistant", "It is 4.")],
]
SAID = ("Ann does.<|im_end|>", "Since spring.<|im_end|>")


@pytest.fixture(scope="module")
def start(shared_data):
    path = shared_data / "models" / "smollm2-135m-instruct"
    if not path.is_dir():
        pytest.skip("models/smollm2-135m-instruct is absent")
    return str(path)


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    path = tmp_path_factory.mktemp("talks") / "talks.jsonl"
    rows = [[{"role": r, "content": c} for r, c in turns] for turns in TALKS]
    lines = (json.dumps({"messages": messages}) + "\n" for messages in rows)
    path.write_text("".join(lines))
    return str(path)


def plain(text):
    """What `data show` says without its bars and line ends."""
    return text.replace("▏", "").replace("⏎\n", "\n").replace("⏎", "\n")


def test_data_show_and_check_say_what_is_trained(start, talks, capsys):
    assert main(["data", "show", talks, "0", "--model", start]) == 0
    shown = capsys.readouterr().out
    assert "43 tokens, 8 trained" in shown
    for answer in SAID:
        assert f"<|im_start|>assistant\n{answer}" in plain(shown)
    words = ["--max-prompt", "96", "--max-response", "32"]
    assert main(["data", "check", talks, "--model", start, *words]) == 0
    assert f"stage sft with {start}, form 'template'" in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_trained_asked_evaluated_and_exported(
    start, talks, tmp_path, capsys, monkeypatch
):
    config = sft.Config(
        init=start,
        demonstrations=(talks,),
        epochs=2,
        batch_size=1,
        max_prompt=96,
        max_response=32,
        select_by="last",
        residual_dropout=0.0,
        optimizer=OptimizerConfig(name="adam", learning_rate=1e-5),
    )
    one = functools.partial(make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(settings, "make_mesh", one)  # the tests pretend to have eight
    sft.run(config, tmp_path / "sft", RunSettings(mesh="1,1,1", tensorboard=False))
    folder = str(tmp_path / "sft")
    losses = [
        json.loads(line)["loss"]
        for line in (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()
    ]
    assert losses[-1] < losses[0]
    trained = load_model(folder)
    assert trained.form.name == "template"
    messages = [Message(role=role, content=said) for role, said in TALKS[1]]
    ids, weights = trained.form.training_ids(messages)
    asked = trained.form.prompt_ids(messages[:1])
    assert ids[: len(asked)] == asked and not any(weights[: len(asked)])
    capsys.readouterr()
    assert main(["data", "show", talks, "0", "--model", folder]) == 0
    assert "43 tokens, 8 trained" in capsys.readouterr().out
    words = ["--prompt", "What is 2 + 2?", "--temperature", "0"]
    assert main(["chat", folder, *words, "--max-new-tokens", "12"]) == 0
    assert "4" in capsys.readouterr().out
    row = {"premise": "Ann runs it.", "hypothesis": "It is run", "label": "entailment"}
    (tmp_path / "val.jsonl").write_text(json.dumps(row) + "\n")
    suite = ["eval", folder, "--suite", "rte", "--data", str(tmp_path), "--shots", "0"]
    assert main(suite) == 0
    assert "prompts in the form 'template'" in capsys.readouterr().err
    assert main([*suite, "--form", "plain"]) == 2
    assert main(["export", folder, str(tmp_path / "out"), "--check"]) == 0
    assert "read again: largest difference" in capsys.readouterr().out
