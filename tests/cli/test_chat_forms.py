"""`rlhf-jax chat` and its reward model read a conversation as each was trained."""

import pathlib
import re
import sys

import jax
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "data"))

from chat_families import CHAT_FAMILIES  # noqa: E402

from rlhf_jax.cli import main  # noqa: E402
from rlhf_jax.models import TrunkConfig  # noqa: E402
from rlhf_jax.registry import load_reward, reward_from, save_model  # noqa: E402
from rlhf_jax.stages.pretrain import fresh_model  # noqa: E402

SAID = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("form", ["template", "plain"])
def test_a_reward_is_that_of_the_form_it_was_trained_in(form, tmp_path, capsys):
    """Issue 19, case 27: it was given the template spelled out as text."""
    shape = TrunkConfig(1, 128, 16, 1, 2)
    policy = fresh_model(shape, CHAT_FAMILIES["chatml"].tokenizer)
    policy = policy.in_form((), "template")
    scalar = reward_from(policy, jax.random.key(1))
    for name, made, meta in (
        ("policy", policy, policy.meta),
        ("reward", scalar, {"form": form}),
    ):
        save_model(tmp_path / name, made.model, made.params, made.tokenizer, meta)
    words = ["--prompt", "hello", "--max-new-tokens", "3", "--temperature", "0"]
    policy, judge = str(tmp_path / "policy"), str(tmp_path / "reward")
    assert main(["chat", policy, "--samples", "2", "--reward", judge, *words]) == 0
    said = capsys.readouterr().out
    shown = float(re.search(r"\[1: reward ([-+.\d]+)\]", said).group(1))
    written = re.search(r"\[1: reward [^\]]*\]\n(.*)\n\[2: ", said, re.S).group(1)
    reward = load_reward(judge)
    asked = [SAID] if form == "template" else ["hello"]
    expected = reward.score(asked, [written])[0]
    assert shown == pytest.approx(expected, abs=2e-3)
    other = reward.score(["<|im_start|>user\nhello<|im_end|>\n"], [written])[0]
    assert other != pytest.approx(expected, abs=2e-3)
