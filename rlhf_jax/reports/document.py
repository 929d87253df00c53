"""One HTML file that opens anywhere: styles and plots inside, no script, no fetch."""

import dataclasses
import html
import os
import pathlib
import re
from collections.abc import Sequence

from rlhf_jax.reports.tables import Table, table_html
from rlhf_jax.storage import write_text

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2730; background: #fff;
  margin: 0 auto; padding: 1.5rem; max-width: 68rem; }
h1 { font-size: 1.7rem; } h2 { border-bottom: 1px solid #d5dbe1; margin-top: 2.2rem; }
nav a { margin-right: 1rem; } a { color: #0b5cad; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { border-bottom: 1px solid #e3e7eb; padding: .3rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.better { color: #12703a; } td.worse { color: #a3261b; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
.texts td { text-align: left; vertical-align: top; white-space: pre-wrap;
  max-width: 24rem; }
.note { color: #56636f; }
"""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in order.

    Attributes:
      title: the heading.
      parts: a `Table`, SVG or HTML text (anything that starts with "<"), or plain text,
        which becomes a paragraph.
    """

    title: str
    parts: Sequence[Table | str]


def html_text(text: str, *, note: bool = False) -> str:
    """A paragraph of escaped text."""
    kind = ' class="note"' if note else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def side_by_side(
    headers: Sequence[str], rows: Sequence[Sequence[str]], caption: str = ""
) -> str:
    """Long texts in columns, e.g. a prompt and each policy's answer."""
    return f'<div class="texts">{table_html(Table(headers, rows, caption))}</div>'


def write_report(
    path: str | os.PathLike, title: str, sections: Sequence[Section]
) -> pathlib.Path:
    """Writes the report.

    Args:
      path: of the HTML file; its folder is made.
      title: heading of the page.
      sections: in order; more than two get a table of contents.

    Returns:
      the path.
    """
    from rlhf_jax import __version__

    links = "".join(
        f'<a href="#part-{n}">{html.escape(section.title)}</a>'
        for n, section in enumerate(sections)
    )
    body = "\n".join(
        f'<h2 id="part-{n}">{html.escape(section.title)}</h2>\n{_parts(section)}'
        for n, section in enumerate(sections)
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n"
        f"{f'<nav>{links}</nav>' if len(sections) > 2 else ''}\n{body}\n"
        f'<p class="note">rlhf_jax {__version__}</p></body></html>\n'
    )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def write_figures(
    folder: pathlib.Path, prefix: str, sections: Sequence[Section]
) -> list[pathlib.Path]:
    """Writes each figure of the sections as a file that stands alone.

    Args:
      folder: of the files; made where it is not there.
      prefix: their names begin so; the section's title and a number follow.
      sections: of a report.

    Returns:
      the paths, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for section in sections:
        figures = [p for p in section.parts if isinstance(p, str) and _is_figure(p)]
        words = re.sub(r"[^a-z0-9]+", "_", section.title.lower()).strip("_")
        for number, figure in enumerate(figures, 1):
            last = f"_{number}" if len(figures) > 1 else ""
            paths.append(folder / f"{prefix}_{words}{last}.svg")
            write_text(paths[-1], f'<?xml version="1.0"?>\n{figure.strip()}\n')
    return paths


def _is_figure(part: str) -> bool:
    return part.lstrip().startswith("<svg")


def _parts(section: Section) -> str:
    found = []
    for part in section.parts:
        if isinstance(part, Table):
            found.append(table_html(part))
        elif _is_figure(part):
            found.append(f"<figure>{part}</figure>")
        elif part.lstrip().startswith("<"):
            found.append(part)
        else:
            found.append(html_text(part))
    return "\n".join(found)
