"""No text from outside commands the terminal that shows it."""

import contextlib
import io
import json
import logging
import re
import sys

import pytest
import rich.console

from rlhf_jax.cli import chat, main
from rlhf_jax.literal import LiteralStream, literal, literal_streams
from rlhf_jax.reports import Table, print_table
from rlhf_jax.tracking.progress import Progress

CORPUS = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    "\x1b[6n",  # asks the terminal to answer, as if typed
    "\x1bP+q544e\x1b\\",
    "\x1b]52;c;cm0gLXJmCg==\x07",  # the clipboard
    "\x9b31m",
    "over\rwritten",
    "bell\x07back\x08\x7f",
    "\u202eturned\u202c",
    "[/][bold]markup[/bold] [link=http://evil.example]x[/link] :smile:",
]
# what rich itself may send: colours and the cursor of a bar
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\r")


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    encoding = "utf-8"

    def isatty(self):
        return True


@contextlib.contextmanager
def terminal():
    """Both streams are one terminal; gives what reaches it."""
    stream, before = Terminal(), (sys.stdout, sys.stderr)
    sys.stdout = sys.stderr = stream
    try:
        yield stream
    finally:
        sys.stdout, sys.stderr = before


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")


def require_calm(text):
    """Nothing but what rich sends of its own, and no colour that a text asked for."""
    rest = OWN.sub("", text)
    assert literal(rest) == rest, repr(rest[:300])
    assert "[31m" not in re.sub("\N{REPLACEMENT CHARACTER}" + r"\[31m", "", rest)


@pytest.mark.parametrize("text", CORPUS)
def test_what_a_command_prints_is_text(text):
    with terminal() as shown, literal_streams():
        assert isinstance(sys.stdout, LiteralStream)
        print(text)
        sys.stderr.writelines([text, "\n"])
        logging.StreamHandler(sys.stderr).emit(
            logging.LogRecord("x", 30, "", 1, "%s", (text,), None)
        )
    require_calm(shown.getvalue())


@pytest.mark.parametrize("text", CORPUS)
def test_tables_show_headers_cells_and_captions_as_they_are(text):
    with terminal() as shown, literal_streams():
        print_table(Table(["policy", text], [[text, text]], text))
    found = OWN.sub("", shown.getvalue())
    require_calm(shown.getvalue())
    assert found.count(literal(text).split("\n")[0][:12]) >= 3


def test_two_names_in_brackets_stay_two(capsys):
    console = rich.console.Console(file=sys.stdout, width=100)
    print_table(Table(["policy", "ppo[small]", "ppo[large]"], [["x", "1", "2"]]))
    del console
    out = capsys.readouterr().out
    assert "ppo[small]" in out and "ppo[large]" in out


@pytest.mark.parametrize("text", CORPUS)
def test_a_bar_shows_its_description_as_it_is(text):
    stream = Terminal()
    bar = Progress(3, text, file=stream)
    bar.update(1, {"loss": 1.0})
    bar.close()
    require_calm(stream.getvalue())
    plain = io.StringIO()
    Progress(1, text, file=plain).update(1, {})
    require_calm(plain.getvalue())


@pytest.mark.parametrize("text", CORPUS)
def test_errors_about_a_file_are_text(capsys, tmp_path, text):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({text: 1, "id": text, "prompt": 3}) + "\n")
    assert main(["data", "check", str(rows)]) == 2
    name = f"{text.replace('/', '_')}.jsonl"
    assert main(["data", "check", str(tmp_path / name)]) == 2
    require_calm(capsys.readouterr().err)


@pytest.mark.parametrize("text", CORPUS)
def test_data_show_and_check_print_text(tmp_path, text):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": text, "prompt": text, "response": text}) + "\n")
    with terminal() as shown:
        assert main(["data", "show", str(rows), "0"]) == 0
        assert main(["data", "check", str(rows)]) == 0
    require_calm(shown.getvalue())


@pytest.mark.parametrize("text", CORPUS)
def test_answers_of_a_model_are_text(text):
    with terminal() as shown, literal_streams():
        chat._show([text, text], [1.0, 2.0], streamed=False)
        for piece in chat.pieces(iter(range(3)), lambda ids: text[: len(ids)], [], ()):
            print(piece, end="", flush=True)
    require_calm(shown.getvalue())


def test_a_pipe_gets_the_bytes_as_they_are(capsys):
    with literal_streams():
        print("\x1b[31m")
    assert capsys.readouterr().out == "\x1b[31m\n"
