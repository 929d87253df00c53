"""Supervised fine-tuning on demonstrations, and the start of PPO.

    max_φ  E_{(x, y) ~ D_demo} [ Σ_t log p_φ(y_t | x, y_<t) ]

Two artefacts come from this stage (InstructGPT C.1 and C.3): the SFT baseline, 16
epochs with residual dropout 0.2; and the initialisation of PPO, 2 epochs with 10 % of
pretraining text mixed in, which is also the reference of the KL penalty. They are the
same code with two configs: `Config()` and `ppo_init()`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax import data
from rlhf_jax.data import Demonstration, Prompt, Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.conversations import FORMS
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import (
    as_records,
    booked,
    fitting,
    mixed_demonstrations,
    one_epoch,
    read_rows,
)
from rlhf_jax.errors import InputError, NumericsError
from rlhf_jax.experience import Writer
from rlhf_jax.fields import DataFile, Length, ModelName, RewardName
from rlhf_jax.models import LoRA
from rlhf_jax.models.config import DTYPES
from rlhf_jax.registry import (
    LoadedModel,
    Reward,
    as_reward,
    form_of,
    load_model,
    load_reward,
    require_language_model,
    save_model,
)
from rlhf_jax.schema import at_least, divides, one_of, positive, shares
from rlhf_jax.stages.likelihood import make_loss, make_perplexity
from rlhf_jax.stages.split import Split, split_start
from rlhf_jax.storage import write_json
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import Run, RunSettings, fit


@dataclasses.dataclass
class Config:
    """Settings of supervised fine-tuning."""

    # model directory or hub name to start from
    init: ModelName = ""
    # files of demonstrations
    demonstrations: tuple[DataFile, ...] = ()
    # files of held-out demonstrations, for the validation loss
    valid_demonstrations: tuple[DataFile, ...] = ()
    # files of pretraining text mixed in, and their share of the rows; C.3: 10 % for
    # the PPO initialisation, none for the baseline
    texts: tuple[DataFile, ...] = ()
    # share of the rows that are such text
    mix_fraction: float = 0.0
    # passes over the demonstrations; C.1: 16
    epochs: Length = 16
    # rows per update; C.1: 32 for 1.3B and 6B, 8 for 175B
    batch_size: int = 32
    # longest prompt and response in tokens; C: 1k each, in a context of 2k
    max_prompt: int = 1000
    # longest response in tokens, its end token included
    max_response: int = 1000
    # "padded" (one per row), "packed" (several per row) or "buckets" by length
    layout: str = "padded"
    # how the model reads conversations: "template" (its tokenizer's chat template),
    # "transcript" or "plain"; kept with the model and obeyed by all that use it. None:
    # the model's; of a new one "template", where it has one and the records are
    # conversations, which else are transcripts
    form: str | None = None
    # which turns of the assistant are trained: "all" or "last"
    train_turns: str = "all"
    # train on the prompt's tokens too; NOT STATED
    train_on_prompt: bool = False
    # train this adapter beside the frozen model; None: the whole model, as in the paper
    adapter: LoRA | None = None
    # compute dtype; None: that of `init`
    dtype: str | None = None
    # after each residual branch; C.1: 0.2
    residual_dropout: float = 0.2
    # C.1: 9.65e-6 for 1.3B and 6B, cosine to 10 %, no warm-up
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(name="adam", learning_rate=9.65e-6)
    )
    # largest gradient norm; NOT STATED
    clip_norm: float | None = None
    # parts of a batch trained one after the other
    microbatches: int = 1
    # which epoch's model is the result: "reward" (mean reward-model score of samples
    # for `valid_prompts`, as in C.1), "loss" (lowest validation loss) or "last"
    select_by: str = "loss"
    # for select_by="reward": model directory of the reward model, and prompt files
    reward: RewardName | None = None
    # for select_by="reward": files of prompts
    valid_prompts: tuple[DataFile, ...] = ()
    # prompts sampled for the selection, at temperature 1
    select_prompts: int = 64
    # of all that is drawn at random
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.init:
            yield "init: the model to start from is needed"
        if not self.demonstrations:
            yield "demonstrations: at least one file is needed"
        yield from one_of(self, "select_by", ("reward", "loss", "last"))
        if self.select_by == "reward" and not (self.reward and self.valid_prompts):
            yield "select_by: 'reward' needs `reward` and `valid_prompts`"
        if self.select_by == "loss" and not self.valid_demonstrations:
            yield "select_by: 'loss' needs `valid_demonstrations`; or say 'last'"
        yield from one_of(self, "layout", ("padded", "packed", "buckets"))
        yield from one_of(self, "form", (None, *FORMS))
        yield from one_of(self, "train_turns", ("all", "last"))
        yield from one_of(self, "dtype", (None, *DTYPES))
        yield from at_least(self, 1, "epochs", "batch_size", "microbatches")
        yield from at_least(self, 1, "max_prompt", "max_response", "select_prompts")
        yield from shares(self, "residual_dropout", "mix_fraction")
        yield from positive(self, "clip_norm")
        yield from divides(self, "microbatches", "batch_size")
        if self.mix_fraction and self.layout == "buckets":
            yield "layout: 'buckets' cannot be mixed with text"
        if self.mix_fraction and not self.texts:
            yield "texts: mix_fraction > 0 needs pretraining text"


def ppo_init(init: str, demonstrations: tuple[str, ...], **changes: Any) -> Config:
    """The config of the PPO initialisation: 2 epochs, 10 % pretraining mix (C.3).

    Args:
      init: the pretrained model.
      demonstrations: files of demonstrations.
      **changes: other fields of `Config`; `texts` is needed.
    """
    defaults = {
        "epochs": 2,
        "mix_fraction": 0.1,
        "residual_dropout": 0.0,  # NOT STATED for this model
        "optimizer": OptimizerConfig(name="adam", learning_rate=5e-6),  # C.3, 1.3B
        "select_by": "last",
    }
    return Config(init, demonstrations, **{**defaults, **changes})


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Fine-tunes and returns the directory of the selected model."""
    by_reward = config.select_by == "reward"
    settings = settings or RunSettings()
    mesh = settings.make_mesh()
    train(
        load_model(config.init, mesh=mesh, dtype=config.dtype),
        read_rows(config.demonstrations, Demonstration),
        valid_demonstrations=read_rows(config.valid_demonstrations, Demonstration),
        texts=read_rows(config.texts, Text),
        reward=load_reward(config.reward, mesh=mesh, light=settings.light)
        if by_reward
        else None,
        valid_prompts=read_rows(config.valid_prompts, Prompt) if by_reward else (),
        config=config,
        workdir=workdir,
        settings=settings,
    ).result()
    return pathlib.Path(workdir) / "model"


