"""Each format, on rows written here: what record comes out."""

import csv
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import Demonstration, Prompt, Ranking, Text
from rlhf_jax.data.hygiene import split_by_user, split_leaks
from rlhf_jax.data.readers import detect_format, read
from rlhf_jax.data.readers.comparisons import shared_words
from rlhf_jax.data.readers.conversations import transcript
from rlhf_jax.data.rows import Intake
from rlhf_jax.errors import InputError


@pytest.fixture
def read_rows(tmp_path):
    """Writes values as JSONL and reads them; the format is found, not told."""

    def made(*values, format="auto", intake=None):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        return list(read(path, format, intake=intake))

    return made


USER = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello!"}
BYE = {"role": "assistant", "content": "Bye."}


def said(record):
    """The turns of a record as they stood in its row."""
    return [turn.model_dump(exclude_none=True) for turn in record.messages]


def test_trl_prompt_only(read_rows):
    plain, spoken = read_rows({"prompt": "Hi"}, {"prompt": [USER]}, format="trl")
    assert isinstance(plain, Prompt) and plain.prompt == spoken.prompt == "Hi"
    assert plain.id == "rows.jsonl:1" and said(spoken) == [USER]


def test_trl_prompt_completion(read_rows):
    rows = read_rows(
        {"prompt": "Hi", "completion": "Hello!"},
        {"prompt": [USER], "completion": [HELLO]},
    )
    assert [(r.prompt, r.response) for r in rows] == [("Hi", "Hello!")] * 2
    assert all(isinstance(row, Demonstration) for row in rows)


def test_trl_unpaired_rows_labelled_bad_make_no_demonstration(read_rows):
    rows = read_rows(
        {"prompt": "Hi", "completion": "Hello!", "label": True},
        {"prompt": "Hi", "completion": "Go away!", "label": False},
    )
    assert [row.response for row in rows] == ["Hello!"]


def test_trl_messages(read_rows):
    ended, waiting = read_rows({"messages": [USER, HELLO]}, {"messages": [USER]})
    assert isinstance(ended, Demonstration) and ended.response == "Hello!"
    assert isinstance(waiting, Prompt)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "Bye."},
        {"prompt": [USER], "chosen": [HELLO], "rejected": [BYE]},
        {"chosen": [USER, HELLO], "rejected": [USER, BYE]},
    ],
)
def test_trl_preference(read_rows, row):
    (found,) = read_rows(row)
    assert isinstance(found, Ranking)
    assert (found.prompt, found.responses, found.ranks) == (
        "Hi",
        ["Hello!", "Bye."],
        [1, 2],
    )


def test_trl_language_modelling(read_rows):
    (found,) = read_rows({"text": "Once."})
    assert isinstance(found, Text) and found.text == "Once."


def test_roles_of_other_projects_are_known(read_rows):
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]
    (found,) = read_rows({"messages": turns})
    assert said(found) == [USER, HELLO]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": [{"role": "ghost", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": []}, "expected at least one message"),
        ({"chosen": [HELLO], "rejected": [BYE]}, "rejected: "),
        ({"prompt": "p", "chosen": "a"}, "rejected: missing"),
        ({"prompt": "p", "completion": "a", "label": 1}, "label: expected true"),
    ],
)
def test_a_malformed_trl_row_names_its_field(read_rows, row, why):
    with pytest.raises(InputError) as caught:
        read_rows(row, format="trl")
    assert "rows.jsonl:1: " in str(caught.value) and why in str(caught.value)


def test_hh_transcripts_part_at_the_last_shared_reply(read_rows):
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    (found,) = read_rows({"chosen": start + " yes", "rejected": start + " no"})
    assert found.prompt == start and found.responses == ["yes", "no"]
    assert [m.content for m in found.messages] == ["a", "b", "c"]
    assert transcript(found.messages) == start


def test_hh_dialogues_that_part_early_keep_all_their_turns(read_rows):
    start = "\n\nHuman: a\n\nAssistant:"
    (found,) = read_rows(
        {
            "chosen": start + " b\n\nHuman: c\n\nAssistant: d",
            "rejected": start + " e\n\nHuman: f\n\nAssistant: g",
        }
    )
    assert found.prompt == start
    assert found.responses[0] == "b\n\nHuman: c\n\nAssistant: d"


def reply(name, text, rank=None, role="assistant", replies=(), **fields):
    rest = {"message_id": name, "text": text, "role": role, "replies": list(replies)}
    return rest | fields | ({} if rank is None else {"rank": rank})


