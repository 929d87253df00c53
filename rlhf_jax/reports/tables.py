"""A table of text, and how it looks in HTML, Markdown and a terminal."""

import dataclasses
import html
import re
from collections.abc import Sequence

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.evaluation.statistics.tables import ResultRow, ResultTable
from rlhf_jax.literal import literal


class Html(str):
    """Text that is HTML or SVG of ours; any other text is escaped."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Headers and rows of text.

    Attributes:
      headers: column names.
      rows: each with as many cells.
      caption: what the table shows; may be empty.
      marks: (row, column) -> "better" or "worse", for colour.

    Raises:
      InputError: a row of another width.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    marks: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for number, row in enumerate(self.rows):
            if len(row) != len(self.headers):
                raise InputError(
                    f"table {self.caption!r}: row {number} has {len(row)} cells, the "
                    f"header {len(self.headers)}"
                )


def transposed(table: Table, labels: int = 2, corner: str = "policy") -> Table:
    """Rows as columns: for many policies, or on a narrow terminal.

    Args:
      table: whose rows become columns.
      labels: leading columns that become the headers, joined; two in a result table,
        metric and condition.
      corner: header of the first column, which holds the other headers.
    """
    headers = [corner, *(" ".join(filter(None, row[:labels])) for row in table.rows)]
    rows = [
        [header, *(row[j + labels] for row in table.rows)]
        for j, header in enumerate(table.headers[labels:])
    ]
    marks = {
        (j - labels, i + 1): mark for (i, j), mark in table.marks.items() if j >= labels
    }
    return Table(headers, rows, table.caption, marks)


def escaped(text) -> str:
    """A text that is only a text in HTML, control characters made visible."""
    return html.escape(literal(text))


def table_html(table: Table) -> Html:
    """The table as HTML; all text is escaped."""
    head = "".join(f"<th>{escaped(h)}</th>" for h in table.headers)
    lines = []
    for i, row in enumerate(table.rows):
        cells = []
        for j, cell in enumerate(row):
            mark = table.marks.get((i, j), "")
            kind = f' class="{html.escape(mark)}"' if mark else ""
            cells.append(f"<td{kind}>{escaped(cell)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{escaped(table.caption)}</caption>" if table.caption else ""
    return Html(
        f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


_MARKS = re.compile(r"[\\|`*~$]|(?<!\w)_|_(?!\w)|!(?=\[)|\](?=[(\[:])")


def markdown_text(text: str) -> str:
    r"""A text whose characters mean only themselves in Markdown, on one line.

    >>> print(markdown_text("<b> a|b [x](y) nats_per_token _c_"))
    &lt;b&gt; a\|b [x\](y) nats_per_token \_c\_
    """
    shown = html.escape(literal(text), quote=False)
    return _MARKS.sub(lambda found: f"\\{found[0]}", shown)


def table_markdown(table: Table) -> str:
    """The table as Markdown, columns aligned for reading as text too."""

    def clean(cell) -> str:
        return markdown_text(str(cell).replace("\n", " "))

    rows = [[clean(cell) for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(3, *(len(row[j]) for row in rows)) for j in range(len(rows[0]))]

    def line(cells) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    caption = [f"**{clean(table.caption)}**", ""] if table.caption else []
    return "\n".join([*caption, line(rows[0]), rule, *map(line, rows[1:])]) + "\n"


def print_table(table: Table, *, console=None) -> None:
    """Prints the table to a terminal; green where better, red where worse.

    One that is wider than the terminal and has more columns than rows is transposed.
    """
    import rich.console
    import rich.table
    import rich.text

    console = console or rich.console.Console()

    def text(value, style="") -> rich.text.Text:
        return rich.text.Text(literal(value), style)

    if _width(table) > console.width and len(table.headers) > len(table.rows) + 1:
        table = transposed(table, labels=1, corner=table.headers[0])
    shown = rich.table.Table(title=text(table.caption) if table.caption else None)
    for number, header in enumerate(table.headers):
        numbers = any(_is_number(row[number]) for row in table.rows)
        words = " ".join(str(row[number]) for row in table.rows)
        shown.add_column(
            text(header),
            justify="right" if numbers else "left",
            min_width=max(map(len, words.split()), default=0) if number else None,
            overflow="fold",
        )
    colours = {"better": "green", "worse": "red"}
    for i, row in enumerate(table.rows):
        shown.add_row(
            *(
                text(cell, colours.get(table.marks.get((i, j)), ""))
                for j, cell in enumerate(row)
            )
        )
    console.print(shown)


def _width(table: Table) -> int:
    """Columns of characters that the table takes when only headers are wrapped."""
    widths = [max(map(len, str(header).split()), default=0) for header in table.headers]
    for row in table.rows:
        widths = [max(w, len(str(c))) for w, c in zip(widths, row, strict=True)]
    return sum(width + 3 for width in widths) + 1


def _is_number(cell: str) -> bool:
    return str(cell).lstrip("+-")[:1].isdigit()


def results_as_table(
    results: ResultTable, *, digits: int | None = None, intervals: bool = True
) -> Table:
    """Metrics in rows, policies in columns, each cell with its interval.

    Args:
      results: what the suites gave.
      digits: after the point; None: 1 for numbers of 10 and more, else 3.
      intervals: print the 95 % interval, and where there is a baseline the paired
        difference to it behind a Δ.
    """
    rows, marks = [], {}
    for i, row in enumerate(results.rows):
        cells = []
        for j, policy in enumerate(results.policies):
            cells.append(_cell(row, policy, digits, intervals))
            if verdict := row.verdict(policy):
                marks[i, j + 2] = verdict
        label = row.task if row.task == row.metric else f"{row.task} {row.metric}"
        rows.append([label, row.condition, *cells])
    headers = ["metric", "condition", *results.policies]
    return Table(headers, rows, results.title, marks)


def _cell(row: ResultRow, policy: str, digits: int | None, intervals: bool) -> str:
    interval = row.cells.get(policy)
    if interval is None:
        return ""
    text = number_text(interval, digits, intervals)
    difference = row.differences.get(policy)
    if difference is None or not intervals:
        return text
    sign = "+" if difference.estimate >= 0 else ""
    return f"{text}\nΔ {sign}{number_text(difference, digits, True)}"


def number_text(interval: Interval, digits: int | None, with_ends: bool) -> str:
    """An interval in as many digits as its size deserves."""
    if digits is None:
        digits = 1 if abs(interval.estimate) >= 10 else 3
    if with_ends:
        return interval.text(digits)
    return f"{interval.estimate:.{digits}f}"