def train(
    start: LoadedModel,
    demonstrations: Iterable[Demonstration],
    *,
    valid_demonstrations: Iterable[Demonstration] = (),
    texts: Iterable[Text | str] = (),
    reward: Any = None,
    valid_prompts: Iterable[Prompt | str] = (),
    config: Config | None = None,
    workdir: str | pathlib.Path | None = None,
    settings: RunSettings | None = None,
) -> Run:
    """Supervised fine-tuning on objects: iterate for the metrics, ask for the model.

    Args:
      start: a language model.
      demonstrations: records.
      valid_demonstrations: held out, for the validation loss.
      texts: of the pretraining mix; needed when `mix_fraction` > 0.
      reward: for `select_by="reward"`: what scores; see `registry.as_reward`.
      valid_prompts: for `select_by="reward"`: what is answered.
      config: the settings; its names of models and files are not looked at.
      workdir: where checkpoints, metrics and the selected model go; None: nowhere.
      settings: how to run.

    Returns:
      A `Run`: yields the metrics of each update; its `model` is the selected one.

    Raises:
      InputError: what the selection needs is not given.
    """
    config = config or Config(select_by="last")
    start = require_language_model(start, "sft.init").with_config(
        residual_dropout=config.residual_dropout
    )
    rows = as_records(demonstrations, Demonstration)
    start = start.in_form(rows, config.form, "sft.form")
    model, first = split_start(start, config.adapter, config.seed)
    start = model.shell
    stream = mixed_demonstrations(
        rows,
        list(as_records(texts, Text)),
        start.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=config.batch_size,
        seed=config.seed,
        train_on_prompt=config.train_on_prompt,
        layout=config.layout,
        mix_fraction=config.mix_fraction,
        form=start.form,
        train_turns=config.train_turns,
    )
    accounts: list[Account] = []
    measures = _measures(
        config,
        start,
        as_records(valid_demonstrations, Demonstration),
        None if reward is None else as_reward(reward),
        as_records(valid_prompts, Prompt),
        accounts,
    )
    measures = {
        name: lambda own, measure=measure: measure(model.whole(own))
        for name, measure in measures
    }
    selection = Selection(config, model, workdir, measures)
    rows = fit(
        config,
        workdir,
        settings,
        model.loss(make_loss(start.model)),
        first,
        stream,
        config.epochs * stream.steps_per_epoch,
        frozen=model.frozen(),
        dtype=start.model.config.dtype,
        evaluate=selection.evaluate,
        evaluate_every=stream.steps_per_epoch,
        accounts=accounts,
    )
    return Run(rows, selection.finish)


