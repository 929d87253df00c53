"""People and judges.

win_rates  comparisons in both orders, win rates, length-controlled
judges     who decides: scores, labelers, files
endpoint   a judge, or a scorer of toxicity, behind an HTTP address
service    one JSON request with its limits: no redirects, deadline, retries
labels     Likert scores, flags and preferences from rankings
"""
