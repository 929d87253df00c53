"""People and judges.

win_rates  comparisons in both orders, win rates, length-controlled
judges     who decides: scores, labelers, files
endpoint   a judge or a policy behind an HTTP address
labels     Likert scores, flags and preferences from rankings
"""
