"""People in front of a real browser: by keyboard alone, and with mishaps."""

import collections

import pytest
import sqlalchemy as sa
from browsing import Browser, axe, require_chromium
from hostile import PROBES
from studies import batch_of, gold_rankings, person, rows_of, server, sets

from rlhf_jax.data.records import Prompt
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import add_person
from rlhf_jax.labelling.exports import answers_as_of, records_of
from rlhf_jax.labelling.imports import CandidateSet
from rlhf_jax.labelling.screening import screening_table
from rlhf_jax.labelling.serving import running
from rlhf_jax.labelling.store import open_store

ENTER, DOWN, ESCAPE, TAB, CONTROL = "\ue007", "\ue015", "\ue00c", "\ue004", "\ue009"


@pytest.fixture
def live(tmp_path):
    """A study with a running server; (store, address)."""
    require_chromium()
    store = open_store(tmp_path / "study")
    with running(server(store)) as address:
        yield store, address
    store.close()


@pytest.fixture
def browser(live, tmp_path):
    opened = Browser(tmp_path / "profile", live[1])
    yield opened
    opened.close()


def worth(text: str) -> int:
    """Two neighbours are equally good, so that there are ties."""
    return int(text.rsplit(" ", 1)[1]) // 2


def shown(browser) -> list[str]:
    """The texts of the cards in the second step, as they stand."""
    return browser.value(
        "[...document.querySelectorAll('[data-slot] .text-box')]"
        ".map((box) => box.innerText)"
    )


def rate(browser) -> int:
    """The first step by keyboard; how many responses there are."""
    count = browser.value("document.querySelectorAll('[data-dot]').length - 1")
    for slot in range(count):
        browser.until(
            f"document.querySelector('[data-dot=\"{slot}\"]')?.ariaCurrent === 'step'"
        )
        browser.press(str(slot % 7 + 1))
        if slot == 1:
            browser.press("f", "3", "f")
        browser.press(ENTER)
    browser.until("document.querySelector('[data-slot]')")
    return count


def rank(browser) -> None:
    """The second step by keyboard, equal neighbours on the screen by `=`."""
    texts = shown(browser)
    order = sorted({worth(text) for text in texts}, reverse=True)
    before = None
    for slot, text in enumerate(texts):
        place = order.index(worth(text)) + 1
        browser.press("=" if place == before else str(place))
        before = place
        if slot < len(texts) - 1:
            browser.press(DOWN)


def records(store):
    with store.read() as connection:
        rows = answers_as_of(connection, store.last_event(connection))
    return [record for row in rows for record in records_of(row)]


def expected(record) -> list[int]:
    order = sorted({worth(text) for text in record.responses}, reverse=True)
    return [order.index(worth(text)) + 1 for text in record.responses]


def test_a_set_is_ranked_by_keyboard_alone(live, browser):
    store, _ = live
    batch_of(store, sets(1, k=5))
    browser.sign_in(add_person(store, "ann")[1])
    first = browser.task()
    rate(browser)
    rank(browser)
    browser.press(ENTER)
    assert browser.task(first) == "none"
    (record,) = records(store)
    assert record.ranks == expected(record)
    by_slot = [record.likert[index] for index in record.shown_order]
    assert by_slot == [1, 2, 3, 4, 5]
    second = record.flags[record.shown_order[1]]
    assert [name for name, value in second.items() if value] == ["hallucination"]
    assert record.seconds > 0
    assert browser.complaints() == []


@pytest.mark.slow
def test_twenty_sets_with_everything_that_goes_wrong(live, browser):
    """K = 4 to 9; ties, undo, skip, reload, two tabs, a lost connection, Back."""
    store, _ = live
    many = [record for n in range(22) for record in sets(1, k=4 + n % 6, name=f"s{n}")]
    batch_of(store, many)
    browser.sign_in(add_person(store, "ann")[1])
    task, done = browser.task(), collections.Counter()
    while task != "none":
        step = STEPS.get(done["tasks"], plainly)
        step(browser, store)
        done["tasks"] += 1
        task = browser.task(task)
    found = records(store)
    assert len(found) == 21  # one was skipped
    assert {len(record.responses) for record in found} == {4, 5, 6, 7, 8, 9}
    for record in found:
        assert record.ranks == expected(record), record.id
    assert store.verify() == []


