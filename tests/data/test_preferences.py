"""Published sets of preferences, on rows written here."""

import json

import pytest

from rlhf_jax.data.readers import read
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


def turn(role, content, **fields):
    return {"role": role, "content": content, **fields}


ASK, SAY, ALSO = turn("user", "Hue?"), turn("assistant", "Blue."), turn("user", "Why?")
SYSTEM = turn("system", "Be brief.")
NO = turn("assistant", "Green.")


def binarized(**fields):
    row = {"prompt": "Hue?", "chosen": [ASK, SAY], "rejected": [ASK, NO]}
    return {**row, "messages": [ASK, SAY], "prompt_id": "x", **fields}


def test_whole_conversations_beside_a_prompt_have_it_once(read_rows):
    (row,) = read_rows(binarized(score_chosen=8, score_rejected=3))
    assert (row.prompt, row.responses, row.ranks) == (
        "Hue?",
        ["Blue.", "Green."],
        [1, 2],
    )
    assert row.id == "x" and row.messages[0].content == "Hue?"


def test_conversations_keep_their_system_prompt_and_earlier_turns(read_rows):
    early = [SYSTEM, ASK, SAY, ALSO]
    chosen, rejected = [*early, turn("assistant", "Air.")], [*early, NO]
    (row,) = read_rows(binarized(prompt="Why?", chosen=chosen, rejected=rejected))
    assert [m.role for m in row.messages] == ["system", "user", "assistant", "user"]
    assert row.responses == ["Air.", "Green."]
    (bare,) = read_rows({"chosen": chosen, "rejected": rejected})
    assert bare.messages == row.messages and bare.responses == row.responses


def test_equal_scores_are_a_tie_and_a_higher_rejected_one_is_refused(read_rows):
    (row,) = read_rows(binarized(score_chosen=7, score_rejected=7.0))
    assert row.ranks == [1, 1]
    with pytest.raises(InputError, match=":1: score_rejected: 9 is over score_chosen"):
        read_rows(binarized(score_chosen=7, score_rejected=9))


def test_a_prompt_that_its_conversations_contradict_is_refused(read_rows):
    with pytest.raises(InputError, match="prompt: differs from the turns"):
        read_rows(binarized(prompt="Another?"))


def test_conversations_that_part_early_keep_their_later_turns(read_rows):
    more = [ALSO, turn("assistant", "Air.")]
    (row,) = read_rows({"chosen": [ASK, SAY, *more], "rejected": [ASK, NO, *more]})
    assert row.prompt == "Hue?"
    assert row.responses[1] == "Green.\n\nHuman: Why?\n\nAssistant: Air."


def completion(text, **fields):
    return {"response": text, "model": text.lower(), **fields}


def rated(text, rating):
    aspects = ("helpfulness", "honesty", "instruction_following", "truthfulness")
    notes = {name: {"Rating": rating, "Rationale": "so"} for name in aspects}
    return completion(text, annotations=notes)


def ultra(*completions, **fields):
    row = {"instruction": "Hue?", "source": "evol", "models": []}
    return {**row, "completions": list(completions), **fields}


def test_ultrafeedback_is_one_ranking_with_ties(read_rows):
    scores = {"A": 7.5, "B": "9", "C": 7.5, "D": 1}
    (row,) = read_rows(
        ultra(*(completion(t, overall_score=s) for t, s in scores.items()))
    )
    assert row.responses == list("ABCD") and row.ranks == [2, 1, 2, 3]
    assert row.meta["scores"] == [7.5, 9.0, 7.5, 1.0]
    assert row.meta["measure"] == "overall_score"
    assert row.use_case == "evol"


def test_ultrafeedback_without_overall_scores_has_finer_ones(read_rows):
    fine = [completion(t, **{"fine-grained_score": s}) for t, s in (("A", 1), ("B", 2))]
    mean = [rated("A", "5"), rated("B", "4"), rated("C", "N/A")]
    intake = Intake()
    first, second = read_rows(ultra(*fine), ultra(*mean), intake=intake)
    assert first.ranks == [2, 1] and first.meta["measure"] == "fine-grained_score"
    assert second.responses == ["A", "B"] and second.ranks == [1, 2]
    assert intake.warnings["completion without a score"] == 1


@pytest.mark.parametrize(
    "completions",
    [[], [completion("A", overall_score=1)], [completion("A"), completion("B")]],
)
def test_ultrafeedback_without_two_scores_is_refused(read_rows, completions):
    with pytest.raises(InputError, match=":1: completions: expected scores of two"):
        read_rows(ultra(*completions))


def test_nectar_keeps_the_ranks_of_all_answers(read_rows):
    answers = [
        {"answer": text, "model": "m", "rank": rank}
        for text, rank in (("4", 1.0), ("four", 3.0), ("It is 4.", 2.0), ("IV", 3.0))
    ]
    asked = "\n\nHuman: 2+2?\n\nAssistant: "
    row = {"prompt": asked, "answers": answers, "source": ["a", "b"], "turns": 1}
    (found,) = read_rows({**row, "good_natured": True})
    assert found.prompt == "2+2?" and found.ranks == [1, 3, 2, 3]
    assert len(found.responses) == 4 and found.source == "nectar"
    longer = "\n\nHuman: Hi\n\nAssistant: Ho\n\nHuman: 2+2?\n\nAssistant: "
    (found,) = read_rows({**row, "prompt": longer})
    assert [m.content for m in found.messages] == ["Hi", "Ho", "2+2?"]