def tree():
    again = reply("u2", "More?", role="prompter", replies=[reply("a4", "Yes.")])
    answers = [
        reply("a1", "second", 1),
        reply("a2", "best", 0, replies=[again]),
        reply("a3", "third", 2),
        reply("m", "machine", 3, synthetic=True),
    ]
    root = reply("u1", "Hi", role="prompter", replies=answers)
    return {"message_tree_id": "t", "prompt": root}


def test_a_tree_gives_k_wise_rankings_without_the_machines_replies(read_rows):
    (found,) = read_rows(tree())
    assert found.responses == ["second", "best", "third"] and found.ranks == [2, 1, 3]
    assert found.id == "u1" and found.group == "t"


def test_a_tree_gives_demonstrations_along_the_best_replies(read_rows):
    rows = read_rows(tree(), format="oasst-demonstrations")
    assert [row.response for row in rows] == ["best", "Yes."]
    assert rows[1].prompt.endswith("best\n\nHuman: More?\n\nAssistant:")


def test_a_tree_gives_its_first_message_as_a_prompt(read_rows):
    (found,) = read_rows(tree(), format="oasst-prompts")
    assert found.prompt == "Hi"


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        (
            {
                "instruction": "Add.",
                "context": "1 2",
                "response": "3",
                "category": "qa",
            },
            "Add.\n\n1 2",
            "3",
        ),
        ({"prompt": "Add.", "answer": "3###eos_token###"}, "Add.", "3"),
        ({"instruction": "Add.", "input": "", "output": "3"}, "Add.", "3"),
        (
            {"instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}]},
            "Add.\n\n1 2",
            "3",
        ),
        (
            {"question": "1+2?", "answer": "It is <<1+2=3>>3.\n#### 3"},
            "1+2?",
            "It is 3.\n#### 3",
        ),
    ],
)
def test_instruction_sets_become_demonstrations(read_rows, row, prompt, response):
    (found,) = read_rows(row)
    assert (found.prompt, found.response) == (prompt, response)


def test_argilla_rankings_make_one_row_per_annotator(read_rows):
    fields = {"prompt": "Hi", "response-1": "a", "response-2": "b"}
    answer = [{"value": "response-1", "rank": 2}, {"value": "response-2", "rank": 1}]
    (plain,) = read_rows({"fields": fields, "ranking": answer})
    assert plain.responses == ["a", "b"] and plain.ranks == [2, 1]
    told = [
        {"user_id": 7, "value": answer, "status": "submitted"},
        {"user_id": 8, "value": answer, "status": "discarded"},
    ]
    (only,) = read_rows({"fields": fields, "ranking": told})
    assert only.labeler == "7"


def test_pplm_annotators_each_make_a_ranking(read_rows):
    row = {
        "file": "x/space.csv",
        "text_a": "To review, stars shine",
        "text_b": "To review, dogs bark",
        "annotators": [
            {"label": "a"},
            {"label": "b"},
            {"label": "both"},
            {"label": None},
        ],
    }
    rows = read_rows(row)
    assert [r.ranks for r in rows] == [[1, 2], [2, 1], [1, 1]]
    assert rows[0].prompt.endswith("To review,") and "space" in rows[0].prompt
    assert rows[0].responses == [" stars shine", " dogs bark"]
    assert shared_words("same", "same") == ""


def test_labelled_sentences_are_ranked_four_at_a_time(tmp_path):
    path = tmp_path / "sst.tsv"
    lines = [
        "sentence\tlabel",
        'a "good one\t1',
        "bad\t0",
        "fine\t1",
        "dull\t0",
        "x\t1",
    ]
    path.write_text("\n".join(lines) + "\n")
    (found,) = read(path)
    assert found.responses[0] == 'a "good one' and found.ranks == [1, 2, 1, 2]


def test_csv_cells_may_hold_line_ends_and_commas(tmp_path):
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["prompt", "completion"], ["a,\nb", 'say "c"']])
    (found,) = read(path)
    assert (found.prompt, found.response) == ("a,\nb", 'say "c"')


def test_a_csv_row_with_a_cell_too_few_is_told_by_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\n"a\nb",c\nonly one\n')
    with pytest.raises(InputError, match=r"a.csv:4: expected 2 cells, got 1"):
        list(read(path))


def test_text_formats_cut_documents_where_they_say(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" = One = \n\nx\n = = Part = = \n\n = Two = \ny\n")
    assert len(list(read(path))) == 1
    assert len(list(read(path, "lines"))) == 5
    articles = list(read(path, "wikitext"))
    assert [t.text.split()[1] for t in articles] == ["One", "Two"]


def test_a_book_loses_its_licence(tmp_path):
    path = tmp_path / "a.txt"
    start, end = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "*** END OF THIS"
    path.write_text(f"Licence\n{start}\n\nIt was.\n\n{end} PROJECT\nLicence\n")
    (found,) = read(path, "gutenberg")
    assert found.text == "It was.\n"