def plainly(browser, store):
    rate(browser)
    rank(browser)
    browser.press(ENTER)


def undone_on_the_page(browser, store):
    rate(browser)
    rank(browser)
    before = browser.value("document.getElementById('order').innerText")
    browser.press("1", "2", "u", "u")
    browser.until(f"document.getElementById('order').innerText === {before!r}")
    browser.press(ENTER)


def undone_after_sending(browser, store):
    task = browser.task()
    rate(browser)
    count = len(shown(browser))
    browser.press(*["1", DOWN] * count, ENTER)
    browser.task(task)
    browser.press("u")
    browser.until(f"document.getElementById('task').dataset.task === '{task}'")
    browser.until("document.querySelector('[data-slot]')")
    rank(browser)
    browser.press(ENTER)


def skipped(browser, store):
    browser.press("s")
    browser.until("document.getElementById('skip-dialog').open")
    browser.press("2", ENTER)


def reloaded(browser, store):
    rate(browser)
    rank(browser)
    before = browser.value("document.getElementById('order').innerText")
    browser.saved()
    browser.driver.refresh()
    browser.task()
    browser.until("document.getElementById('order')")
    assert browser.value("document.getElementById('order').innerText") == before
    browser.press(ENTER)


def in_two_tabs(browser, store):
    task = browser.task()
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    browser.open("/work")
    assert browser.task() == task
    plainly(browser, store)
    browser.task(task)
    browser.driver.close()
    browser.driver.switch_to.window(first)
    rate(browser)
    rank(browser)
    browser.press(ENTER)
    browser.until("document.body.innerText.includes('already answered')")
    browser.run("document.querySelector('#banner button').focus()")
    browser.press(ENTER)


def without_connection(browser, store):
    rate(browser)
    browser.saved()
    browser.connected(False)
    rank(browser)
    browser.until("document.body.innerText.includes('Not connected')")
    browser.press(ENTER)
    browser.until("document.getElementById('task').ariaBusy === 'true'")
    browser.connected(True)


def with_the_back_button(browser, store):
    rate(browser)
    browser.driver.back()
    browser.until("document.querySelector('.step-rate')")
    browser.driver.forward()
    browser.until("document.querySelector('.step-rank')")
    rank(browser)
    browser.press(ENTER)


def back_to_what_is_sent(browser, store):
    browser.driver.back()
    browser.until("document.getElementById('back-dialog').open")
    browser.press(ENTER)
    browser.until("!document.getElementById('back-dialog').open")
    plainly(browser, store)


STEPS = {
    2: undone_on_the_page,
    4: undone_after_sending,
    6: skipped,
    8: reloaded,
    10: in_two_tabs,
    12: without_connection,
    14: with_the_back_button,
    15: back_to_what_is_sent,
}


@pytest.mark.slow
def test_a_demonstration_and_a_prompt_are_written(live, browser):
    store, _ = live
    batch_of(store, [Prompt(id="d", prompt="Rain?")], task="demonstration", name="d")
    brief = [Prompt(id="w", prompt="A shop.", kind="few-shot")]
    batch_of(store, brief, task="prompt", name="w", priority=1)
    browser.sign_in(add_person(store, "ann")[1])
    first = browser.task()
    browser.press("Drip, drop.\nשלום 雨")
    browser.saved()
    browser.driver.refresh()
    browser.task()
    browser.until("document.getElementById('text').value.length > 10")
    browser.run("document.getElementById('text').focus()")
    browser.chord(CONTROL, ENTER)
    second = browser.task(first)
    browser.press("Antonyms.")
    for text in ("hot", "cold", "up", "down"):
        browser.press(TAB, text)
    browser.chord(CONTROL, ENTER)
    browser.until("document.body.innerText.includes('is missing')")
    browser.press(TAB, TAB, "r")  # on to the use case: rewrite
    browser.chord(CONTROL, ENTER)
    browser.task(second)
    shown, *shots = records(store)
    assert shown.response == "Drip, drop.\nשלום 雨"
    assert [(s.use_case, s.response) for s in shots] == [
        ("rewrite", "cold"),
        ("rewrite", "down"),
    ]


