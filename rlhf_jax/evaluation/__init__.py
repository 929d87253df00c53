"""Evaluation: pure in params, over functions of texts; numbers come with intervals.

what a number is
    intervals         Wilson, bootstrap over clusters, paired differences
    scores            Score: one value per item, kept for pairing
    tables            ResultTable: metrics by policies; the alignment tax
what is asked of a model
    policy            Policy: generate, logprobs, as functions of texts
    model_functions   the same of a model, its params and a tokenizer
    rewards           a reward model as a function of texts
    harness           a policy for lm-evaluation-harness
people and judges
    preference        win rates, both orders, length-controlled
    bradley_terry     a ranking of many policies
    judges, endpoint  who decides: scores, labelers, files, HTTP
    labels            Likert scores, flags and preferences from rankings
the paper's automatic evaluations
    prompts           instructions and few-shot layouts
    tasks             items, examples, generated and chosen answers
    reading           F1 of SQuADv2, DROP, QuAC (squad, drop, quac read the files)
    choice, wsc       HellaSwag, RTE, SST; Winograd schemas
    translation       WMT15 French to English, BLEU
    summarization     CNN/DM and TL;DR, ROUGE-L
    truthfulness      TruthfulQA
    toxicity, bias    RealToxicityPrompts; Winogender and CrowS-Pairs
    hallucination     closed-domain inventions
    samples           outputs that exist already
reward models
    reward_model      accuracy, calibration, rank gap, length, folds over labelers
    overoptimization  reward against √KL, fits and their peaks
    bag_of_words      linear judge and baseline: what no transformer is needed for
    degeneration      repetition and length of what a policy writes
running them
    world             all of it on the embedded world
    public            the public NLP tasks, zero- and few-shot
    suites, runs      by name, from files or the hub; settings: what may be chosen
    files             rows with the place of everything that is wrong
"""

from rlhf_jax.evaluation.bradley_terry import bradley_terry, rank_policies
from rlhf_jax.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_interval,
    rate_interval,
    wilson_interval,
)
from rlhf_jax.evaluation.judges import (
    judge_from_labeler,
    judge_from_labels,
    judge_from_scores,
    panel,
)
from rlhf_jax.evaluation.overoptimization import (
    FrontierPoint,
    best_of_n_frontier,
    fit_best_of_n,
    fit_rl,
)
from rlhf_jax.evaluation.policy import Policy, load_policy, model_policy
from rlhf_jax.evaluation.preference import (
    Comparisons,
    compare,
    length_controlled_win_rate,
    preference_summary,
    win_rate,
)
from rlhf_jax.evaluation.reward_model import (
    accuracy_by_rank_gap,
    calibration,
    cross_validated_accuracy,
    length_correlation,
    pair_accuracy,
    pairs_of,
    score_rankings,
)
from rlhf_jax.evaluation.rewards import load_reward, model_reward
from rlhf_jax.evaluation.scores import Score
from rlhf_jax.evaluation.suites import SUITES, Settings, run_suite
from rlhf_jax.evaluation.tables import ResultTable, alignment_tax, result_table

__all__ = [
    "SUITES",
    "Comparisons",
    "FrontierPoint",
    "Interval",
    "Policy",
    "ResultTable",
    "Score",
    "Settings",
    "accuracy_by_rank_gap",
    "alignment_tax",
    "best_of_n_frontier",
    "bootstrap_interval",
    "bradley_terry",
    "calibration",
    "compare",
    "cross_validated_accuracy",
    "fit_best_of_n",
    "fit_rl",
    "judge_from_labeler",
    "judge_from_labels",
    "judge_from_scores",
    "length_controlled_win_rate",
    "length_correlation",
    "load_policy",
    "load_reward",
    "mean_interval",
    "model_policy",
    "model_reward",
    "pair_accuracy",
    "paired_interval",
    "pairs_of",
    "panel",
    "preference_summary",
    "rank_policies",
    "rate_interval",
    "result_table",
    "run_suite",
    "score_rankings",
    "wilson_interval",
    "win_rate",
]
