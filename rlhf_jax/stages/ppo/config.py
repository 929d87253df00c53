"""Settings of PPO and PPO-ptx, each with its source.

NOT STATED marks what the InstructGPT paper does not say; the default's source follows.
"""

import dataclasses
from collections.abc import Iterator

from rlhf_jax.experience import ADVANTAGES, RewardShaping
from rlhf_jax.fields import DataFile, Length, ModelName, RewardName, Stop, Watch
from rlhf_jax.models import LoRA
from rlhf_jax.models.config import DTYPES
from rlhf_jax.registry import Combination
from rlhf_jax.schema import at_least, divides, one_of, positive, shares
from rlhf_jax.training import OptimizerConfig

__all__ = ["Config", "KLControl"]


@dataclasses.dataclass
class KLControl:
    """β, the price of a nat of KL(policy ‖ reference)."""

    # β; InstructGPT C.4: 0.02
    kl_coef: float = 0.02
    # where β stands: in the "reward", per token as in InstructGPT, or in the "loss", by
    # the k3 estimate as in GRPO (Shao et al. 2024, eq. 4)
    place: str = "reward"
    # adapt β so that the KL per episode stays near this many nats; None: β is fixed,
    # as in InstructGPT. Ziegler 2019 used 6
    target: float | None = None
    # episodes over which β adapts; Ziegler 2019: 10,000
    horizon: int = 10_000

    def problems(self) -> Iterator[str]:
        """Values out of range, one line each."""
        if self.kl_coef < 0:
            yield f"kl_coef: {self.kl_coef} is negative: it would reward divergence"
        yield from at_least(self, 1, "horizon")
        yield from one_of(self, "place", ("reward", "loss"))
        if self.target is not None and self.target <= 0:
            yield f"target: {self.target} nats is not positive"