@pytest.mark.slow
def test_a_screening_round_from_invitation_to_work(live, browser, tmp_path):
    store, address = live
    batch_of(store, sets(1, k=2))
    gold = gold_rankings(1, k=2)
    flagged = [r.model_copy(update={"flags": [{"violent_content": False}] * 2,
                                    "id": "f"}) for r in gold]  # fmt: skip
    demo = [Prompt(id="d", prompt="Write.")]
    for n, (task, rows) in enumerate(
        [("ranking", gold), ("flags", flagged), ("demonstration", demo)]
    ):
        batch_of(store, [], gold=rows, task=task, name=task, priority=n,
                 purpose="qualification")  # fmt: skip
    browser.sign_in(add_person(store, "new", qualify=True)[1])
    task = browser.task()
    for key in ("5", ENTER, "3", ENTER):
        browser.press(key)
    texts = browser.until("document.querySelector('[data-slot]')") and shown(browser)
    order = ["1", DOWN, "2"] if texts[0].endswith("0") else ["2", DOWN, "1"]
    browser.press(*order, ENTER)
    task = browser.task(task)
    browser.press("0", ENTER, "0", ENTER)
    task = browser.task(task)
    browser.press("It rains.")
    browser.chord(CONTROL, ENTER)
    assert browser.task(task) == "none"
    boss = Browser(tmp_path / "boss", address)
    try:
        boss.sign_in(add_person(store, "boss", role="researcher")[1])
        boss.open("/research/screening")
        boss.run("document.querySelector('button[value=\"7\"]').click()")
        boss.until("document.body.innerText.includes('None.')")
        assert screening_table(store)[0]["passes"] is True
        boss.run("document.querySelector('button[value=train]').click()")
        boss.until("!document.querySelector('button[value=train]')")
        assert boss.complaints() == []
    finally:
        boss.close()
    browser.press(ENTER)  # "Look again" has no focus, so this does nothing
    browser.driver.refresh()
    assert browser.task() != "none"


@pytest.mark.slow
def test_hostile_texts_are_text(live, browser):
    """Nothing runs, nothing is fetched, nothing is hidden; the answers come through."""
    store, address = live
    groups = [PROBES[n : n + 7] for n in range(0, len(PROBES), 7)]
    rows = [
        CandidateSet(
            id=f"<script>window.pwned=1</script>{n}",
            prompt=f"{texts[0]}\n\nHuman: {texts[-1][:200]}",
            responses=texts,
            meta={"messages": [{"role": "<b>user</b>", "content": t} for t in texts]},
        )
        for n, texts in enumerate(groups)
    ]
    batch_of(store, rows, name="<img src=x onerror=window.pwned=1>", overlap=2)
    tokens = [add_person(store, name)[1] for name in ("ann", "bob")]
    asked = 0
    for token in tokens:
        browser.sign_in(token)
        task = browser.task()
        while task != "none":
            count = browser.value("document.querySelectorAll('[data-dot]').length - 1")
            for slot in range(count):
                browser.until(
                    f"document.querySelector('[data-dot=\"{slot}\"]')"
                    "?.ariaCurrent === 'step'"
                )
                browser.press("4", ENTER)
            browser.until("document.querySelector('[data-slot]')")
            assert harmless(browser)
            browser.press(*["1", DOWN] * count, ENTER)
            asked += 1
            task = browser.task(task)
        browser.open("/mine")
        assert harmless(browser)
        browser.driver.delete_all_cookies()
    browser.sign_in(add_person(store, "boss", role="researcher")[1])
    for page in ("", "/people", "/batches", "/screening", "/adjudication", "/report",
                 "/audit"):  # fmt: skip
        browser.open(f"/research{page}")
        assert harmless(browser), page
    assert asked == 2 * len(groups)
    assert browser.complaints() == []  # a broken policy would be told here
    by_id = {record.id: record.responses for record in records(store)}
    assert list(by_id.values()) == groups


def harmless(browser) -> bool:
    tags = "script:not([src^='/static/']), iframe, svg, base, meta[http-equiv], video"
    found = browser.value(
        "window.pwned === undefined && location.host !== 'evil.example'"
        f' && document.querySelectorAll("{tags}").length === 0'
        " && !document.querySelector('main img, main link, main style, [onerror]')"
        " && getComputedStyle(document.body).display !== 'none'"
    )
    return bool(found)