class Selection:
    """After each epoch: measure, and keep the best model so far.

    The best model is written when it is found, its score beside it, so a run that is
    cut and continued selects the same one: an epoch measured twice gives the same
    number.
    """

    def __init__(
        self,
        config: Config,
        model: Split,
        workdir: str | pathlib.Path | None,
        measures: dict[str, Callable[[Any], float]],
    ):
        self.config, self.model, self.measures = config, model, measures
        self.workdir = None if workdir is None else pathlib.Path(workdir)
        self.metric, self.sign = _CRITERIA[config.select_by]
        if self.metric is not None and self.metric not in measures:
            raise InputError(
                f"sft.select_by: {config.select_by!r} needs "
                f"{_NEEDED[config.select_by]}; or say 'last'"
            )
        self.note = {"step": 0, "score": -np.inf}
        self.best: Any = None

    def evaluate(self, params: Any, step: int) -> dict[str, float]:
        """The validation metrics of an epoch; for `fit`."""
        metrics = {name: measure(params) for name, measure in self.measures.items()}
        if self.metric is not None:
            score = self.sign * metrics[self.metric]
            if not np.isfinite(score):
                raise NumericsError(
                    f"sft: {self.metric} is {metrics[self.metric]} after step {step}: "
                    "there is nothing to select by"
                )
            if score > self._best(step):
                self._keep(params, step, score)
        return metrics

    def _best(self, step: int) -> float:
        """The best score of the epochs before `step`."""
        file = self.workdir and self.workdir / "selected.json"
        if file and file.is_file():
            self.note = json.loads(file.read_text())
        return self.note["score"] if self.note["step"] < step else -np.inf

    def _keep(self, params: Any, step: int, score: float) -> None:
        self.note = {"step": step, "score": score}
        if self.workdir is None:
            self.best = jax.tree.map(jnp.copy, params)  # the next update donates them
            return
        self._save(params, {"selected_by": self.config.select_by, "step": step})
        write_json(self.workdir / "selected.json", self.note)

    def _save(self, params: Any, meta: dict) -> None:
        found = self._loaded(params)
        meta = {"stage": "sft", **form_of(found), **meta}
        target, tokenizer = self.workdir / "model", found.tokenizer
        save_model(
            target, found.model, found.params, tokenizer, meta, adapter=found.adapter
        )

    def _loaded(self, params: Any) -> LoadedModel:
        return self.model.loaded(params).with_config(residual_dropout=0.0)

    def finish(self, params: Any) -> LoadedModel:
        """The selected model."""
        if self.config.select_by == "last":
            self.best = params
            if self.workdir is not None:
                self._save(params, {"selected_by": "last"})
        if self.best is None:
            return load_model(self.workdir / "model")
        return self._loaded(self.best)


# how to select -> metric, and its sign so that more is better
_CRITERIA = {
    "reward": ("valid/reward", 1.0),
    "loss": ("valid/nats_per_token", -1.0),
    "last": (None, 0.0),
}
_NEEDED = {
    "reward": "a reward and valid_prompts",
    "loss": "valid_demonstrations",
}


def _measures(
    config: Config,
    start: LoadedModel,
    demonstrations: Iterable[Demonstration],
    reward: Reward | None,
    prompts: Iterable[Prompt],
    accounts: list[Account],
) -> Iterator[tuple[str, Callable[[Any], float]]]:
    if any(True for _ in demonstrations):
        held_out = data.demonstration_stream(
            demonstrations,
            start.tokenizer,
            batch_size=config.batch_size,
            context_length=config.max_prompt + config.max_response,
            max_prompt=config.max_prompt,
            max_response=config.max_response,
            form=start.form,
            train_turns=config.train_turns,
            seed=0,
        )
        accounts += [
            dataclasses.replace(account, name="valid demonstrations")
            for account in held_out.accounts
        ]
        perplexity = make_perplexity(start.model)
        yield (
            "valid/nats_per_token",
            lambda params: perplexity(params, one_epoch(held_out))["nats_per_token"],
        )
    if reward is not None and (
        asked := booked(prompts, account := Account("valid prompts"))
    ):
        accounts.append(account)
        some = fitting(asked, start.form, config.max_prompt, account)
        some = account.first(some, "select_prompts", config.select_prompts)
        texts = [said_before(prompt) for prompt in some]
        key = jax.random.key(config.seed)

        def score(params: Any) -> float:
            policy = dataclasses.replace(start, params=params)
            writer = Writer(policy, config.max_response, config.max_prompt)
            return float(reward.score(texts, writer.write(texts, key)).mean())

        yield "valid/reward", score