def test_json_strings_are_prompts(read_rows):
    assert [r.prompt for r in read_rows("Hi", "Ho")] == ["Hi", "Ho"]


def test_one_intake_counts_over_many_files(tmp_path):
    intake = Intake()
    for name in ("a", "b"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text('{"prompt": "x"}\n')
        list(read(path, intake=intake))
    assert intake.rows == intake.records == 2


def test_the_format_is_found_by_name_and_first_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "prompt": "p", "response": "r"}\n')
    assert detect_format(path) == "jsonl"


OWN = [
    ({"prompt": "p", "response": "r"}, Demonstration),
    ({"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1]}, Ranking),
    ({"prompt": "p"}, Prompt),
    ({"prompt": "p", "user": "u"}, Prompt),
    ({"text": "t"}, Text),
]


@pytest.mark.parametrize("format", ["auto", "jsonl"])
@pytest.mark.parametrize(("row", "kind"), OWN)
def test_a_record_without_an_id_has_its_file_and_line(read_rows, row, kind, format):
    first, second = read_rows(row, row, format=format)
    assert type(first) is kind and first.id == "rows.jsonl:1"
    assert second == first.model_copy(update={"id": "rows.jsonl:2"})
    assert {name: getattr(first, name) for name in row} == row
    (named,) = read_rows({**row, "id": "x"}, format="jsonl")
    assert named.id == "x"


def test_a_response_among_prompts_is_not_lost(read_rows):
    rows = read_rows({"prompt": "p"}, OWN[0][0], OWN[1][0] | {"label": 1})
    assert [type(row) for row in rows] == [Prompt, Demonstration, Ranking]


def test_rankings_of_a_prompt_without_ids_are_of_one_split(read_rows):
    rows = read_rows(
        *(
            {"prompt": text, "responses": ["a", str(i)], "ranks": [1, 2]}
            for i in range(40)
            for text in (f"Prompt {i % 8}", f"prompt  {i % 8} ")
        )
    )
    assert len({row.id for row in rows}) == 80
    assert split_leaks(split_by_user(rows, valid=0.3, test=0.3).records) == []
    (held,) = read_rows(OWN[1][0] | {"user": "u"})
    assert held.split_key == "u"


TABLES = [
    ("prompt,response", "p,r", Demonstration(id="t:2", prompt="p", response="r")),
    ("response,prompt", "r,p", Demonstration(id="t:2", prompt="p", response="r")),
    (
        "prompt,responses,ranks",
        'p,"[""a"", """", ""c""]","[1, 2, 2]"',
        Ranking(id="t:2", prompt="p", responses=["a", "", "c"], ranks=[1, 2, 2]),
    ),
    (
        "ranks_1,ranks_2,prompt,responses_2,responses_1",
        "1,2,p,b,a",
        Ranking(id="t:2", prompt="p", responses=["a", "b"], ranks=[1, 2]),
    ),
    ("prompt,user,split", "p,u,test", Prompt(id="t:2", prompt="p", user="u",
                                             split="test")),
    ("id,prompt", ",p", Prompt(id="t:2", prompt="p")),
    ("prompt", "p", Prompt(id="t:2", prompt="p")),
    ("prompt,subset", "p,qa", Prompt(id="t:2", prompt="p", use_case="qa")),
    ("text", "words", Text(id="t:2", text="words")),
    ("prompt,completion", "p,r", Demonstration(id="t:2", prompt="p", response="r")),
    (
        "id,prompt,chosen,rejected",
        "1,p,a,b",
        Ranking(id="1", prompt="p", responses=["a", "b"], ranks=[1, 2]),
    ),
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(("header", "cells", "expected"), TABLES)
def test_the_columns_of_a_table_tell_its_records(
    tmp_path, header, cells, expected, suffix
):
    path = tmp_path / f"t.{suffix}"
    table = list(csv.reader([header + ",colour", cells + ",red"]))
    with open(path, "w", newline="") as file:
        if suffix == "csv":
            csv.writer(file).writerows(table)
        else:
            file.write("".join("\t".join(row) + "\n" for row in table))
    intake = Intake()
    (found,) = read(path, intake=intake)
    name = f"t.{suffix}:2" if expected.id == "t:2" else expected.id
    assert found.model_copy(update={"group": None}) == expected.model_copy(
        update={"id": name}
    )
    assert intake.first["unknown field 'colour'"] == f"{path}:2"
    assert {name for name in intake.warnings if "unknown" in name} == {
        "unknown field 'colour'"
    }


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("prompt,responses,ranks\np,a,1\n", "responses: expected a JSON list, got 'a'"),
        ('id,prompt,ranks\n1,p,3\n', "ranks: expected a JSON list, got '3'"),
        (
            'prompt,responses,responses_1,ranks\np,"[""a""]",b,"[1, 2]"\n',
            "responses: expected one cell or responses_1, ..., got both",
        ),
        (
            'prompt,responses,ranks\np,"[""a"",""b"",""c""]","[1, 2]"\n',
            "ranks: expected 3 entries, one per response, got 2",
        ),
        (
            "prompt,responses_1,responses_2,responses_3,ranks_1,ranks_2,ranks_3\n"
            "p,a,b,c,1,2,\n",
            "ranks: expected 3 entries, one per response, got 2",
        ),
        (
            "prompt,responses_1,responses_2,responses_3,ranks_1,ranks_2,ranks_3\n"
            "p,a,b,,1,,2\n",
            "ranks.1: expected a valid integer",
        ),
    ],
)  # fmt: skip
def test_a_table_whose_lists_do_not_fit_is_refused(tmp_path, table, why):
    path = tmp_path / "a.csv"
    path.write_text(table)
    with pytest.raises(InputError) as caught:
        list(read(path))
    assert f"{path}:2: " in str(caught.value) and why in str(caught.value)


@given(st.lists(st.sampled_from([" ", "\n", "\n\n"]), max_size=6))
def test_ids_of_an_array_are_unique_however_it_is_laid_out(tmp_path_factory, gaps):
    path = tmp_path_factory.getbasetemp() / "array.json"
    rows = [json.dumps({"prompt": "p", "response": str(i)}) for i in range(7)]
    between = [f",{gap}" for gap in [*gaps, *" " * 6][:6]]
    text = "".join(x for pair in zip(rows, [*between, ""], strict=True) for x in pair)
    path.write_text(f"[{text}]")
    found = list(read(path))
    assert [row.response for row in found] == list("0123456")
    assert len({row.id for row in found}) == 7
    lines = [1 + "".join(between[:i]).count("\n") for i in range(7)]
    for row, line in zip(found, lines, strict=True):
        assert row.id.split(".")[1] == f"json:{line}"


def test_one_json_array_is_as_good_as_json_lines(tmp_path):
    rows = [
        {"instruction": f"Add {i}.", "input": "", "output": str(i)} for i in range(3)
    ]
    path = tmp_path / "alpaca.json"
    path.write_text("\ufeff" + json.dumps(rows, indent=2), encoding="utf-8")
    found = list(read(path))
    assert [row.response for row in found] == ["0", "1", "2"]
    assert found[1].id == "alpaca.json:7"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '[{"prompt": "a"},\n {"prompt": 3}]',
            ":2: prompt: expected text or a list of messages, got int",
        ),
        ('[{"prompt": "a"},\n {"prompt": "b"', ":2: expected JSON"),
        ('[{"prompt": NaN}]', ":1: expected JSON: NaN is no JSON number"),
        ('[{"prompt": "\\ud800"}]', ":1: half of a surrogate pair"),
        ("[]", ":1: expected at least one row"),
    ],
)
def test_a_bad_element_of_an_array_is_told_by_its_line(tmp_path, text, why):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(read(path, "trl"))
    assert f"{path}{why}" in str(caught.value)


