"""Readers of the published formats, and their scores on policies with known answers."""

import json

import numpy as np
import pytest
from stub_policies import stub

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites import (
    choice,
    drop,
    quac,
    squad,
    summarization,
    translation,
    wsc,
)
from rlhf_jax.evaluation.suites.catalogue import (
    SUITES,
    Settings,
    run_suite,
    suite_names,
)
from rlhf_jax.evaluation.suites.public import PUBLIC_TASKS
from rlhf_jax.evaluation.suites.tasks import choose


def put(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in value)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    (folder / name).write_text(text)
    return folder / name


def squad_document(count=6):
    paragraphs = [
        {
            "context": f"Person {n} lives in town {n}.",
            "qas": [
                {
                    "id": f"{n}a",
                    "question": "Where?",
                    "answers": [{"text": f"town {n}"}],
                },
                {
                    "id": f"{n}b",
                    "question": "Why?",
                    "answers": [],
                    "is_impossible": True,
                },
            ],
        }
        for n in range(count)
    ]
    return {"version": "v2.0", "data": [{"title": "People", "paragraphs": paragraphs}]}


def oracle_for(items):
    """A policy that knows the answer to the query at the end of its prompt."""
    return stub(
        lambda prompt: next(
            f" {item.answer}\nQ: and" for item in items if prompt.endswith(item.query)
        )
    )


def test_squad_from_file_to_f1(tmp_path):
    path = put(tmp_path / "squad", "dev-v2.0.json", squad_document())
    items = squad.read_squad(path)
    assert items[1].query.endswith("Q: Where?\n\nA: town 0\n\nQ: Why?\n\nA:")
    scores = run_suite("squad", oracle_for(items), Settings(data=tmp_path))
    assert {s.condition for s in scores} == {"zero-shot", "few-shot"}
    assert all(s.interval(num_resamples=20).estimate == 100 for s in scores)
    assert len(scores[0].values) == 4  # 4 of the 6 paragraphs became examples
    silent = run_suite("squad", stub(lambda p: ""), Settings(data=path, num_shots=0))
    assert silent[0].interval(num_resamples=20).estimate == 50.0


def test_squad_of_the_hub_has_the_same_items(tmp_path):
    flat = [
        {
            "id": qa["id"],
            "title": "People",
            "context": p["context"],
            "question": qa["question"],
            "answers": {"text": [a["text"] for a in qa["answers"]], "answer_start": []},
        }
        for p in squad_document()["data"][0]["paragraphs"]
        for qa in p["qas"]
    ]
    own = squad.read_squad(put(tmp_path, "dev.json", squad_document()))
    assert squad.read_squad(put(tmp_path, "validation.jsonl", flat)) == own


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"rows": []}, "not SQuAD's format"),
        ({"data": []}, "has no questions"),
        (
            {
                "data": [
                    {
                        "title": "T",
                        "paragraphs": [
                            {"context": "c", "qas": [{"id": "7", "question": "q"}]}
                        ],
                    }
                ]
            },
            "question '7': answers: missing",
        ),
    ],
)
def test_bad_squad_files_are_told(tmp_path, document, told):
    with pytest.raises(InputError, match=told):
        squad.read_squad(put(tmp_path, "dev.json", document))


def test_drop_numbers_spans_and_dates(tmp_path):
    answers = [
        {"number": "7", "spans": [], "date": {}},
        {"number": "", "spans": ["Ann", "Bea"], "date": {}},
        {
            "number": "",
            "spans": [],
            "date": {"day": "3", "month": "May", "year": "1812"},
        },
    ]
    pairs = [
        {"query_id": str(n), "question": f"q{n}?", "answer": a, "validated_answers": []}
        for n, a in enumerate(answers)
    ]
    path = put(tmp_path, "dev.json", {"p": {"passage": "Text.", "qa_pairs": pairs}})
    items = drop.read_drop(path)
    assert [i.references for i in items] == [
        (("7",),),
        (("Ann", "Bea"),),
        (("3 May 1812",),),
    ]
    policy = stub(lambda p: " 7" if "q0" in p else " 3 May 1812")
    scores = PUBLIC_TASKS["drop"].ask(policy, items, [], "zero-shot")
    assert scores[0].values.tolist() == [1.0, 0.0, 1.0]
    pairs[1]["answer"] = {"number": "", "spans": [], "date": {}}
    path = put(tmp_path, "dev.json", {"p": {"passage": "Text.", "qa_pairs": pairs}})
    with pytest.raises(InputError, match="question '1': answer: is empty"):
        drop.read_drop(path)