@pytest.mark.slow
def test_the_pages_are_accessible(live, browser, tmp_path):
    """axe-core finds nothing serious, light and dark, wide and narrow."""
    source = axe(tmp_path)
    store, _ = live
    every_kind(store)
    ann, boss = (
        add_person(store, "ann")[1],
        add_person(store, "boss", role="researcher")[1],
    )
    findings = []

    def check(where):
        for dark in (False, True):
            browser.look(1280 if dark else 390, dark=dark)
            browser.run(source)
            found = browser.driver.execute_async_script(
                "axe.run().then((r) => arguments[arguments.length - 1](r.violations))"
            )
            findings.extend(
                (where, rule["id"], [node["html"][:120] for node in rule["nodes"]][:3])
                for rule in found
                if rule["impact"] in {"serious", "critical"}
            )

    browser.open("/login")
    check("login")
    browser.sign_in(ann)
    task = browser.task()
    while task != "none":
        check(f"task {browser.value('document.querySelector(`.task`).className')}")
        if browser.value("!!document.querySelector('[data-dot=rank]')"):
            rate(browser)
            check("second step")
        browser.press("?")
        check("keys")
        browser.press(ESCAPE)
        browser.run("document.activeElement.blur()")
        browser.press("s")
        browser.until("document.getElementById('skip-dialog').open")
        check("skip")
        browser.press(ENTER)
        task = browser.task(task)
    for page in ("/mine", "/settings", "/guidelines/1"):
        browser.open(page)
        check(page)
    browser.driver.delete_all_cookies()
    browser.sign_in(boss)
    for page in ("", "/people", "/batches", "/screening", "/adjudication", "/report",
                 "/audit"):  # fmt: skip
        browser.open(f"/research{page}")
        check(page)
    assert findings == []


def every_kind(store):
    """A task of each kind for whoever comes."""
    batch_of(store, sets(1, k=4), name="a")
    batch_of(store, sets(1, k=2), task="pairwise", name="b", priority=1)
    batch_of(store, sets(1, k=2), task="flags", name="c", priority=2)
    one = [Prompt(id="p", prompt="Rain?")]
    for n, task in enumerate(("demonstration", "prompt", "chat")):
        batch_of(store, one, task=task, name=task, priority=3 + n)
    for n in range(3):
        person(store, f"p{n}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height"), [(390, 800), (640, 450), (320, 600)],
    ids=["telephone", "200 % zoom of 1280", "400 % zoom of 1280"],
)  # fmt: skip
def test_narrow_windows_need_no_sideways_scrolling(live, browser, width, height):
    store, _ = live
    long_word = CandidateSet(
        id="w", prompt="https://" + "x" * 300, responses=["y" * 500, "z z"]
    )
    batch_of(store, [long_word, *sets(1, k=9)])
    browser.look(width, height)
    browser.sign_in(add_person(store, "ann")[1])
    task = browser.task()
    for _ in range(2):
        for step in (lambda: None, lambda: rate(browser)):
            step()
            assert browser.value("document.documentElement.scrollWidth") <= width
        count = len(shown(browser))
        browser.press(*["1", DOWN] * count)
        chosen = browser.value(
            "document.querySelector('.chosen').getBoundingClientRect().top"
        )
        assert 0 <= chosen < height
        browser.press(ENTER)
        task = browser.task(task)
    assert task == "none" and len(records(store)) == 2


@pytest.mark.slow
def test_a_sensitive_text_is_covered_until_it_is_asked_for(live, browser):
    store, _ = live
    batch_of(store, sets(1, k=2, meta={"sensitive": True}))
    browser.sign_in(add_person(store, "ann")[1])
    browser.task()
    covered = "document.querySelectorAll('.veiled').length"
    assert browser.value(covered) == 2  # prompt and response
    browser.press("v")
    browser.until(f"{covered} === 0")
    browser.open("/settings")
    browser.run("document.querySelector('[name=sees_sensitive]').click()")
    browser.run("document.querySelector('form[action=\"/settings\"] button').click()")
    browser.until("!document.querySelector('[name=sees_sensitive]').checked")
    assert not rows_of(store, sa.select(schema.people))[0].sees_sensitive
