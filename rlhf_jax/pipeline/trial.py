"""What a stage with a model would do with files, told before it runs.

The model's tokenizer and form are read, its parameters are not.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rlhf_jax import data
from rlhf_jax.data.account import Account, told
from rlhf_jax.data.inputs import read_rows
from rlhf_jax.data.rows import Intake
from rlhf_jax.data.trial import trial
from rlhf_jax.errors import InputError
from rlhf_jax.models import EncoderRewardModel
from rlhf_jax.pipeline.checks import problems_of
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.registry import LoadedModel, load_reader
from rlhf_jax.stages import module_of

__all__ = ["STAGES", "Trial", "stage_for", "stage_trial"]

# stage -> (the records it takes, the setting of their files, that of the model)
STAGES = {
    "sft": ("Demonstration", "demonstrations", "init"),
    "reward": ("Ranking", "rankings", "init"),
    "dpo": ("Ranking", "rankings", "init"),
    "ppo": ("Prompt", "prompts", "init"),
    "candidates": ("Prompt", "prompts", "policies"),
    "best_of_n": ("Prompt", "prompts", "policy"),
    "pretrain": ("Text", "texts", "init"),
}

# settings that have nothing to do with the rows
_ASIDE = {"reward": "", "ptx_coef": 0.0, "window": 1}


@dataclasses.dataclass(frozen=True)
class Trial:
    """What would become of the rows.

    Attributes:
      stage: its kind.
      model: its name.
      form: of the model; None where it could not be settled.
      account: of the rows; None where the stage would refuse them.
      errors: what the stage would refuse, one line each.
    """

    stage: str
    model: str
    form: str | None
    account: Account | None
    errors: list[str]

    def lines(self) -> list[str]:
        """For people."""
        form = f", form {self.form!r}" if self.form else ""
        head = f"stage {self.stage} with {self.model}{form}"
        rows = told([self.account]) if self.account else ()
        return [head, *rows, *(f"error: {line}" for line in self.errors)]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        account = self.account and self.account.as_dict()
        return {**vars(self), "account": account}


def stage_for(record: str) -> str:
    """The first stage that takes such records.

    >>> stage_for("Ranking")
    'reward'
    """
    return next(name for name, (kind, *_) in STAGES.items() if kind == record)


def stage_trial(
    stage: str,
    files: Sequence[str],
    model: str,
    *,
    max_prompt: int | None = None,
    max_response: int | None = None,
    form: str | None = None,
    train_turns: str = "all",
    max_k: int | None = None,
    on_bad_row: str = "error",
) -> Trial:
    """Reads the rows as the stage would.

    Args:
      stage: one of `STAGES`.
      files: as a config names them.
      model: as a config names it.
      max_prompt: tokens; None: as the stage has it.
      max_response: likewise.
      form: that SFT asks for; None: the model's.
      train_turns: of SFT.
      max_k: rankings of more responses are refused.
      on_bad_row: "error" refuses them, "skip" leaves them out.

    Raises:
      InputError: there is no such model.
    """
    kind, named, role = STAGES[stage]
    defaults = {field.name: field.default for field in _fields(stage)}
    limits = {
        name: given or defaults.get(name, 0)
        for name, given in (("max_prompt", max_prompt), ("max_response", max_response))
    }
    config = _config(stage, model, files, limits)
    errors = [
        line.removeprefix(f"config.{stage}.")
        for line in problems_of(Experiment("check", {stage: config}))
    ]
    record, reader = getattr(data, kind), load_reader(model)
    first, rows = (
        read_rows(files, record, intake=Intake(on_bad_row), max_k=max_k)
        for _ in range(2)  # each counts what it reads
    )
    account, found = None, None
    try:
        reader = _settled(reader, first, stage, form, f"{stage}.{role}")
        found = reader.form.name
        apart = isinstance(reader.model, EncoderRewardModel)
        options = {"train_turns": train_turns, "apart": apart}
        account = trial(rows, record, reader.form, **limits, **options)
    except InputError as error:
        errors += str(error).splitlines()
    return Trial(stage, model, found, account, errors)


def _fields(stage: str) -> Sequence[dataclasses.Field]:
    return dataclasses.fields(module_of(stage).Config)


def _config(stage: str, model: str, files: Sequence[str], limits: dict) -> Any:
    _, named, role = STAGES[stage]
    names = {field.name for field in _fields(stage)}
    given = {named: tuple(files), role: (model,) if role == "policies" else model}
    given |= {name: value for name, value in limits.items() if name in names}
    given |= {name: value for name, value in _ASIDE.items() if name in names}
    return module_of(stage).Config(**given)


def _settled(
    reader: LoadedModel, rows: Any, stage: str, form: str | None, where: str
) -> LoadedModel:
    """The model in the form in which the stage would have it."""
    if stage == "pretrain":
        return reader
    if form is not None and stage != "sft":
        name = reader.meta.get("form") or reader.in_form(rows).form.name
        if name != form:
            raise InputError(f"{where}: reads {name!r}; SFT alone chooses a form")
    return reader.in_form(rows, form, where)
