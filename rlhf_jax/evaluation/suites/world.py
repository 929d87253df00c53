"""The suites on the embedded world, where the truth is known and nothing is fetched.

The counterparts of the paper's evaluations: preference by gold utility and by held-out
labelers, truthfulness against the valley's myths, rude continuations, pronouns of
occupations, inventions in closed-domain tasks, and the held-out skills of pretraining
that alignment may cost. In a chat template each is asked as its public counterpart; a
skill's examples and its query are one turn of the user.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy, logprobs_of
from rlhf_jax.evaluation.preference.judges import judge_from_scores
from rlhf_jax.evaluation.preference.win_rates import Comparisons, Judge, compare
from rlhf_jax.evaluation.statistics.scores import Score, cut_at_newline
from rlhf_jax.evaluation.suites.bias import SentencePair, bias_scores
from rlhf_jax.evaluation.suites.hallucination import hallucination_scores
from rlhf_jax.evaluation.suites.settings import Settings
from rlhf_jax.evaluation.suites.toxicity import ToxicityPrompt, toxicity_scores
from rlhf_jax.evaluation.suites.truthfulness import (
    Question,
    choice_truthfulness,
    truth_scores,
)
from rlhf_jax.feedback import Labeler
from rlhf_jax.simulation import (
    SKILLS,
    is_right,
    make_world,
    probes,
    skill_examples,
    toxicity,
    utility,
)


def gold_utilities(prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
    """[N] gold utility of each response, at most 1."""
    return np.array(
        [utility(p, text).total for p, text in zip(prompts, responses, strict=True)]
    )


def gold_scores(prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Score]:
    """Gold utility and its criteria as rows of a table; a prompt is a cluster."""
    found = [utility(p, text) for p, text in zip(prompts, responses, strict=True)]
    columns = {"utility": [u.total for u in found]}
    for name in found[0].criteria() if found else ():
        columns[name] = [u.criteria()[name] for u in found]
    return [
        Score(
            "gold",
            name,
            np.array(values),
            items=[p.id for p in prompts],
            clusters=[p.id for p in prompts],
            outputs=responses,
        )
        for name, values in columns.items()
    ]


def labeler_panel(labelers: Sequence[Labeler]) -> Judge:
    """Each pair judged by one labeler, dealt in turn: most tasks had one (§5.3)."""

    def judge(prompts, first, second):
        verdicts = []
        for n, (prompt, a, b) in enumerate(zip(prompts, first, second, strict=True)):
            rank_a, rank_b = labelers[n % len(labelers)].rank(prompt, [a, b])
            verdicts.append(0.5 if rank_a == rank_b else float(rank_a < rank_b))
        return np.array(verdicts)

    return judge


def world_preference(
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    baseline: Sequence[str],
    judge: Judge | None = None,
) -> Comparisons:
    """Responses against a baseline's, judged by gold utility or by another judge.

    Args:
      prompts: [N] records of the world.
      responses: [N] of the policy in question.
      baseline: [N] of the fixed baseline (the paper's is the SFT model).
      judge: gets the records as prompts; None: gold utility, ties within 0.01.
    """
    judge = judge or judge_from_scores(gold_utilities, tie_margin=0.01)
    return compare(
        judge, prompts, responses, baseline, clusters=[p.id for p in prompts]
    )


def world_truth(policy: Policy, *, seed: int = 0) -> list[Score]:
    """Shares of true, and of true and informative, answers about myths; MC1, MC2."""
    questions = probes.truth_questions(make_world(seed))
    outputs = policy.generate([q.prompt.prompt for q in questions])
    outputs = [cut_at_newline(text).strip() for text in outputs]
    marks = [
        probes.truthful(q, text) for q, text in zip(questions, outputs, strict=True)
    ]
    true, informative = np.array(marks, float).T
    scores = truth_scores(
        true,
        informative,
        names=[q.prompt.prompt for q in questions],
        condition="world",
        outputs=outputs,
    )
    choices = [Question(q.prompt.prompt, q.true[0], q.true, q.false) for q in questions]
    return scores + choice_truthfulness(
        policy, choices, style="world", prompt=lambda text, _: text, space=""
    )


def world_bias(policy: Policy) -> list[Score]:
    """Entropy over "he" and "she" in sentences about occupations."""
    pairs = [
        SentencePair(f"{p.occupation} {n}", p.first, p.second, p.occupation)
        for n, p in enumerate(probes.bias_pairs())
    ]
    return [
        score
        for condition in WORLD_PREFIXES
        for score in bias_scores(
            "bias", policy, pairs, condition=condition, prefixes=WORLD_PREFIXES
        )
    ]


def world_toxicity(
    policy: Policy, *, seed: int = 0, num_samples: int = 0
) -> list[Score]:
    """Rudeness of continuations under the three prompts, by the world's lexicon."""
    starts = [
        ToxicityPrompt(text, score)
        for text, score in probes.toxicity_prompts(make_world(seed))
    ]
    return [
        score
        for condition in WORLD_PREFIXES
        for score in toxicity_scores(
            policy,
            starts,
            lambda texts: np.array([toxicity(text) for text in texts]),
            condition=condition,
            num_samples=num_samples,
            prefixes=WORLD_PREFIXES,
        )
    ]


def world_hallucination(policy: Policy, prompts: Sequence[Prompt]) -> list[Score]:
    """Share of closed-domain answers that invent something.

    Args:
      policy: who answers.
      prompts: records of the world; those that are not closed-domain are left out.

    Raises:
      InputError: none of them is closed-domain.
    """
    closed = {p.prompt: p for p in prompts if p.meta.get("closed_domain")}
    if not closed:
        raise InputError("hallucination: none of the prompts is closed-domain")
    return hallucination_scores(
        policy,
        list(closed),
        lambda prompt, text: float(bool(probes.hallucination(closed[prompt], text))),
    )


def world_skills(policy: Policy, *, seed: int = 0, count: int = 100) -> list[Score]:
    """Held-out skills of pretraining: what the alignment tax is paid in.

    Returns:
      per skill, accuracy of the greedy answer (see `simulation.skills.is_right`), and
      the log-probability of the wanted one in nats per token.
    """
    scores = []
    world = make_world(seed)
    for skill in SKILLS:
        given, wanted = zip(*skill_examples(world, skill, count), strict=True)
        outputs = [cut_at_newline(text) for text in policy.generate(given)]
        examples = zip(given, wanted, outputs, strict=True)
        right = [float(is_right(world, skill, *example)) for example in examples]
        sums, counts = logprobs_of(policy, given, wanted)
        means = sums / np.maximum(counts, 1)
        task = f"skill: {skill}"
        scores += [
            Score(
                task,
                "accuracy",
                np.array(right),
                items=given,
                outputs=[text.strip() for text in outputs],
            ),
            Score(task, "logprob (nats/token)", means, items=given),
        ]
    return scores


def world_gold(policy: Policy, prompts: Sequence[Prompt]) -> list[Score]:
    """Gold utility of greedy responses and its criteria."""
    return gold_scores(prompts, policy.generate(list(map(said_before, prompts))))


WORLD_PREFIXES = {
    "basic": "",
    "respectful": probes.RESPECTFUL_PREFIX,
    "biased": probes.BIASED_PREFIX,
}
# name -> (one line for `--list`, what it runs)
WORLD_SUITES: dict[str, tuple[str, Callable[[Policy, Settings], list[Score]]]] = {
    "world-gold": (
        "gold utility and its criteria on held-out prompts",
        lambda policy, settings: world_gold(policy, settings.prompts),
    ),
    "world-truth": (
        "answers about the valley's myths, MC1, MC2",
        lambda policy, settings: world_truth(policy, seed=settings.seed),
    ),
    "world-toxicity": (
        "rude continuations under three prompts",
        lambda policy, settings: world_toxicity(policy, seed=settings.seed),
    ),
    "world-bias": (
        "entropy over pronouns of occupations",
        lambda policy, settings: world_bias(policy),
    ),
    "world-hallucination": (
        "inventions in closed-domain answers",
        lambda policy, settings: world_hallucination(policy, settings.prompts),
    ),
    "world-skills": (
        "held-out skills of pretraining",
        lambda policy, settings: world_skills(policy, seed=settings.seed),
    ),
}
