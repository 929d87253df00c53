"""The reward model, from K-wise rankings (InstructGPT section 3.5, appendix C.2).

    loss(θ) = -1/C(K,2) E_{(x, y_w, y_l) ~ D}[ log σ(r_θ(x, y_w) - r_θ(x, y_l)) ]

All comparisons of a prompt are one element of the batch: each response is forwarded
once, the prompt once for all of them, and every prompt weighs the same however many
responses it has. Ties are dropped. After training a bias makes the demonstrations
score 0 on average; the loss does not see it.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.data import Ranking
from rlhf_jax.evaluation.reward_model import (
    accuracy_by_rank_gap,
    calibration,
    length_correlation,
    pair_accuracy,
    pairs_of,
    score_rankings,
)
from rlhf_jax.losses import (
    ranking_accuracy,
    ranking_loss,
    terminal_index,
    weighted_sum,
)
from rlhf_jax.models import shared_prefix_values
from rlhf_jax.stages.hand_over import LoadedModel, load_model, reward_from, save_model
from rlhf_jax.stages.inputs import (
    batch_ids,
    demonstration_stream,
    numeric,
    one_epoch,
    ranking_stream,
    read_rows,
)
from rlhf_jax.stages.randomness import named_key
from rlhf_jax.stages.scoring import make_text_reward
from rlhf_jax.stages.session import RunSettings, fit, open_session
from rlhf_jax.training import OptimizerConfig

__all__ = ["Config", "make_loss", "run"]


@dataclasses.dataclass
class Config:
    """Settings of reward-model training."""

    # model directory or hub name whose trunk is taken: section 3.5 the SFT model (the
    # paper's final one came from a 6B GPT-3 fine-tuned on public NLP sets, C.2)
    init: str
    # files of rankings
    rankings: tuple[str, ...]
    # held-out rankings by the same labelers, and by labelers never trained on
    valid_rankings: tuple[str, ...] = ()
    held_out_rankings: tuple[str, ...] = ()
    # demonstrations whose mean score becomes 0; empty: no bias is set
    demonstrations: tuple[str, ...] = ()
    # passes; C.2: a single one, "several epochs quickly overfit"
    epochs: int = 1
    # prompts per update (each with up to C(9,2) = 36 comparisons); C.2: 64
    batch_size: int = 64
    # longest prompt and response in tokens
    max_prompt: int = 1000
    max_response: int = 1000
    # most responses per prompt; section 3.5: 4 to 9
    max_k: int = 9
    # C.2: 9e-6, cosine to 10 %; ±50 % made little difference
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(name="adam", learning_rate=9e-6)
    )
    # largest gradient norm; NOT STATED
    clip_norm: float | None = None
    # parts of a batch trained one after the other
    microbatches: int = 1
    # dropout in training; NOT STATED
    residual_dropout: float = 0.0
    # updates between evaluations; None: only after the last
    evaluate_every: int | None = None
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if not self.rankings:
            yield "rankings: at least one file is needed"
        if self.max_k < 2:
            yield f"max_k: {self.max_k}; a comparison needs two responses"
        if self.batch_size % self.microbatches:
            yield f"microbatches: {self.microbatches} does not divide batch_size"


def ranking_scores(
    model: Any, params: Any, batch: dict, **apply_options: Any
) -> Float[Array, "B K"]:
    """r_θ(x, y_k) of every response, the prompt forwarded once.

    Args:
      model: `ScalarModel`.
      params: its params.
      batch: `prompts [B,P]`, `prompt_valid`, `responses [B,K,R]`, `response_valid`.
      **apply_options: such as `deterministic` and `rngs`.

    Returns:
      [B, K] float32: the value at the last real token of each response. Where a
      response is absent the number means nothing; `present` masks it.
    """
    values = shared_prefix_values(
        model,
        params,
        batch["prompts"],
        batch["prompt_valid"],
        batch["responses"],
        batch["response_valid"],
        **apply_options,
    )
    rows, count, length = values.shape
    last = terminal_index(batch["response_valid"].reshape(rows * count, length))
    last = jnp.maximum(last, 0).reshape(rows, count, 1)
    return jnp.take_along_axis(values, last, axis=2)[..., 0]


def make_loss(model: Any) -> Callable:
    """The ranking loss for `make_update`.

    Returns:
      `(params, batch, rng) -> (loss in nats per prompt, metrics)`; the batch has, in
      addition to `ranking_scores`', `ranks [B,K]`, `present [B,K]` and `mask [B]`
      (the prompt has a pair that is not tied).
    """
    dropout = model.config.residual_dropout > 0

    def loss_fn(params: Any, batch: dict, rng: Array) -> tuple[Array, dict]:
        options = {"deterministic": False, "rngs": {"dropout": rng}} if dropout else {}
        scores = ranking_scores(model, params, batch, **options)
        losses = ranking_loss(scores, batch["ranks"], batch["present"])
        accuracy = ranking_accuracy(scores, batch["ranks"], batch["present"])
        weights = batch["weights"]
        return weighted_sum(losses, weights), {
            "accuracy": weighted_sum(accuracy, weights)
        }

    return loss_fn


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains a reward model and returns its directory; `report.json` tells how good."""
    workdir = pathlib.Path(workdir)
    base = load_model(config.init).with_config(residual_dropout=config.residual_dropout)
    start = reward_from(base, named_key(jax.random.key(config.seed), "head"))
    stream = _stream(config, start, config.rankings, config.seed)
    measure = make_measure(config, start)
    steps = config.epochs * stream.steps_per_epoch
    with open_session(
        workdir,
        settings or RunSettings(),
        identity=config,
        batch_ids=batch_ids(stream),
        steps=steps,
    ) as session:
        state = fit(
            session,
            make_loss(start.model),
            start.params,
            stream.batch,
            steps,
            optimizer=config.optimizer,
            seed=config.seed,
            microbatches=config.microbatches,
            clip_norm=config.clip_norm,
            evaluate=lambda params, step: _flat(measure(params)),
            evaluate_every=config.evaluate_every,
        )
    trained = dataclasses.replace(start, params=state.params)
    centred, bias = centre_on_demonstrations(config, trained)
    report = measure(centred.params) | {"bias": bias}
    (workdir / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    target = workdir / "model"
    model = centred.with_config(residual_dropout=0.0).model
    meta = {"stage": "reward", "bias": bias}
    save_model(target, model, centred.params, centred.tokenizer, meta)
    return target


def _stream(config: Config, model: LoadedModel, files: tuple, seed: int) -> Any:
    return ranking_stream(
        files,
        model.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        max_k=config.max_k,
        batch_size=config.batch_size,
        seed=seed,
    )


def make_measure(config: Config, start: LoadedModel) -> Callable[[Any], dict]:
    """`params -> {set name -> measures}`, on the held-out rankings of the config."""
    files = {"valid": config.valid_rankings, "held_out": config.held_out_rankings}
    sets = {
        name: list(read_rows(some, Ranking)) for name, some in files.items() if some
    }

    def measure(params: Any) -> dict:
        model = dataclasses.replace(start, params=params)
        reward = make_text_reward(
            model, max_prompt=config.max_prompt, max_response=config.max_response
        )
        return {name: ranking_report(reward, rows) for name, rows in sets.items()}

    return measure


def ranking_report(reward: Callable, rankings: Sequence[Ranking]) -> dict:
    """Accuracy with its interval, by rank gap, calibration, and what length explains.

    Args:
      reward: `(prompts, responses) -> scores`.
      rankings: held-out rankings.
    """
    scores = score_rankings(reward, rankings)
    pairs = pairs_of(rankings, scores)
    accuracy, reliability = pair_accuracy(pairs), calibration(pairs)
    return {
        "accuracy": accuracy.estimate,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "pairs": accuracy.num_items,
        "loss": reliability.loss,
        "calibration_error": reliability.error,
        "reliability": {
            "predicted": reliability.predicted.tolist(),
            "observed": reliability.observed.tolist(),
            "counts": reliability.counts.tolist(),
        },
        "by_rank_gap": {
            str(gap): interval.estimate
            for gap, interval in accuracy_by_rank_gap(pairs).items()
        },
        "length": length_correlation(rankings, scores),
    }


def _flat(report: dict) -> dict[str, float]:
    return {
        f"{name}/{key}": value
        for name, entries in report.items()
        for key, value in entries.items()
        if isinstance(value, float)
    }


def centre_on_demonstrations(
    config: Config, model: LoadedModel
) -> tuple[LoadedModel, float]:
    """Shifts the head's bias so that demonstrations score 0 on average (section 3.5).

    Returns:
      (the model, what was added to the bias).
    """
    if not config.demonstrations:
        return model, 0.0
    stream = demonstration_stream(
        config.demonstrations,
        model.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=config.batch_size,
        seed=0,
    )
    value = jax.jit(
        lambda params, batch: model.model.apply(
            {"params": params}, batch["tokens"], batch["valid"]
        )
    )
    scores = []
    for batch in one_epoch(stream):
        values = np.asarray(value(model.params, numeric(batch)))
        real = batch["mask"].any(axis=1)
        last = batch["valid"].shape[1] - 1 - np.argmax(batch["valid"][:, ::-1], axis=1)
        scores.append(values[np.arange(len(last)), last][real])
    shift = -float(np.concatenate(scores).mean())
    head = model.params["head"]
    params = {**model.params, "head": {**head, "bias": head["bias"] + shift}}
    return dataclasses.replace(model, params=params), shift
