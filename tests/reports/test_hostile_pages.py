"""Whatever a policy is called or writes, a page shows it and does nothing else."""

import html.parser
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hostile import PROBES

from rlhf_jax.cli.report import make_reports
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.statistics.tables import result_table
from rlhf_jax.reports import Section, Table, side_by_side, table_markdown, write_report
from rlhf_jax.reports.figures import learning_curves
from rlhf_jax.reports.results import write_results

pytest.importorskip("matplotlib")
SHORT = [probe for probe in PROBES if len(probe) < 300]
NAMES = ["US$$", "a$x^2", "_hidden", "[/]", "ppo[small]", "=1+1", "\x1b[2J", "a\\nb"]
CALM = {"svg", "g", "path", "text", "tspan", "defs", "style", "use", "clipPath", "rect"}
CALM |= {"html", "head", "body", "title", "meta", "h1", "h2", "nav", "a", "p", "div"}
CALM |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "style"}
CALM |= {"clippath", "br"}


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag


def require_calm(page):
    """Nothing but our own tags, no handler, no address outside the page."""
    for tag, attributes in Tags(page).tags:
        assert tag in CALM, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name.endswith(("href", "src")):
                assert value.startswith("#"), (tag, name, value)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages into which the texts came by every way there is."""
    folder = tmp_path_factory.mktemp("pages")
    table = Table(["policy", *SHORT], [["x", *SHORT]], SHORT[0])
    curves = [
        learning_curves({text: ([1, 2], [1.0, 2.0])}, title=text, x=text, y=text)
        for text in [*SHORT[:12], *NAMES]
    ]
    sections = [Section(text, [text, table]) for text in SHORT]
    sections += [Section("figures", curves)]
    sections += [Section("texts", [side_by_side(SHORT, [SHORT], SHORT[1])])]
    values = np.array([1.0, 0.0, 1.0])
    scores = {
        name: [Score(name, name, values, name, outputs=[name] * 3)]
        for name in ["base", *SHORT[:6], *NAMES]
    }
    for one in scores.values():  # one task, so that differences are drawn
        one[0] = Score("squad", "F1", values, "few-shot", outputs=one[0].outputs)
    results = result_table(SHORT[0], scores, baseline="base")
    return [
        write_report(folder / "page.html", SHORT[0], sections),
        write_results(folder / "eval", results, scores=scores)["report.html"],
        _judge_page(folder / "run"),
    ]


def _judge_page(run):
    """The page of a judge stage whose policies and samples are hostile."""
    stage = run / "judge"
    stage.mkdir(parents=True)
    (stage / "stage.json").write_text("{}")
    cell = {"estimate": 0.5, "low": 0.4, "high": 0.6, "items": 3}
    names = SHORT[:5]
    rows = [
        {
            "task": SHORT[2],
            "metric": SHORT[3],
            "higher_is_better": True,
            "cells": dict.fromkeys(names, cell),
            "differences": dict.fromkeys(names[1:], cell),
        }
    ]
    results = {
        "report": "judge",
        "names": names,
        "quality": SHORT[4],
        "judge": {"accuracy": cell, "trained_on": SHORT[5]},
        "rows": rows,
        "distinct_bigrams": dict.fromkeys(names, 0.5),
        "stages": {},
        "runs": {},
        "frontier": {
            SHORT[0]: [
                {"name": SHORT[1], "kl": float(n), "proxy": 0.1 * n, "gold": 0.2 * n}
                for n in range(3)
            ]
        },
    }
    (stage / "results.json").write_text(json.dumps(results))
    lines = [
        {
            "prompt": text,
            "responses": dict.fromkeys(names, text),
            "judge": dict.fromkeys(names, 0.5),
        }
        for text in SHORT
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (stage / "samples.jsonl").write_text(text)
    make_reports(run)
    return run / "judge.html"


def test_pages_have_no_tag_and_no_address_but_ours(pages):
    for page in pages:
        require_calm(page.read_text())


def test_a_page_asks_the_browser_for_nothing_and_for_no_script(pages):
    for page in pages:
        assert "default-src 'none'" in page.read_text()


def test_a_text_that_looks_like_a_plot_is_a_text(tmp_path):
    text = "<svg onload=window.pwned=1></svg>"
    page = write_report(tmp_path / "a.html", "t", [Section("s", [text])]).read_text()
    assert "&lt;svg onload=window.pwned=1&gt;" in page and "<figure>" not in page


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_as_it_is(name):
    drawn = learning_curves({name: ([1, 2], [1.0, 2.0])}, title=name, y="loss")
    words = [t.text for t in ET.fromstring(drawn).iter() if t.tag.endswith("text")]
    shown = name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert words.count(shown) == 2  # the title, and the legend


def test_markdown_takes_no_html_no_link_and_no_formula():
    table = Table(["policy", *SHORT, *NAMES], [["x", *SHORT, *NAMES]], SHORT[0])
    text = table_markdown(table)
    assert "<" not in text and "\x1b" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search(r"(?<!\\)\$", text)
    assert len({line.count("|") for line in text.splitlines()[2:3]}) == 1


def test_nothing_runs_in_a_browser(pages, tmp_path):
    """Also without the policy that forbids scripts: the escaping holds alone."""
    from browsing import Browser, require_chromium

    require_chromium()
    browser = Browser(tmp_path / "profile", "")
    try:
        for number, page in enumerate(pages):
            bare = tmp_path / f"{number}.html"
            text = page.read_text()
            bare.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text))
            for path in (page, bare):
                browser.open(path.as_uri())
                browser.run("document.querySelectorAll('*').forEach(e => e.focus?.())")
                browser.run("document.querySelectorAll('a').forEach(e => e.click())")
                assert browser.value("typeof window.pwned") == "undefined", path
                loads = "performance.getEntriesByType('resource').length"
                assert browser.value(loads) == 0
                assert browser.value("location.pathname") == str(path)
    finally:
        browser.close()
