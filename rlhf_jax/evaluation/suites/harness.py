"""Lets lm-evaluation-harness run any of its tasks on a policy (extra `harness`).

from lm_eval import simple_evaluate
simple_evaluate(model=harness_model(load_policy("MODEL_DIR")), tasks=["arc_easy"])
"""

import re

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy, logprobs_of


def harness_model(policy: Policy):
    """An `lm_eval` model that answers its three kinds of request with a policy.

    Sampling options of a task other than its stop strings are not obeyed: generation is
    at temperature 0 with the policy's own budget, as in all evaluations here. In a chat
    template a context is the turn of the user and what follows is the assistant's; a
    text that is scored whole is the answer to an empty turn.

    Raises:
      InputError: lm-eval is not installed, or the policy cannot tell what is greedy.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError:
        raise InputError(
            "lm-evaluation-harness is missing: pip install 'rlhf_jax[harness]'"
        ) from None
    if policy.is_greedy is None:
        raise InputError(f"policy {policy.name} cannot tell what is greedy")

    class PolicyModel(LM):
        """A policy behind the harness' interface."""

        def loglikelihood(self, requests):
            """[(log-probability, is greedy)] of each (context, continuation)."""
            pairs = [request.args for request in requests]
            prompts, texts = [p for p, _ in pairs], [t for _, t in pairs]
            sums, _ = logprobs_of(policy, prompts, texts)
            greedy = policy.is_greedy(prompts, texts)
            return [(float(s), bool(g)) for s, g in zip(sums, greedy, strict=True)]

        def loglikelihood_rolling(self, requests):
            """Log-probability of each whole text."""
            texts = [request.args[0] for request in requests]
            sums, _ = logprobs_of(policy, [""] * len(texts), texts)
            return [float(s) for s in sums]

        def generate_until(self, requests):
            """Greedy continuations, cut before the first stop string."""
            prompts, options = zip(*(r.args for r in requests), strict=True)
            texts = policy.generate(list(prompts))
            return [
                cut_at(text, some.get("until", ()))
                for text, some in zip(texts, options, strict=True)
            ]

    return PolicyModel()


def cut_at(text: str, stops) -> str:
    """The text before the first of the stop strings.

    >>> cut_at("Paris. Q: next", ["Q:", "\\n"])
    'Paris. '
    """
    stops = [stops] if isinstance(stops, str) else list(stops)
    if not stops:
        return text
    return re.split("|".join(map(re.escape, stops)), text, maxsplit=1)[0]
