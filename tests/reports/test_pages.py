"""Tables and pages: escaped, self-contained, equal in every form."""

import html.parser
import io
import json
import xml.etree.ElementTree

import numpy as np
import pytest
import rich.console

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.statistics.tables import result_table
from rlhf_jax.reports import (
    Section,
    Table,
    interval_rows,
    print_table,
    results_as_table,
    side_by_side,
    table_html,
    table_markdown,
    transposed,
    win_rate_bars,
    write_figures,
    write_report,
    write_results,
)
from rlhf_jax.reports.reading import read_results, read_samples

TABLE = Table(["policy", "win"], [["<ppo>", "1|2"]], "a & b", {(0, 1): "better"})


class Wellformed(html.parser.HTMLParser):
    """Every tag that opens is closed in order."""

    void = {"meta", "br"}

    def __init__(self):
        super().__init__()
        self.stack, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def parsed(text):
    parser = Wellformed()
    parser.feed(text)
    assert not parser.stack
    return parser


def results(baseline="gpt"):
    values = np.array([1.0, 0.0, 1.0, 1.0])
    return {
        "gpt": [
            Score("squad", "F1", values, "few-shot", outputs=["a<b>", "", "c", "d"])
        ],
        "ppo": [Score("squad", "F1", values * 0, "few-shot")],
    }


def test_text_is_escaped_in_html_and_in_markdown():
    assert "&lt;ppo&gt;" in table_html(TABLE) and "a &amp; b" in table_html(TABLE)
    assert 'class="better"' in table_html(TABLE)
    assert "1\\|2" in table_markdown(TABLE)
    parsed(table_html(TABLE))


def test_a_row_of_another_width_is_refused():
    with pytest.raises(InputError, match="row 0 has 1 cells, the header 2"):
        Table(["a", "b"], [["x"]])


def test_markdown_has_as_many_bars_in_every_line():
    text = table_markdown(Table(["a", "b"], [["1", "long cell"], ["22", "x"]]))
    assert {line.count("|") for line in text.strip().split("\n")} == {3}


def test_the_terminal_shows_the_same_cells():
    stream = io.StringIO()
    print_table(TABLE, console=rich.console.Console(file=stream, width=60))
    assert "<ppo>" in stream.getvalue() and "1|2" in stream.getvalue()


def test_a_table_wider_than_the_terminal_is_transposed_and_loses_no_cell():
    headers = ["policy", *(f"measure {n}" for n in range(9))]
    rows = [[f"ppo{i}", *(f"{i}.{n:03d} [0.1, 0.2]" for n in range(9))] for i in (1, 2)]
    wide, narrow = io.StringIO(), io.StringIO()
    for stream, width in ((wide, 300), (narrow, 80)):
        console = rich.console.Console(file=stream, width=width)
        print_table(Table(headers, rows), console=console)
        cells = [cell for row in rows for cell in row]
        assert all(cell in stream.getvalue() for cell in [*headers, *cells])
    assert narrow.getvalue().count("\n") > 9 > wide.getvalue().count("\n")


def test_results_carry_intervals_differences_and_marks():
    table = results_as_table(result_table("t", results(), baseline="gpt"))
    (row,) = table.rows
    assert row[:2] == ["squad F1", "few-shot"] and "Δ -0.750" in row[3]
    assert table.headers == ["metric", "condition", "gpt", "ppo"]
    turned = transposed(table)
    assert turned.headers == ["policy", "squad F1 few-shot"]
    assert turned.rows[1] == ["ppo", row[3]]


def test_a_page_needs_nothing_else(tmp_path):
    path = write_report(
        tmp_path / "deep" / "report.html",
        "Run <1>",
        [
            Section("Words", ["plain < text", "<p>html</p>", TABLE]),
            Section("Plot", ["<svg xmlns='http://www.w3.org/2000/svg'></svg>"]),
            Section("Samples", [side_by_side(["prompt", "gpt"], [["a\nb", "<x>"]])]),
        ],
    )
    page = path.read_text()
    tags = parsed(page.removeprefix("<!doctype html>")).tags
    assert not [t for t, a in tags if t in {"script", "link", "img", "iframe"}]
    assert not [a for _, a in tags if str(a.get("href", "#"))[0] != "#" or "src" in a]
    assert (
        "plain &lt; text" in page and "<p>html</p>" in page and "Run &lt;1&gt;" in page
    )
    assert page.count("<h2") == 3 and "<nav>" in page


def test_a_run_that_was_moved_still_finds_its_stages(tmp_path):
    results = {"stages": {"RM": "gone/reward"}, "runs": {"PPO": str(tmp_path)}}
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "results.json").write_text(json.dumps(results))
    found = read_results(tmp_path / "report")
    assert found["stages"] == {"RM": str(tmp_path / "reward")}
    assert found["runs"] == results["runs"]
    with pytest.raises(InputError, match=r"elsewhere/results\.json"):
        read_results(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"prompt": "p", "responses": {"sft": "x"}}', '{"prompt": "p"}']
)
def test_a_damaged_sample_is_told_with_its_line(tmp_path, line):
    good = json.dumps({"prompt": "p", "responses": {"sft": "a", "ppo": "b"}})
    with pytest.raises(InputError, match=r"samples\.jsonl: No such file"):
        read_samples(tmp_path, ["sft", "ppo"], 5)
    (tmp_path / "samples.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match=r"samples\.jsonl:2: .* of sft, ppo"):
        read_samples(tmp_path, ["sft", "ppo"], 5)
    assert len(read_samples(tmp_path, ["sft", "ppo"], 1)) == 1


def test_results_that_are_not_json_are_told(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"results\.json: expected JSON"):
        read_results(tmp_path)


def test_the_folder_of_an_evaluation(tmp_path):
    scores = results()
    table = result_table("t", scores, baseline="gpt")
    paths = write_results(tmp_path, table, scores=scores)
    document = json.loads(paths["results.json"].read_text())
    assert document["rows"][0]["cells"]["gpt"]["estimate"] == 0.75
    lines = [json.loads(x) for x in paths["items.jsonl"].read_text().splitlines()]
    assert len(lines) == 8 and lines[0]["output"] == "a<b>" and lines[4]["value"] == 0.0
    assert "| squad F1" in paths["results.md"].read_text()
    assert "<svg" in paths["report.html"].read_text()


def test_summaries_side_by_side():
    score = results()["gpt"][0].interval()
    table = interval_rows({"ppo": {"win rate": score}, "sft": {"ties": score}}, "c")
    assert table.rows[0][2] == "" and table.rows[1][1] == ""


def test_each_figure_of_a_page_is_also_a_file_that_stands_alone(tmp_path):
    bars = win_rate_bars({"<PPO>": Interval(0.6, 0.5, 0.7, 9, 9)}, title="a & b")
    one = Section("Win rates & more", [bars, "words", TABLE])
    two = Section("Curves", [bars, bars])
    paths = write_figures(tmp_path / "figures", "report", [one, two])
    names = ["report_win_rates_more.svg", "report_curves_1.svg", "report_curves_2.svg"]
    assert [path.name for path in paths] == names
    for path in paths:
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "<PPO>" in "".join(root.itertext())
