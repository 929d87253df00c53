"""Pages and requests: who may, what a person sees, what never leaves the database."""

import json
import re

import pytest
import sqlalchemy as sa
from studies import (
    batch_of,
    client_of,
    gold_rankings,
    person,
    ranked,
    rows_of,
    server,
    sets,
    signed_in,
)

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import add_person, change_state, new_token, remove_person
from rlhf_jax.labelling.imports import CandidateSet
from rlhf_jax.labelling.web.guards import MAX_BODY, Rates

OPEN = {("GET", "/login"), ("POST", "/login"), ("GET", "/")}


@pytest.fixture
def site(study):
    """(app, ann's browser, the researcher's browser) of a study with two sets."""
    batch_of(study, sets(2))
    app = server(study)
    _, ann = add_person(study, "ann")
    _, boss = add_person(study, "boss", role="researcher")
    return app, signed_in(app, ann), signed_in(app, boss)


def routes(app):
    """(method, path with numbers filled in) of every route there is."""
    found = []
    for route in walk(app.routes):
        for method in route.methods - {"HEAD"}:
            found.append((method, re.sub(r"\{\w+\}", "1", route.path)))
    return sorted(set(found))


def walk(routes):
    for route in routes:
        if getattr(route, "methods", None):
            yield route
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes)


def call(client, method, path, **options):
    return client.request(method, path, **options)


def body_for(path):
    """A body that passes a route's own validation, so that access decides."""
    if path.startswith(("/api/", "/exchange/")):
        return {"json": {"token": "0" * 16, "content": {}, "reason": "x"}}
    if path == "/research/batches":
        return {"files": {"file": ("x.jsonl", b"{}")}}
    return {"data": {"state": "active"}}


def test_there_are_routes_to_test(site):
    assert len(routes(site[0])) > 25


def test_nothing_is_to_be_had_without_a_session(site):
    app, *_ = site
    client = client_of(app)
    for method, path in routes(app):
        if (method, path) in OPEN:
            continue
        options = {} if method == "GET" else body_for(path)
        reply = call(client, method, path, **options)
        away = reply.status_code == 303 and reply.headers["location"] == "/login"
        assert away or reply.status_code == 401, (method, path, reply.status_code)


def test_nothing_changes_without_the_token_of_the_form(site):
    app, ann, boss = site
    for client in (ann, boss):
        del client.headers["x-csrf-token"]
        for method, path in routes(app):
            if method != "GET" and path != "/login" and "/exchange/" not in path:
                reply = call(client, method, path, **body_for(path))
                assert reply.status_code == 403, (method, path, reply.status_code)


def test_nothing_changes_for_another_site_s_page(site):
    app, ann, _ = site
    for method, path in routes(app):
        if method == "GET" or "/exchange/" in path:
            continue
        for header in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
        ):
            reply = call(ann, method, path, headers=header, **body_for(path))
            assert reply.status_code == 403, (method, path, header)


def test_a_labeler_reaches_no_researcher_s_page(site):
    app, ann, _ = site
    for method, path in routes(app):
        if "research" in path:
            options = {} if method == "GET" else body_for(path)
            if method != "GET" and "data" in options:
                options["data"]["csrf"] = ann.csrf
            reply = call(ann, method, path, **options)
            assert reply.status_code == 403, (method, path, reply.status_code)


def test_every_researcher_s_page_is_there(site):
    app, _, boss = site
    for method, path in routes(app):
        if method == "GET" and path not in {"/login", "/"}:
            reply = call(boss, method, path)
            assert reply.status_code in {200, 404}, (path, reply.text[:200])


def test_every_reply_forbids_inline_scripts_and_framing(site):
    app, ann, _ = site
    client = client_of(app)
    for reply in (
        client.get("/login"),
        client.get("/nowhere"),
        client.get("/static/work.js"),
        client.get("/static/../app.py"),
        ann.get("/work"),
        ann.post("/api/claim", json={}),
    ):
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_pages_hold_no_inline_script_and_no_foreign_address(site):
    app, ann, boss = site
    pages = [ann.get(p) for p in ("/work", "/mine", "/settings", "/guidelines/1")]
    pages += [boss.get(p) for _, p in routes(app) if p.startswith("/research")]
    for page in pages:
        for tag in re.findall(r"<script[^>]*>", page.text):
            assert 'src="/static/' in tag
        assert not re.search(r"(src|href|action)=\"(https?:)?//", page.text)
        assert not re.search(r"\son\w+=|style=|javascript:", page.text)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
    ],
)
def test_no_path_leads_out_of_the_static_files(site, path):
    assert client_of(site[0]).get(path).status_code in {400, 404}


