"""`rlhf-jax config`: every setting, as its source describes it."""

import dataclasses
import json

import pytest

from rlhf_jax.cli import main
from rlhf_jax.pipeline.settings_reference import described, found, kinds


def test_each_kind_of_stage_is_listed(capsys):
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{kind} " in f"\n{out}" for kind in kinds())


@pytest.mark.parametrize("kind", kinds())
def test_every_setting_says_what_it_is(kind):
    settings = found(kind)
    assert settings and not [s.key for s in settings if not s.text]
    assert len({s.key for s in settings}) == len(settings)


def test_a_setting_is_told_with_type_default_and_source(capsys):
    assert main(["config", "ppo.kl.kl_coef"]) == 0
    assert capsys.readouterr().out == (
        "ppo.kl.kl_coef: float = 0.02\n    β; InstructGPT C.4: 0.02\n"
    )


def test_what_a_path_is_and_parts_of_parts_are_told(capsys):
    assert main(["config", "--json", "reward"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["reward.rankings"]["role"].startswith("a file of rows")
    assert rows["reward.optimizer.b1"]["default"] == "0.9"
    assert "β" not in rows["reward.optimizer.b1"]["text"]


def test_a_setting_that_is_not_there_is_told_with_its_neighbours(capsys):
    assert main(["config", "ppo.klcoef"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["config", "pp"]) == 2
    assert "'pp' is no kind of stage; did you mean ppo" in capsys.readouterr().err


def test_comments_and_documented_attributes_are_both_read():
    @dataclasses.dataclass
    class Part:
        """A part.

        Attributes:
          width: of it, in
            cells.
        """

        width: int

    @dataclasses.dataclass
    class Whole:
        """A whole."""

        # how often,
        # in steps
        often: int = 3
        part: Part | None = None

    Whole.__annotations__["part"] = Part | None
    rows = {s.key: s for s in described(Whole, "x")}
    assert rows["x.often"].text == "how often, in steps"
    assert rows["x.often"].default == "3"
    assert rows["x.part"].text == "A part."
    assert rows["x.part.width"].text == "of it, in cells."
    assert rows["x.part.width"].default is None
