"""Reward models under examination.

accuracy          accuracy, calibration, rank gap, length, folds over labelers
overoptimization  reward against √KL, fits and their peaks
bag_of_words      linear judge and baseline: what no transformer is needed for
"""