def steered(prompt, response, helpfulness, **fields):
    return {
        "prompt": prompt,
        "response": response,
        "helpfulness": helpfulness,
        "verbosity": 1,
        **fields,
    }


def test_helpsteer_rows_of_a_prompt_are_one_ranking(read_rows):
    intake = Intake()
    rows = read_rows(
        steered("p", "a", 2),
        steered("q", "x", 0),
        steered("p", "b", 4),
        steered("p", "c", 2),
        intake=intake,
    )
    (row,) = rows
    assert row.responses == ["a", "b", "c"] and row.ranks == [2, 1, 2]
    assert row.meta["scores"]["verbosity"] == [1, 1, 1]
    assert intake.left == {"response to a prompt that has no other": 1}


def test_helpsteer_prompts_with_marked_turns_are_conversations(read_rows):
    prompt = "Hi\n<extra_id_1>Assistant\nHo\n<extra_id_1>User\n2+2?"
    (row,) = read_rows(steered(prompt, "4", 4), steered(prompt, "5", 0))
    assert [m.content for m in row.messages] == ["Hi", "Ho", "2+2?"]


@pytest.mark.parametrize(
    ("strength", "ranks"), [(-3, [1, 2]), (1, [2, 1]), (0, [1, 1])]
)
def test_helpsteer_preferences_have_a_sign(read_rows, strength, ranks):
    old = {"prompt": "p", "response_1": "a", "response_2": "b", "split": "validation"}
    new = {"context": [ASK], "response1": "a", "response2": "b", "domain": "code"}
    first, second = read_rows(
        {**old, "preference_strength": strength},
        {**new, "overall_preference": strength},
        format="helpsteer-preference",
    )
    assert first.ranks == second.ranks == ranks
    assert first.split == "valid" and second.prompt == "Hue?"
    assert second.use_case == "code"


def shp(label, a, b):
    row = {"post_id": "p", "domain": "x", "history": "Why?", "labels": label}
    row |= {"human_ref_A": "A", "human_ref_B": "B", "score_A": a, "score_B": b}
    return {**row, "c_root_id_A": f"a{a}", "c_root_id_B": f"b{b}"}


def test_shp_prefers_the_labelled_comment(read_rows):
    first, second = read_rows(shp(1, 9, 2), shp(0, 1, 5))
    assert first.ranks == [1, 2] and second.ranks == [2, 1]
    assert first.prompt == "Why?" and first.group == second.group == "shp/p"
    assert first.id != second.id
    with pytest.raises(InputError, match="labels: 1 is at odds with the scores"):
        read_rows(shp(1, 1, 5))


def battle(winner, **fields):
    row = {"question_id": "q", "model_a": "small", "model_b": "large", "judge": "ann"}
    row |= {"conversation_a": [ASK, SAY], "conversation_b": [ASK, NO]}
    return {**row, "winner": winner, **fields}


@pytest.mark.parametrize(
    ("winner", "ranks"),
    [
        ("model_a", [1, 2]),
        ("MODEL_B", [2, 1]),
        ("b", [2, 1]),
        ("small", [1, 2]),
        ("large", [2, 1]),
        ("tie", [1, 1]),
        ("tie (bothbad)", [1, 1]),
        ("both_bad", [1, 1]),
    ],
)
def test_the_winner_of_a_battle_is_ranked_first(read_rows, winner, ranks):
    (row,) = read_rows(battle(winner))
    assert row.ranks == ranks and row.responses == ["Blue.", "Green."]
    assert row.meta["model"] == ["small", "large"] and row.labeler == "ann"
    assert bool(row.meta.get("both_bad")) == ("bad" in winner)


@pytest.mark.parametrize("winner", [None, "", "nobody", 1])
def test_a_battle_without_a_winner_is_refused(read_rows, winner):
    with pytest.raises(InputError, match=":1: winner: expected"):
        read_rows(battle(winner))


@pytest.mark.parametrize("sides", ["response", "answer", "output"])
def test_a_battle_may_be_a_prompt_and_two_texts(read_rows, sides):
    row = {"prompt": "Hue?", f"{sides}_a": "Blue.", f"{sides}_b": "Green."}
    (found,) = read_rows({**row, "winner": "model_b", "system": "Be brief."})
    assert found.ranks == [2, 1] and found.messages[0].role == "system"


def test_the_55k_columns_of_the_arena_are_known(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "id,model_a,model_b,prompt,response_a,response_b,"
        "winner_model_a,winner_model_b,winner_tie\r\n"
        '1,x,y,"[""Hi"", ""2+2?""]","[""Ho"", ""4""]","[""Ho"", null]",0,1,0\r\n'
        '2,x,y,"[""Hi""]","[""a""]","[""b""]",0,0,1\r\n'
    )
    first, second = read(path)
    assert first.responses == ["4", ""] and first.ranks == [2, 1]
    assert [m.content for m in first.messages] == ["Hi", "Ho", "2+2?"]
    assert (second.prompt, second.ranks) == ("Hi", [1, 1])
