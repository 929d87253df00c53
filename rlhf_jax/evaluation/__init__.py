"""Evaluation: pure in params, over functions of texts; numbers come with intervals.

statistics/     what a number is: intervals, scores, tables, rankings of policies
preference/     people and judges: win rates, judges, labels
suites/         the paper's automatic evaluations, public and of the embedded world
reward_models/  accuracy, calibration, over-optimisation, baselines
policy          Policy: generate, logprobs, as functions of texts
model_functions the same of a model, its params and a tokenizer
"""

from rlhf_jax.evaluation.policy import Policy, load_policy, model_policy
from rlhf_jax.evaluation.preference.judges import (
    judge_from_labeler,
    judge_from_labels,
    judge_from_scores,
    panel,
)
from rlhf_jax.evaluation.preference.win_rates import (
    Comparisons,
    compare,
    length_controlled_win_rate,
    preference_summary,
    win_rate,
)
from rlhf_jax.evaluation.reward_models.accuracy import (
    accuracy_by_rank_gap,
    calibration,
    cross_validated_accuracy,
    length_correlation,
    pair_accuracy,
    pairs_of,
    score_rankings,
)
from rlhf_jax.evaluation.reward_models.overoptimization import (
    FrontierPoint,
    best_of_n_frontier,
    fit_best_of_n,
    fit_rl,
)
from rlhf_jax.evaluation.statistics.bradley_terry import bradley_terry, rank_policies
from rlhf_jax.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_interval,
    rate_interval,
    wilson_interval,
)
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.statistics.tables import (
    ResultTable,
    alignment_tax,
    result_table,
)
from rlhf_jax.evaluation.suites.catalogue import SUITES, Settings, run_suite

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
    "mean_interval",
    "model_policy",
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
