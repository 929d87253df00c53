"""What a number is.

intervals      Wilson, bootstrap over clusters, paired differences
scores         Score: one value per item, kept for pairing
tables         ResultTable: metrics by policies
degeneration   repetition and length of what a policy writes
"""