@dataclasses.dataclass
class Config:
    """Settings of PPO; defaults are InstructGPT's where it states one."""

    # model directory of the policy's start, which is also the KL reference
    init: ModelName = ""
    # what scores: the directory of a reward model, of an ensemble or of an encoder, or
    # "python:FILE.py:NAME", a function of prompts, responses and records
    reward: RewardName = ""
    # files of prompts
    prompts: tuple[DataFile, ...] = ()
    # files of text for the ptx term; needed when ptx_coef > 0
    texts: tuple[DataFile, ...] = ()
    # of an ensemble: how its members' scores become one, "mean", "min" or
    # "uncertainty_weighted" with this λ; ignored for a single model. λ for PPO: 0.1
    # (Coste et al. 2023)
    ensemble: Combination = "mean"
    # λ of "uncertainty_weighted"
    variance_coef: float = 0.1
    # what a token was worth: "gae", by a value model as in the paper; "leave_one_out"
    # (RLOO, Ahmadian et al. 2024) and "group_normalized" (GRPO, Shao et al. 2024), by
    # the other responses to its prompt, without a value model
    advantages: str = "gae"
    # responses to each prompt of a rollout; the prompt is read once for all of them.
    # InstructGPT: 1; RLOO: 2 or 4; GRPO: 64
    samples_per_prompt: int = 1
    # value function to start from; None: the reward model, as in the paper (of an
    # ensemble the first member), and where a function or an encoder scores, the
    # policy's trunk under a fresh head. For "gae" alone
    value: ModelName | None = None
    # γ of eq. 2; 27.8 in PPO-ptx, 0 in PPO
    ptx_coef: float = 27.8
    # pretraining examples per episode; C.4: 8
    ptx_per_episode: int = 8
    # tokens of a pretraining example; NOT STATED
    ptx_window: int = 256
    # episodes of the whole run; C.4: 256k
    episodes: Length = 256_000
    # episodes per iteration, those of one prompt together; C.4: 512
    batch_size: int = 512
    # episodes per update; C.4: 64
    minibatch_size: int = 64
    # passes over a rollout; C.4: a single one
    inner_epochs: int = 1
    # parts of a minibatch trained one after the other
    microbatches: int = 1
    # longest prompt in tokens; longer ones are dropped and counted (C: 1k)
    max_prompt: int = 1000
    # rising prompt lengths: the prompts of an iteration are of one bucket and padded
    # to it, not to max_prompt; everything compiles once per bucket. Empty: no buckets
    prompt_buckets: tuple[int, ...] = ()
    # longest response in tokens (C: 1k)
    max_response: int = 1000
    # of sampling *and* scoring; C.4: 1
    temperature: float = 1.0
    # token ids that end a response; empty: the tokenizer's end token
    end_tokens: tuple[int, ...] = ()
    # ε of the clipped surrogate; C.4: 0.2
    clip_range: float = 0.2
    # clip of the value; NOT STATED, 0.2 in Ziegler 2019
    value_clip_range: float = 0.2
    # weight of the value loss; NOT STATED, 0.1 in Ziegler 2019; the value function has
    # its own parameters and optimizer, so this only scales its gradient
    value_coef: float = 0.1
    kl: KLControl = dataclasses.field(default_factory=KLControl)
    shaping: RewardShaping = dataclasses.field(default_factory=RewardShaping)
    # policy: constant after a warm-up of ten iterations from 1/10 (C.4). The peak is
    # NOT STATED; 8.05e-6 is the highest of the sweep that is stable without ptx (E.9)
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(
            name="adam", learning_rate=8.05e-6, schedule="constant"
        )
    )
    # iterations of warm-up of the policy's rate; C.4: 10
    warmup_iterations: int = 10
    # value: constant 9e-6 for policies of 1.3B and 6B (C.4)
    value_optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(
            name="adam", learning_rate=9e-6, schedule="constant"
        )
    )
    # largest gradient norm of policy and of value; NOT STATED
    clip_norm: float | None = None
    # of the policy's weights; C.4: 0.992. Its unit is NOT STATED: here per update
    ema_decay: float = 0.992
    # which weights become the result: "ema" or "last"; NOT STATED
    result: str = "ema"
    # iterations trained on the value function alone, before the policy's warm-up;
    # policy parameters, its Adam moments and β are frozen; NOT STATED
    value_warmup_iterations: int = 0
    # keep the policy after every n-th iteration, for plots of over-optimisation; None:
    # keep none
    snapshot_every: Watch | None = None
    # train an adapter of the policy and one of the value function beside frozen models.
    # The reference is the base with the adapter that the policy starts with; what
    # stands on the same base shares it: reference, value, and a reward model that is
    # an adapter too. None: whole models, as in the paper
    adapter: LoRA | None = None
    # compute dtype of the sampler; None: that of the model
    rollout_dtype: str | None = None
    # KL per episode, in nats, that stops the run
    max_kl: Stop = 200.0
    # of all that is drawn at random
    seed: int = 0

    @property
    def iterations(self) -> int:
        """Rollouts of the whole run."""
        return self.episodes // self.batch_size

    @property
    def minibatches(self) -> int:
        """Updates per iteration."""
        return self.inner_epochs * (self.batch_size // self.minibatch_size)

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from at_least(self, 1, "batch_size", "minibatch_size", "microbatches")
        yield from at_least(self, 1, "inner_epochs", "max_prompt", "max_response")
        yield from at_least(self, 1, "snapshot_every", "ptx_per_episode", "ptx_window")
        yield from at_least(self, 0, "warmup_iterations", "value_warmup_iterations")
        yield from at_least(self, 0, "value_coef", "variance_coef")
        yield from positive(self, "value_clip_range", "clip_norm", "max_kl")
        yield from shares(self, "ema_decay")
        yield from one_of(self, "rollout_dtype", (None, *DTYPES))
        yield from one_of(self, "advantages", ADVANTAGES)
        yield from at_least(self, 1, "samples_per_prompt")
        yield from divides(self, "samples_per_prompt", "batch_size")
        yield from self._unused_without_a_value()
        yield from divides(self, "minibatch_size", "batch_size")
        yield from divides(self, "microbatches", "minibatch_size")
        if self.episodes < self.batch_size:
            yield f"episodes: {self.episodes} is less than one batch"
        if self.temperature <= 0:
            yield f"temperature: {self.temperature}; PPO samples, so it is positive"
        if self.adapter is not None and self.adapter.dropout:
            yield f"adapter.dropout: {self.adapter.dropout}; PPO has none, leave it 0"
        if self.ptx_coef < 0:
            yield f"ptx_coef: {self.ptx_coef} is negative"
        if self.ptx_coef > 0 and not self.texts:
            yield "texts: ptx_coef > 0 needs pretraining text"
        yield from one_of(self, "result", ("ema", "last"))
        if self.optimizer.warmup_steps:
            yield (
                f"optimizer.warmup_steps: {self.optimizer.warmup_steps} is not used: "
                "set warmup_iterations"
            )
        if not self.init:
            yield "init: the model to start from is needed"
        if not self.reward:
            yield "reward: a reward model or a function is needed"
        if not self.prompts:
            yield "prompts: at least one file is needed"
        if list(self.prompt_buckets) != sorted({*self.prompt_buckets}):
            yield f"prompt_buckets: {self.prompt_buckets} does not rise"
        if not 0 < self.clip_range < 1:
            yield f"clip_range: {self.clip_range} is not in (0, 1)"

    def _unused_without_a_value(self) -> Iterator[str]:
        if self.advantages == "gae":
            return
        if self.samples_per_prompt < 2:
            yield (
                f"samples_per_prompt: {self.samples_per_prompt}; {self.advantages!r} "
                "compares the responses to a prompt, so at least 2 are needed"
            )
        if self.value is not None:
            yield f"value: advantages {self.advantages!r} use no value model"
        if self.value_warmup_iterations:
            yield (
                f"value_warmup_iterations: advantages {self.advantages!r} have no "
                "value model to warm up"
            )
