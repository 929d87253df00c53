"""Evaluation: pure in params, over functions of texts; numbers come with intervals.

statistics/     what a number is: intervals, scores, tables
preference/     people and judges: win rates, judges, labels
suites/         the paper's automatic evaluations, public and of the embedded world
reward_models/  accuracy, calibration, over-optimisation, baselines
policy          Policy: generate, logprobs, as functions of texts
model_functions ModelPolicy: the same of a model, its params and a tokenizer
"""
