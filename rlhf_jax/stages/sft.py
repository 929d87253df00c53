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
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from rlhf_jax.data.inputs import demonstration_stream, one_epoch, prompt_stream
from rlhf_jax.errors import NumericsError
from rlhf_jax.experience.scoring import make_policy_score
from rlhf_jax.fields import DataFile, Length, ModelName, RewardName
from rlhf_jax.models.config import DTYPES
from rlhf_jax.registry.ensemble import load_reward
from rlhf_jax.registry.model_directory import LoadedModel, load_model, save_model
from rlhf_jax.schema import at_least, divides, one_of, positive, shares
from rlhf_jax.stages.likelihood import make_loss, make_perplexity
from rlhf_jax.storage import write_json
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import RunSettings, fit

__all__ = ["Config", "make_loss", "ppo_init", "run"]


@dataclasses.dataclass
class Config:
    """Settings of supervised fine-tuning."""

    # model directory or hub name to start from
    init: ModelName
    # files of demonstrations
    demonstrations: tuple[DataFile, ...]
    # files of held-out demonstrations, for the validation loss
    valid_demonstrations: tuple[DataFile, ...] = ()
    # files of pretraining text mixed in, and their share of the rows; C.3: 10 % for
    # the PPO initialisation, none for the baseline
    texts: tuple[DataFile, ...] = ()
    mix_fraction: float = 0.0
    # passes over the demonstrations; C.1: 16
    epochs: Length = 16
    # rows per update; C.1: 32 for 1.3B and 6B, 8 for 175B
    batch_size: int = 32
    # longest prompt and response in tokens; C: 1k each, in a context of 2k
    max_prompt: int = 1000
    max_response: int = 1000
    # "padded" (one per row), "packed" (several per row) or "buckets" by length
    layout: str = "padded"
    # train on the prompt's tokens too; NOT STATED
    train_on_prompt: bool = False
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
    valid_prompts: tuple[DataFile, ...] = ()
    # prompts sampled for the selection, at temperature 1
    select_prompts: int = 64
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.demonstrations:
            yield "demonstrations: at least one file is needed"
        yield from one_of(self, "select_by", ("reward", "loss", "last"))
        if self.select_by == "reward" and not (self.reward and self.valid_prompts):
            yield "select_by: 'reward' needs `reward` and `valid_prompts`"
        if self.select_by == "loss" and not self.valid_demonstrations:
            yield "select_by: 'loss' needs `valid_demonstrations`; or say 'last'"
        yield from one_of(self, "layout", ("padded", "packed", "buckets"))
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
    workdir = pathlib.Path(workdir)
    start = load_model(config.init, dtype=config.dtype).with_config(
        residual_dropout=config.residual_dropout
    )
    stream = demonstration_stream(
        config.demonstrations,
        start.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=config.batch_size,
        seed=config.seed,
        train_on_prompt=config.train_on_prompt,
        layout=config.layout,
        texts=config.texts,
        mix_fraction=config.mix_fraction,
    )
    selection = Selection(config, start, workdir)
    steps = config.epochs * stream.steps_per_epoch
    params = fit(
        config,
        workdir,
        settings,
        make_loss(start.model),
        start.params,
        stream,
        steps,
        dtype=start.model.config.dtype,
        evaluate=selection.evaluate,
        evaluate_every=stream.steps_per_epoch,
    )
    return selection.finish(params)


class Selection:
    """After each epoch: measure, and keep the best model so far.

    The best model is written when it is found, its score beside it, so a run that is
    cut and continued selects the same one: an epoch measured twice gives the same
    number.
    """

    def __init__(self, config: Config, start: LoadedModel, workdir: pathlib.Path):
        self.config, self.start, self.workdir = config, start, workdir
        self.note = workdir / "selected.json"
        self.measures = dict(_measures(config, start))

    def evaluate(self, params: Any, step: int) -> dict[str, float]:
        """The validation metrics of an epoch; for `fit`."""
        metrics = {name: measure(params) for name, measure in self.measures.items()}
        name, sign = {
            "reward": ("valid/reward", 1.0),
            "loss": ("valid/nats_per_token", -1.0),
            "last": (None, 0.0),
        }[self.config.select_by]
        if name is not None and not np.isfinite(metrics[name]):
            raise NumericsError(
                f"sft: {name} is {metrics[name]} after step {step}: no epoch can be "
                "selected by it; look at the loss and the validation data"
            )
        if name is not None and sign * metrics[name] > self._best(step):
            self._keep(params, step, sign * metrics[name])
        return metrics

    def _best(self, step: int) -> float:
        """The best score of the epochs before `step`."""
        if not self.note.is_file():
            return -np.inf
        best = json.loads(self.note.read_text())
        return best["score"] if best["step"] < step else -np.inf

    def _keep(self, params: Any, step: int, score: float) -> None:
        self._save(params, {"selected_by": self.config.select_by, "step": step})
        write_json(self.note, {"step": step, "score": score})

    def _save(self, params: Any, meta: dict) -> None:
        model = self.start.with_config(residual_dropout=0.0).model
        save_model(
            self.workdir / "model",
            model,
            params,
            self.start.tokenizer,
            {"stage": "sft", **meta},
        )

    def finish(self, params: Any) -> pathlib.Path:
        """The directory of the result."""
        if self.config.select_by == "last":
            self._save(params, {"selected_by": "last"})
        return self.workdir / "model"


def _measures(
    config: Config, start: LoadedModel
) -> Iterator[tuple[str, Callable[[Any], float]]]:
    if config.valid_demonstrations:
        held_out = demonstration_stream(
            config.valid_demonstrations,
            start.tokenizer,
            max_prompt=config.max_prompt,
            max_response=config.max_response,
            batch_size=config.batch_size,
            seed=0,
        )
        perplexity = make_perplexity(start.model)
        yield (
            "valid/nats_per_token",
            lambda params: perplexity(params, one_epoch(held_out))["nats_per_token"],
        )
    if config.select_by == "reward":
        prompts = prompt_stream(
            config.valid_prompts,
            start.tokenizer,
            config.max_prompt,
            config.select_prompts,
            seed=0,
        )
        score = make_policy_score(
            start, load_reward(config.reward), max_response=config.max_response
        )
        batch = prompts.batch(0)
        key = jax.random.key(config.seed)
        yield "valid/reward", lambda params: float(score(params, batch, key).mean())
