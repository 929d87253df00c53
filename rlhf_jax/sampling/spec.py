"""How tokens are drawn: one description, shared by the sampler and the scorer."""

import dataclasses
import math

from rlhf_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SamplingSpec:
    """What may be drawn, how sharply, and where a response stops.

    A response token is drawn from softmax(z / τ), τ the temperature and z the
    logits, after the filters below. Hashable, so it is a static argument of a jitted
    function. The temperature here is also the one at which log-probabilities are
    scored in training.

    Attributes:
      max_new_tokens: R, the response budget [tokens]; 0 gives responses of no token.
      temperature: τ ≥ 0; 0 is greedy (the first token of the largest logit).
      end_tokens: ids that finish a response; they belong to it. Empty: only budgets
        finish it.
      pad_token: id written behind a response. It is never read back: masks tell what
        is a response.
      top_k: keep the k largest logits (and those equal to the k-th); 0 keeps all.
      top_p: keep the smallest set of largest probabilities whose sum reaches p; 1
        keeps all. Applied after `top_k`, to the renormalised probabilities.
      min_new_tokens: end tokens cannot be drawn before this many tokens were.

    Raises:
      InputError: a value outside its range; every fault is named at once.

    Differs: the paper samples training rollouts at τ = 1 without filters, the default
    here; filters change the support and are for evaluation only.
    """

    max_new_tokens: int
    temperature: float = 1.0
    end_tokens: tuple[int, ...] = ()
    pad_token: int = 0
    top_k: int = 0
    top_p: float = 1.0
    min_new_tokens: int = 0

    def __post_init__(self):
        object.__setattr__(self, "end_tokens", tuple(int(t) for t in self.end_tokens))
        faults = list(self._faults())
        if faults:
            raise InputError("sampling: " + "; ".join(faults))

    def _faults(self):
        for name in ("max_new_tokens", "pad_token", "top_k", "min_new_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
                yield f"{name} is {value!r}, expected an integer >= 0"
        if not (_is_number(self.temperature) and self.temperature >= 0):
            yield f"temperature is {self.temperature!r}, expected >= 0 (0 is greedy)"
        if not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            yield f"top_p is {self.top_p!r}, expected 0 < top_p <= 1"
        if any(token < 0 for token in self.end_tokens):
            yield f"end_tokens are {self.end_tokens!r}, expected ids >= 0"
        if len(set(self.end_tokens)) != len(self.end_tokens):
            yield f"end_tokens are {self.end_tokens!r}, an id stands twice"

    @property
    def greedy(self) -> bool:
        """Temperature 0: the largest logit is taken and no randomness is used."""
        return self.temperature == 0


def _is_number(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