def test_quac_dialogue_and_contested_questions(tmp_path):
    def turn(name, question, *texts):
        return {
            "id": name,
            "question": question,
            "answers": [{"text": t} for t in texts],
        }

    paragraph = {
        "id": "d1",
        "context": "He rose in 1907. CANNOTANSWER",
        "qas": [
            turn("a", "When?", "in 1907", "1907"),
            turn("b", "Contested?", "he", "rose"),
            turn("c", "Why?", "CANNOTANSWER"),
        ],
    }
    data = [{"title": "Marius", "section_title": "Career", "paragraphs": [paragraph]}]
    items = quac.read_quac(put(tmp_path, "val_v0.2.json", {"data": data}))
    assert [i.name for i in items] == ["a", "c"]
    assert "PARAGRAPH: He rose in 1907.\n\nQ: When?\n\nA: in 1907" in items[1].query
    policy = stub(lambda p: " I don't know.")
    scores = PUBLIC_TASKS["quac"].ask(policy, items, [], "zero-shot")
    assert scores[0].values.tolist() == [0.0, 1.0]


def test_the_option_with_the_best_mean_wins_and_not_the_shortest():
    policy = stub(str, logprob=lambda p, c: -2.0 if c == " no" else -0.5 * len(c))
    assert choose(policy, ["p"], [(" no", " certainly")]).tolist() == [1]


def test_hellaswag_rte_and_sst(tmp_path):
    rows = [
        {"ind": n, "activity_label": "Ski", "label": 1,
         "ctx": "He [step] goes [title] up", "endings": ["down", "and [s] wins", "a"]}
        for n in range(3)
    ]  # fmt: skip
    (item, *_) = choice.read_hellaswag(put(tmp_path, "val.jsonl", rows))
    assert item.query == "Ski: He goes. up" and item.options[1] == " and wins"
    assert item.correct == 1
    rows = [{"premise": "It rains.", "hypothesis": "It is wet.", "label": "entailment"}]
    (item,) = choice.read_rte(put(tmp_path, "rte.jsonl", rows))
    assert "conclude that It is wet?" in item.query and item.answer == "Yes"
    glue = "index\tsentence1\tsentence2\tlabel\n4\tA.\tB.\tnot_entailment\n"
    assert choice.read_rte(put(tmp_path, "rte.tsv", glue))[0].correct == 1
    sst = "sentence\tlabel\nfine work\t1\na bore\t0\n"
    items = choice.read_sst(put(tmp_path, "sst.tsv", sst))
    assert [i.answer for i in items] == ["positive", "negative"]
    with pytest.raises(InputError, match="sst.tsv:2: label: expected one of"):
        choice.read_sst(put(tmp_path, "sst.tsv", "sentence\tlabel\nfine\t2\n"))


def test_sst_runs_on_the_real_file(shared_data):
    loves = stub(str, logprob=lambda p, c: 0.0 if "pos" in c else -5.0)
    settings = Settings(data=shared_data, limit=200, num_shots=2)
    zero, few = run_suite("sst", loves, settings)
    assert 0.4 < zero.interval(num_resamples=50).estimate < 0.7
    assert few.condition == "few-shot" and len(few.values) == 200


def test_wsc_marks_the_pronoun_and_compares_with_the_label(tmp_path):
    target = {"span1_text": "Ann", "span2_text": "she", "span2_index": 4}
    rows = [
        {"text": "Ann told Bea that she, too, sat.", "target": dict(target),
         "label": label, "idx": n}
        for n, label in enumerate((True, False))
    ]  # fmt: skip
    items = wsc.read_wsc(put(tmp_path, "val.jsonl", rows))
    assert "that *she*, too" in items[0].query
    scores = PUBLIC_TASKS["wsc"].ask(stub(lambda p: " ann."), items, [], "zero-shot")
    assert scores[0].values.tolist() == [1.0, 0.0]
    assert wsc.refers_to("It is Ann Lee", "Ann") and wsc.refers_to("Ann", "Ann Lee")
    assert not wsc.refers_to("", "Ann")
    rows[0]["target"]["span2_index"] = 3
    with pytest.raises(InputError, match="val.jsonl:1: span2_index: word 3 is 'that'"):
        wsc.read_wsc(put(tmp_path, "val.jsonl", rows))


