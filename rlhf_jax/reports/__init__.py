"""Tables and plots of a finished run, in one file that needs nothing else.

tables.py    a table, and how it looks in HTML, Markdown, a terminal, JSON
figures.py   plots as SVG text: learning curves, reward against KL, win rates, ...
document.py  `write_report`: sections of text, tables and figures -> one HTML file
results.py   what `rlhf-jax eval` writes: results.json, results.md, report.html
reading.py   what a stage has left for its report
run_report.py, judge_report.py, baselines_report.py
             the pages of the stages `evaluate`, `judge` and `baselines`
"""

from rlhf_jax.reports.document import (
    Section,
    side_by_side,
    write_figures,
    write_report,
)
from rlhf_jax.reports.figures import (
    kl_reward_frontier,
    reliability_diagram,
    win_rate_bars,
)
from rlhf_jax.reports.results import interval_rows, write_results
from rlhf_jax.reports.tables import (
    Table,
    print_table,
    results_as_table,
    table_html,
    table_markdown,
    transposed,
)

__all__ = [
    "Section",
    "Table",
    "interval_rows",
    "kl_reward_frontier",
    "print_table",
    "reliability_diagram",
    "results_as_table",
    "side_by_side",
    "table_html",
    "table_markdown",
    "transposed",
    "win_rate_bars",
    "write_figures",
    "write_report",
    "write_results",
]
