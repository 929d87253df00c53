"""Instructions for people, in Markdown, versioned.

Drawn by a small reader of our own: headings, paragraphs, lists, quotations, code, bold,
italics. It makes a tree of plain strings; the page escapes each, so that no text of a
guideline can become anything else than text.
"""

import pathlib
import re
from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.store import Store

__all__ = ["add_guideline", "blocks", "load_guideline"]

FOLDER = pathlib.Path(__file__).with_name("guidelines")
SETS = ("training", "evaluation")
_SPAN = re.compile(r"\*\*(.+?)\*\*|\*(.+?)\*|`(.+?)`")
_LIST = re.compile(r"^(?:[-*]|(\d+)\.) +(.*)$")


def load_guideline(source: str | pathlib.Path) -> tuple[str, str]:
    """(name, text) of a set that ships or of a Markdown file.

    Raises:
      InputError: it cannot be read.
    """
    path = FOLDER / f"{source}.md" if str(source) in SETS else pathlib.Path(source)
    try:
        return path.stem, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sets = " or ".join(SETS)
        raise InputError(f"{path}: expected a Markdown file, or {sets}") from error


def add_guideline(store: Store, connection: sa.Connection, name: str, text: str) -> int:
    """The id of this text; a text that differs from the newest is a new version."""
    table = schema.guidelines
    query = sa.select(table).where(table.c.name == name)
    last = connection.execute(query.order_by(table.c.version.desc()).limit(1)).first()
    if last is not None and last.text == text:
        return last.id
    version = last.version + 1 if last else 1
    row = table.insert().values(name=name, version=version, text=text)
    (number,) = connection.execute(row).inserted_primary_key
    store.event(connection, "guideline", name=name, version=version)
    return number


def blocks(text: str) -> list[dict[str, Any]]:
    """Markdown as a list of blocks: `kind`, and `spans` or `items` of spans.

    >>> [b["kind"] for b in blocks("# Title\\n\\nText\\n\\n- one\\n- two")]
    ['h1', 'p', 'ul']
    """
    found: list[dict[str, Any]] = []
    parts = re.split(r"(?ms)^```[^\n]*\n(.*?)^```\s*$", text)
    for number, part in enumerate(parts):
        if number % 2:
            found.append({"kind": "pre", "text": part})
            continue
        for paragraph in re.split(r"\n\s*\n", part.strip()):
            if paragraph.strip():
                found += _block(paragraph.strip("\n"))
    return found


def _block(paragraph: str) -> list[dict[str, Any]]:
    lines = paragraph.split("\n")
    heading = re.match(r"^(#{1,4}) +(.*)$", lines[0])
    if heading:
        block = {"kind": f"h{len(heading[1])}", "spans": spans(heading[2])}
        rest = "\n".join(lines[1:]).strip()
        return [block, *(_block(rest) if rest else [])]
    if all(line.startswith(">") for line in lines):
        quoted = " ".join(line.lstrip("> ") for line in lines)
        return [{"kind": "blockquote", "spans": spans(quoted)}]
    first = _LIST.match(lines[0])
    if first:
        items: list[str] = []
        for line in lines:
            match = _LIST.match(line)
            if match:
                items.append(match[2])
            else:
                items[-1] += " " + line.strip()
        kind = "ol" if first[1] else "ul"
        return [{"kind": kind, "items": [spans(item) for item in items]}]
    return [{"kind": "p", "spans": spans(" ".join(line.strip() for line in lines))}]


def spans(text: str) -> list[tuple[str, str]]:
    """(style, text) pieces of a line; style is "", "strong", "em" or "code".

    >>> spans("a **b** c")
    [('', 'a '), ('strong', 'b'), ('', ' c')]
    """
    found, start = [], 0
    for match in _SPAN.finditer(text):
        if match.start() > start:
            found.append(("", text[start : match.start()]))
        style = ("strong", "em", "code")[match.lastindex - 1]
        found.append((style, match[match.lastindex]))
        start = match.end()
    if start < len(text):
        found.append(("", text[start:]))
    return found
