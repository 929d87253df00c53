"""Settings of DPO and its kin, each with its source."""

import dataclasses
from collections.abc import Iterator

from rlhf_jax.fields import DataFile, Length, ModelName
from rlhf_jax.models import LoRA
from rlhf_jax.schema import at_least, divides, one_of, positive
from rlhf_jax.training import OptimizerConfig

__all__ = ["Config"]

# loss -> β where none is set. DPO: Rafailov et al. 0.1 (0.5 for TL;DR). IPO: its τ,
# Azar et al. try 0.1, 0.5 and 1. KTO: Ethayarajh et al. 0.1. SimPO: Meng et al. 2.0 to
# 2.5. ORPO has none.
_BETA = {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "simpo": 2.0, "orpo": None}
# setting -> the losses that have it
_OF = {
    "reference": ("dpo", "ipo", "kto"),
    "beta": ("dpo", "ipo", "kto", "simpo"),
    "label_smoothing": ("dpo",),
    "robust": ("dpo",),
    "margin": ("simpo",),
    "odds_weight": ("orpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}


@dataclasses.dataclass
class Config:
    """Settings of training on preferences without a reward model."""

    # model directory of the start
    init: ModelName = ""
    # files of rankings
    rankings: tuple[DataFile, ...] = ()
    # "dpo", "ipo", "kto", "simpo" or "orpo"; what each has is in the module
    loss: str = "dpo"
    # frozen model that the policy is compared with; empty: `init`, as in the papers.
    # (In rounds the start moves on and the reference stays.)
    reference: ModelName = ""
    # β, IPO's τ; None: the loss's own, DPO, IPO and KTO 0.1, SimPO 2.0
    beta: float | None = None
    # DPO: share ε of labels taken to be wrong; Mitchell 2023 tries 0.1 and up
    label_smoothing: float = 0.0
    # DPO: unbiased under that share of wrong labels (Chowdhury et al. 2024)
    robust: bool = False
    # SimPO: γ, log-odds by which the better response should win; Meng et al. 0.3 to 1.6
    margin: float = 1.0
    # ORPO: λ of the odds ratio; Hong et al. 0.1 for Mistral 7B
    odds_weight: float = 0.1
    # KTO: λ_D and λ_U; Ethayarajh et al.: λ_D n_D / (λ_U n_U) in [1, 4/3]
    desirable_weight: float = 1.0
    # KTO: λ_U, likewise
    undesirable_weight: float = 1.0
    # train this adapter beside the frozen model, which is then the reference too where
    # the reference stands on it; None: the whole model
    adapter: LoRA | None = None
    # passes over the rankings
    epochs: Length = 1
    # prompts per update; Rafailov et al.: 64
    batch_size: int = 64
    # longest prompt in tokens
    max_prompt: int = 1000
    # longest response in tokens, its end token included
    max_response: int = 1000
    # most responses per prompt
    max_k: int = 9
    # Rafailov et al.: RMSprop, 1e-6, linear warm-up over 150 updates
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(
            name="rmsprop",
            learning_rate=1e-6,
            schedule="constant",
            warmup_steps=150,
            warmup_from=0.0,
        )
    )
    # Rafailov et al.: 10
    clip_norm: float | None = 10.0
    # parts of a batch trained one after the other
    microbatches: int = 1
    # of all that is drawn at random
    seed: int = 0

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares the policy with a frozen model."""
        return self.loss in _OF["reference"]

    def hyperparameters(self) -> dict[str, float | bool]:
        """What the function of the loss is given, by name; β is a number here."""
        names = [n for n in _OF if n != "reference" and self.loss in _OF[n]]
        made = {name: getattr(self, name) for name in names}
        if made.get("beta", 0.0) is None:
            made["beta"] = _BETA[self.loss]
        return made

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from one_of(self, "loss", _BETA)
        if self.loss in _BETA:
            yield from self._without_use()
        yield from positive(self, "beta", "odds_weight", "clip_norm")
        yield from positive(self, "desirable_weight", "undesirable_weight")
        yield from at_least(self, 0, "margin")
        yield from at_least(self, 1, "epochs", "batch_size", "microbatches")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from at_least(self, 2, "max_k")
        yield from divides(self, "microbatches", "batch_size")
        if not 0 <= self.label_smoothing < 0.5:
            yield f"label_smoothing: {self.label_smoothing} is not in [0, 0.5)"
        if self.loss == "kto" and self.batch_size == 1:
            yield "batch_size: 1; loss 'kto' pairs prompts with responses to others"
        if not self.init:
            yield "init: the model to start from is needed"
        if not self.rankings:
            yield "rankings: at least one file is needed"

    def _without_use(self) -> Iterator[str]:
        """Settings that were changed though this loss does not have them."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, losses in _OF.items():
            if getattr(self, name) != defaults[name] and self.loss not in losses:
                known = ", ".join(losses)
                yield f"{name}: loss {self.loss!r} has none; it is of {known}"
        if self.robust and self.loss == "dpo" and not self.label_smoothing:
            yield "robust: says nothing where label_smoothing is 0"
