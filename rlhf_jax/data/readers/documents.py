"""Plain text for the pretraining mix: files, lines, books, articles."""

import re
from collections.abc import Iterator

from rlhf_jax.data.records import Prompt, Text
from rlhf_jax.data.rows import Intake, Row, RowError, as_text, numbered_lines

PIECE = 16 << 20  # bytes; a longer file becomes several documents, cut at line ends
BOOK_START = re.compile(r"^\*\*\* ?START OF TH(E|IS) PROJECT GUTENBERG.*$", re.M)
BOOK_END = re.compile(r"^(\*\*\* ?END OF TH|End of (the )?Project Gutenberg).*$", re.M)
ARTICLE = re.compile(rb"^ = [^=].*[^=] = $")


def line_rows(path, intake: Intake) -> Iterator[Row]:
    """One row per line that is not blank."""
    for number, line in numbered_lines(path, intake):
        if line.strip():
            intake.rows += 1
            yield Row(str(path), number, line, line)


def file_rows(path, intake: Intake) -> Iterator[Row]:
    """The whole file as one row, or several where it is over 16 MiB."""
    yield from _joined(path, intake, lambda line, size: size + len(line) > PIECE)


def article_rows(path, intake: Intake) -> Iterator[Row]:
    """One row per article of WikiText, told by its heading ` = Title = `."""
    yield from _joined(path, intake, lambda line, size: bool(ARTICLE.match(line)))


def _joined(path, intake: Intake, begins) -> Iterator[Row]:
    """Lines joined until `begins(line, bytes so far)` says that a document begins."""
    lines: list[bytes] = []
    start, size = 1, 0
    for number, line in numbered_lines(path, intake):
        if begins(line, size):
            yield from _document(path, intake, start, lines)
            lines, start, size = [], number, 0
        lines.append(line)
        size += len(line) + 1
    yield from _document(path, intake, start, lines)


def _document(path, intake: Intake, start: int, lines: list[bytes]) -> Iterator[Row]:
    raw = b"\n".join(lines)
    if raw.strip():
        intake.rows += 1
        yield Row(str(path), start, raw, raw[:1000])


def document(row: Row) -> Iterator[Text]:
    """The row as it is."""
    yield Text(id=row.name, text=_decoded(row))


def book(row: Row) -> Iterator[Text]:
    """A Project Gutenberg book without the licence before and behind it."""
    text = _decoded(row)
    start, end = BOOK_START.search(text), BOOK_END.search(text)
    text = text[start.end() if start else 0 : end.start() if end else None]
    yield Text(id=row.name, text=text.strip() + "\n", source="gutenberg")


def prompt_string(row: Row) -> Iterator[Prompt]:
    """A JSON string by itself on a line: a prompt."""
    yield Prompt(id=row.name, prompt=as_text(row.value, ""))


def _decoded(row: Row) -> str:
    try:
        return row.value.decode("utf-8")
    except UnicodeDecodeError as error:
        at = row.line + row.value.count(b"\n", 0, error.start)
        why = f"expected UTF-8, line {at} has byte 0x{row.value[error.start]:02x}"
        raise RowError("", why) from error