def test_the_cookie_is_not_for_scripts_nor_for_other_sites(study):
    _, token = add_person(study, "ann")
    client = client_of(server(study, secure=True))
    cookie = client.post("/login", data={"token": token}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" in cookie
    assert token not in cookie


def test_a_session_ends_with_its_person(study):
    app = server(study)
    for end in (
        lambda who: new_token(study, who),
        lambda who: remove_person(study, who, "erased"),
    ):
        name = f"p{len(rows_of(study, sa.select(schema.people)))}"
        who, token = add_person(study, name)
        client = signed_in(app, token)
        end(who)
        assert client.post("/api/claim", json={}).status_code == 401
        assert client_of(app).post("/login", data={"token": token}).status_code == 401


def test_tokens_and_sessions_expire(study, clock):
    app = server(study)
    _, token = add_person(study, "ann", days=30)
    client = signed_in(app, token)
    clock.pass_(13 * 3600)
    assert client.get("/work").headers["location"] == "/login"
    clock.pass_(31 * 86400)
    assert client_of(app).post("/login", data={"token": token}).status_code == 401


@pytest.mark.parametrize("token", ["", "x", "a" * 10_000, "\0", "' OR 1=1 --", "é"])
def test_a_wrong_token_opens_nothing(study, token):
    client = client_of(server(study))
    reply = client.post("/login", data={"token": token})
    assert reply.status_code == 401 and "set-cookie" not in reply.headers


def test_guessing_tokens_is_slowed_down(study):
    client = client_of(server(study, login_rate=(5, 0.01)))
    codes = [client.post("/login", data={"token": "x"}).status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2


def test_rates_refill(clock):
    rates = Rates(2, 1, clock)
    assert [rates.allow("a") for _ in range(3)] == [True, True, False]
    assert rates.allow("b")
    clock.pass_(1)
    assert [rates.allow("a") for _ in range(2)] == [True, False]


def test_a_body_that_is_too_long_is_refused(site):
    _, ann, _ = site
    reply = ann.post("/api/claim", content=b"x" * (MAX_BODY + 1))
    assert reply.status_code == 413


def test_no_secret_is_in_the_database_or_its_log(study, tmp_path):
    _, token = add_person(study, "ann")
    client = signed_in(server(study), token)
    session = client.cookies["rlhf_label"]
    study.close()
    stored = b"".join(p.read_bytes() for p in (tmp_path / "study").iterdir())
    assert token.encode() not in stored
    assert session.encode() not in stored


def test_a_ranking_from_claim_to_the_next_task(site, study):
    _, ann, _ = site
    task = ann.post("/api/claim", json={}).json()["task"]
    assert task["kind"] == "ranking" and len(task["item"]["texts"]) == 3
    path = f"/api/tasks/{task['id']}"
    draft = {"version": 0, "content": {"view": {}}}
    assert ann.put(f"{path}/draft", json=draft).json() == {"version": 1}
    assert ann.put(f"{path}/draft", json=draft).status_code == 409
    sent = {"token": "0123456789abcdef", "content": ranked(3), "seconds": 5}
    assert ann.post(f"{path}/submit", json=sent).json()["repeated"] is False
    assert ann.post(f"{path}/submit", json=sent).json()["repeated"] is True
    following = ann.post("/api/claim", json={}).json()
    assert following["task"]["id"] != task["id"]
    assert following["progress"]["today"] == 1
    assert ann.post(f"{path}/undo", json={}).json()["task"]["open"]
    assert ann.post("/api/claim", json={}).json()["task"]["id"] == task["id"]


def test_an_incomplete_answer_says_which_field(site):
    _, ann, _ = site
    task = ann.post("/api/claim", json={}).json()["task"]
    sent = {"token": "0123456789abcdef", "content": ranked(3, likert=9)}
    reply = ann.post(f"/api/tasks/{task['id']}/submit", json=sent)
    assert reply.status_code == 422 and "slots.1.likert" in reply.json()["error"]


def test_nobody_sees_or_touches_somebody_else_s_task(site, study):
    app, ann, _ = site
    number = ann.post("/api/claim", json={}).json()["task"]["id"]
    bob = signed_in(app, add_person(study, "bob")[1])
    body = {"token": "0123456789abcdef", "content": ranked(3), "version": 0}
    body["reason"] = "x"
    path = f"/api/tasks/{number}"
    for method, end in (
        ("GET", ""), ("PUT", "/draft"), ("POST", "/submit"), ("POST", "/skip"),
        ("POST", "/undo"), ("POST", "/chat"),
    ):  # fmt: skip
        options = {} if method == "GET" else {"json": {**body, "message": "hi"}}
        assert call(bob, method, path + end, **options).status_code == 404


def test_the_browser_is_told_nothing_that_would_unblind(study):
    """No model, no order of making, no gold, no purpose; gold looks like work."""
    records = sets(3, meta={"models": ["gpt-x", "gpt-y", "sft"]}, source="secret-run")
    gold = gold_rankings(1)
    batch_of(study, records, gold=gold, gold_rate=0.4, repeat_rate=0.1)
    app = server(study)
    ann = signed_in(app, add_person(study, "ann")[1])
    shapes, seen = set(), ""
    while (task := ann.post("/api/claim", json={}).json()["task"]) is not None:
        seen += json.dumps(task)
        shapes.add(tuple(sorted(task)) + tuple(sorted(task["item"])))
        sent = {"token": f"token-number-{task['id']:08d}", "content": ranked(3)}
        ann.post(f"/api/tasks/{task['id']}/submit", json=sent)
    table = schema.assignments
    purposes = {row.purpose for row in rows_of(study, sa.select(table))}
    assert purposes == {"work", "gold"}
    assert len(shapes) == 1
    for word in (
        "gpt",
        "sft",
        "secret-run",
        "purpose",
        "gold-",
        "set-0",
        "shown_order",
    ):
        assert word not in seen


def test_identical_responses_are_one_card(study):
    texts = ["same", "other", "same"]
    batch_of(study, [CandidateSet(id="1", prompt="p", responses=texts)])
    ann = signed_in(server(study), add_person(study, "ann")[1])
    task = ann.post("/api/claim", json={}).json()["task"]
    assert sorted(task["item"]["texts"]) == ["other", "same"]


def test_a_paused_person_is_told_so(site, study):
    _, ann, _ = site
    change_state(study, 1, "paused")
    reply = ann.post("/api/claim", json={})
    assert reply.status_code == 403 and "paused" in reply.json()["error"]


def test_an_invitation_shows_its_token_once(site):
    _, _, boss = site
    form = {"csrf": boss.csrf, "name": "Zoë 1", "group": "held-out"}
    page = boss.post("/research/people/invite", data=form).text
    token = re.search(r'class="token">([^<]+)<', page)[1]
    assert token not in boss.get("/research/people").text
    assert signed_in(site[0], token).get("/work").status_code == 200


def test_a_file_becomes_a_batch_and_a_bad_one_is_told_by_line(site):
    _, _, boss = site
    rows = b'{"id": "1", "prompt": "p", "responses": ["a", "b"]}\n'
    form = {"csrf": boss.csrf, "name": "new", "overlap": "2"}
    path = "/research/batches"
    file = {"file": ("sets.jsonl", rows)}
    assert boss.post(path, data=form, files=file).status_code == 303
    assert "new" in boss.get(path).text
    bad = {"file": ("sets.jsonl", rows + b'{"id": "2", "prompt": "p"}\n')}
    reply = boss.post(path, data={**form, "name": "bad"}, files=bad)
    assert reply.status_code == 422
    assert "upload.jsonl:2: responses" in reply.text and "/tmp" not in reply.text


def test_a_browser_cannot_make_the_server_read_its_files(site):
    _, _, boss = site
    rows = b'{"id": "1", "prompt": "p", "responses": ["a", "b"]}\n'
    form = {"csrf": boss.csrf, "name": "x", "task": "/etc/passwd"}
    form["guideline"] = "../../README.md"
    file = {"file": ("../../sets.jsonl", rows)}
    assert boss.post("/research/batches", data=form, files=file).status_code == 303


def test_the_export_of_an_event_is_always_the_same(site, study):
    app, ann, boss = site
    task = ann.post("/api/claim", json={}).json()["task"]
    sent = {"token": "0123456789abcdef", "content": ranked(3)}
    ann.post(f"/api/tasks/{task['id']}/submit", json=sent)
    first = boss.get("/research/export")
    event = first.headers["x-as-of"]
    ann.post(f"/api/tasks/{task['id']}/undo", json={})
    sent = {"token": "0123456789abcdeg", "content": ranked(3, [1, 1, 1])}
    ann.post(f"/api/tasks/{task['id']}/submit", json=sent)
    again = boss.get(f"/research/export?as_of={event}")
    assert again.content == first.content
    assert boss.get("/research/export").content != first.content


def test_an_error_page_escapes_what_it_repeats(site):
    _, _, boss = site
    reply = boss.get("/research/export?batch=<script>alert(1)</script>")
    assert reply.status_code == 422
    assert "<script>alert" not in reply.text and "&lt;script&gt;" in reply.text


def test_a_program_needs_a_researcher_s_token(site, study):
    app, *_ = site
    client = client_of(app)
    body = {"name": "b", "rows": []}
    tokens = {"": 401, "wrong": 401, add_person(study, "eve")[1]: 403}
    tokens[add_person(study, "prof", role="researcher")[1]] = 200
    for token, status in tokens.items():
        headers = {"authorization": f"Bearer {token}"}
        reply = client.post("/exchange/collect", json=body, headers=headers)
        assert reply.status_code == status
    assert person(study, "last")