def test_bleu_of_sums_is_sacrebleus_corpus_bleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(0)
    words = "the cat sat on a mat and then it ran far away".split()
    texts = [
        (
            " ".join(rng.choice(words, rng.integers(3, 12))),
            " ".join(rng.choice(words, 8)),
        )
        for _ in range(40)
    ] + [("the cat sat on a mat", "the cat sat on a mat")]
    hypotheses, references = zip(*texts, strict=True)
    for some in (slice(0, 41), slice(0, 6), slice(40, 41), slice(2, 3)):
        sums = sum(
            translation.bleu_sums(h, r)
            for h, r in zip(hypotheses[some], references[some], strict=True)
        )
        expected = sacrebleu.corpus_bleu(hypotheses[some], [references[some]]).score
        assert translation.bleu_of_sums(sums) == pytest.approx(expected, abs=1e-9)


def test_an_empty_translation_has_bleu_zero():
    pytest.importorskip("sacrebleu")
    assert translation.bleu_of_sums(translation.bleu_sums("", "the cat")) == 0.0


def test_wmt_from_parallel_files_and_json_lines(tmp_path):
    folder = tmp_path / "wmt"
    put(folder, "test.fr", "Merci !\nBonjour\n")
    put(folder, "test.en", "Thanks !\nHello\n")
    pairs = [
        {"translation": {"fr": "Merci !", "en": "Thanks !"}},
        {"fr": "a", "en": "b"},
    ]
    put(tmp_path, "t.jsonl", pairs)
    items = translation.read_wmt(folder)
    assert items[0] == translation.read_wmt(tmp_path / "t.jsonl")[0]
    put(folder, "test.en", "Thanks !\n")
    with pytest.raises(InputError, match="2 French lines, 1 English"):
        translation.read_wmt(folder)


def test_summaries_are_scored_by_rouge_l(tmp_path):
    pytest.importorskip("rouge_score")
    rows = [{"id": "1", "post": "A long post.", "summary": "dogs ran home"}]
    (item,) = summarization.read_tldr(put(tmp_path, "test.jsonl", rows))
    assert item.query == "A long post.\n\nTL;DR:"
    policy = stub(lambda p: " dog ran\nmore")
    rouge, words = PUBLIC_TASKS["tldr"].ask(policy, [item], [], "zero-shot")
    assert rouge.values[0] == pytest.approx(0.8)  # stemmed: dog ran of 2 and of 3 words
    assert words.values.tolist() == [2.0]


def test_suite_names_know_groups_and_guess_what_was_meant():
    assert suite_names(["bias", "squad"]) == ["winogender", "crows_pairs", "squad"]
    assert set(suite_names(["public", "world"])) == set(SUITES)
    with pytest.raises(InputError, match="did you mean 'winogender'"):
        suite_names(["winogendr"])


def test_a_suite_without_its_data_says_what_it_needs(tmp_path):
    with pytest.raises(InputError, match="suite squad needs --data"):
        run_suite("squad", stub(str), Settings())
    with pytest.raises(InputError, match="holds none of dev-v2.0.json"):
        run_suite("squad", stub(str), Settings(data=tmp_path))
    with pytest.raises(InputError, match="suite toxicity needs a scorer"):
        run_suite("toxicity", stub(str), Settings(data=tmp_path))


@pytest.mark.parametrize("value", [float("nan"), 0.5])
def test_a_log_probability_outside_its_range_is_refused_and_no_answer(tmp_path, value):
    put(tmp_path / "sst", "dev.tsv", "sentence\tlabel\nfine work\t1\na bore\t0\n")
    broken = stub(str, logprob=lambda p, c: value if "neg" in c else -1.0)
    settings = Settings(data=tmp_path, num_shots=0)
    with pytest.raises(InputError, match="policy stub: the log-probability of ' nega"):
        run_suite("sst", broken, settings)