class Hub:
    """Stands in for `datasets`; nothing is fetched."""

    def load_dataset(self, name, config, *, split, streaming):
        assert streaming
        if name != "owner/set":
            raise FileNotFoundError(f"no dataset {name}")
        yield {"prompt": f"{config} {split}", "completion": "x", "label": None}
        yield {"prompt": 3, "completion": "x"}


def test_a_hub_dataset_is_read_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", Hub())
    intake = Intake("skip")
    (found,) = read("hf:owner/set:main:test", intake=intake)
    assert found.prompt == "main test"
    assert intake.messages == [
        "hf:owner/set:main:test:2: prompt: expected text or a list of messages, got int"
    ]
    with pytest.raises(InputError, match="hf:nobody/set: no dataset"):
        list(read("hf:nobody/set"))


class OwnHub:
    """The same, with rows of ours."""

    def load_dataset(self, name, config, *, split, streaming):
        yield {"prompt": "p", "response": "r", "stars": 3, "user": None}


def test_a_hub_dataset_may_have_our_columns_and_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", OwnHub())
    intake = Intake()
    (found,) = read("hf:owner/set", intake=intake)
    assert found == Demonstration(id="set:1", prompt="p", response="r")
    assert intake.first == {"unknown field 'stars'": "hf:owner/set:1"}


def test_without_the_datasets_library_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="pip install"):
        list(read("hf:owner/set"))
