"""People: the server on which labelers write, rate and rank, and what comes out of it.

schema       the tables, their version, migrations
store        one file of SQLite or a PostgreSQL database: transactions, the audit chain
tasks        what is asked: kinds of task, their fields, what makes an answer valid
guidelines   instructions in Markdown, versioned, drawn without interpreting anything
showing      what a person sees of an item: shuffled, merged, blind
assignment   who gets what next; exactly as many answers per item as asked for
answering    drafts, submissions, undo, skips
access       persons, tokens, sessions
screening    the qualification round of the paper's appendix B.1
imports      record files -> batches of items
exports      answers -> our records, TRL's types, CSV; frozen at an event
statistics   agreement, gold, pace, ties, position bias: the researcher's table
accounts     who was asked, what it cost
exchange     the `candidates` stage's side: publish sets, collect rankings
chatting     two models answer live, for the free chat comparison
simulate     the embedded world's labelers, through the same HTTP interface
web/         pages, routes and their guards

Needs the extra `labelling`; nothing else of the package imports this room.
"""
