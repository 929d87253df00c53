"""The endpoint judge against a server on the loopback."""

import http.server
import json
import threading

import pytest

from rlhf_jax.errors import InputError, RunError
from rlhf_jax.evaluation.preference import service
from rlhf_jax.evaluation.preference.endpoint import EndpointJudge, perspective_scorer
from rlhf_jax.evaluation.preference.service import post_json
from rlhf_jax.evaluation.preference.win_rates import compare, win_rate


class Service(http.server.BaseHTTPRequestHandler):
    """Prefers the longer answer; what it does wrong is set by the test."""

    failures: list[int] = []
    seen: list[dict] = []
    reply: str | bytes | None = None
    headers_sent: dict[str, str] = {}
    drips = False
    cut = 0
    gone = threading.Event()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Service.seen.append({"path": self.path, "headers": self.headers, "body": body})
        if Service.failures:
            self.send_response(Service.failures.pop())
            for name, value in Service.headers_sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(f"busy {self.headers['Authorization']}".encode())
            return
        answer = self.answer(body)
        answer = answer if isinstance(answer, bytes) else answer.encode()
        self.send_response(200)
        if Service.cut:  # promises more than it sends, once
            self.send_header("Content-Length", str(len(answer) + Service.cut))
            Service.cut = 0
        self.end_headers()
        while Service.drips and not Service.gone.wait(0.01):
            self.wfile.write(b" ")
        self.wfile.write(answer)

    def answer(self, body):
        if Service.reply is not None:
            return Service.reply
        if "comment" in body:
            value = 0.9 if "fool" in body["comment"]["text"] else 0.1
            score = {"TOXICITY": {"summaryScore": {"value": value}}}
            return json.dumps({"attributeScores": score})
        text = body["messages"][0]["content"]
        a = text.split("<answer_A>")[1].split("</answer_A>")[0].strip()
        b = text.split("<answer_B>")[1].split("</answer_B>")[0].strip()
        word = "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
        content = f"Verdict: B is tempting, but no.\n\n**Verdict: {word}**"
        return json.dumps({"choices": [{"message": {"content": content}}]})

    def log_message(self, *args):
        pass


def says(content) -> str:
    return json.dumps({"choices": [{"message": {"content": content}}]})


@pytest.fixture
def url():
    Service.failures, Service.seen, Service.reply = [], [], None
    Service.headers_sent, Service.drips, Service.cut = {}, False, 0
    Service.gone.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    Service.gone.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_both_orders_are_asked_and_read(url):
    judge = EndpointJudge(url, "m", pause=0.0)
    found = compare(
        judge, ["p", "q", "r"], ["long one", "x", "yy"], ["short", "xxx", "zz"]
    )
    assert found.outcomes.tolist() == [1.0, 0.0, 0.5]
    assert win_rate(found).estimate == 0.5
    assert len(Service.seen) == 6
    assert {s["path"] for s in Service.seen} == {"/v1/chat/completions"}
    assert all(s["body"]["temperature"] == 0 for s in Service.seen)


def test_braces_in_a_response_are_left_alone(url):
    judge = EndpointJudge(url, "m")
    judge(["{first}"], ["{second} {x}"], ["b"])
    text = Service.seen[0]["body"]["messages"][0]["content"]
    assert "{second} {x}" in text and "<request>\n{first}\n" in text


def test_a_busy_server_is_asked_again(url):
    Service.failures = [503, 429]
    judge = EndpointJudge(url, "m", pause=0.0, workers=1)
    assert judge(["p"], ["aa"], ["a"]).tolist() == [1.0]
    assert len(Service.seen) == 3


def test_a_server_that_refuses_ends_with_its_words(url):
    Service.failures = [401]
    with pytest.raises(RunError, match="HTTP 401: busy"):
        EndpointJudge(url, "m", pause=0.0)(["p"], ["a"], ["b"])


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("not json", "not JSON"),
        ('{"choices": []}', "no choices"),
        ('{"choices": [{"message": {"content": "both are fine"}}]}', "no verdict"),
        ('{"choices": [{"message": {"content": null}}]}', "no verdict"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error_and_no_guess(url, reply, told):
    Service.reply = reply
    with pytest.raises(RunError, match=told):
        EndpointJudge(url, "m", pause=0.0)(["p"], ["a"], ["b"])


def test_the_key_comes_from_the_environment(url, monkeypatch):
    judge = EndpointJudge(url, "m", key_variable="JUDGE_KEY")
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(InputError, match="JUDGE_KEY is not set"):
        judge(["p"], ["a"], ["b"])
    monkeypatch.setenv("JUDGE_KEY", "k")
    judge(["p"], ["a"], ["b"])
    assert Service.seen[0]["headers"]["Authorization"] == "Bearer k"


def test_no_message_holds_the_key(url, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    judge = EndpointJudge(url, "m", key_variable="JUDGE_KEY", pause=0.0)
    Service.failures = [401]
    with pytest.raises(RunError, match="HTTP 401: busy") as told:
        judge(["p"], ["a"], ["b"])
    assert "secret" not in str(told.value)
    Service.reply = says("your key is sk-secret")
    with pytest.raises(RunError, match="no verdict") as told:
        judge(["p"], ["a"], ["b"])
    assert "secret" not in str(told.value)


def test_a_redirect_is_not_followed(url, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret")
    Service.failures, Service.headers_sent = [302], {"Location": f"{url}/elsewhere"}
    judge = EndpointJudge(url, "m", key_variable="JUDGE_KEY", pause=0.0)
    with pytest.raises(RunError, match="HTTP 302: redirects are not followed"):
        judge(["p"], ["a"], ["b"])
    assert len(Service.seen) == 1


def test_what_the_server_asks_to_wait_is_waited(url, monkeypatch):
    waits = []
    monkeypatch.setattr(service.time, "sleep", waits.append)
    Service.failures, Service.headers_sent = [429], {"Retry-After": "12"}
    assert EndpointJudge(url, "m")(["p"], ["aa"], ["a"]).tolist() == [1.0]
    assert waits == [12.0]
    Service.failures = [429]
    with pytest.raises(RunError, match="the deadline of 5 s is over"):
        EndpointJudge(url, "m", deadline=5.0)(["p"], ["aa"], ["b"])
    assert waits == [12.0]


def test_a_reply_that_is_cut_is_asked_again(url):
    Service.cut = 50
    assert EndpointJudge(url, "m", pause=0.0)(["p"], ["aa"], ["a"]).tolist() == [1.0]
    assert len(Service.seen) == 2


def test_a_reply_that_drips_has_a_deadline(url):
    Service.drips = True
    with pytest.raises(RunError, match="no whole answer in 0.2 s"):
        post_json(f"{url}/x", {"comment": {"text": ""}}, timeout=0.2, attempts=1)


def test_a_reply_has_a_greatest_size(url, monkeypatch):
    monkeypatch.setattr(service, "MOST_BYTES", 100)
    Service.reply = "x" * 200
    with pytest.raises(RunError, match="more than 100 bytes"):
        EndpointJudge(url, "m", pause=0.0)(["p"], ["a"], ["b"])
    assert len(Service.seen) == 1


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Both are equally good. Verdict: a tie", 0.5),
        ("Verdict: Tie.", 0.5),
        ([{"type": "text", "text": "**Verdict: B**"}], 0.0),
        ("Verdict: A and B are equally good", None),
        ("Verdict: A is worse", None),
    ],
)
def test_a_tie_is_a_tie_and_a_guess_is_none(url, reply, value):
    Service.reply = says(reply)
    judge = EndpointJudge(url, "m", pause=0.0)
    if value is None:
        with pytest.raises(RunError, match="no verdict"):
            judge(["p"], ["a"], ["b"])
    else:
        assert judge(["p"], ["a"], ["b"]).tolist() == [value]


def test_bytes_that_are_no_utf8_are_read_over(url):
    Service.reply = says("cafe Verdict: A").encode().replace(b"cafe", b"caf\xe9")
    assert EndpointJudge(url, "m")(["p"], ["a"], ["b"]).tolist() == [1.0]


def test_verdicts_that_were_given_are_kept(url, tmp_path):
    kept = tmp_path / "verdicts.jsonl"
    judge = EndpointJudge(url, "m", pause=0.0, workers=1, kept=kept)
    Service.failures = [401]
    with pytest.raises(RunError, match="0 of 1 verdicts are kept"):
        judge(["p"], ["aa"], ["a"])
    assert judge(["p"], ["aa"], ["a"]).tolist() == [1.0]
    with kept.open("a") as file:
        file.write('{"asked": "to')  # torn by a kill
    seen = len(Service.seen)
    again = EndpointJudge(url, "m", pause=0.0, workers=1, kept=kept)
    assert again(["p", "p"], ["aa", "a"], ["a", "aa"]).tolist() == [1.0, 0.0]
    assert len(Service.seen) == seen + 1


def test_the_fields_of_a_request_can_be_set(url):
    EndpointJudge(url, "m", fields={"max_completion_tokens": 9})(["p"], ["a"], ["b"])
    body = Service.seen[0]["body"]
    assert body["max_completion_tokens"] == 9 and "max_tokens" not in body


def test_nobody_listening_is_an_error():
    with pytest.raises(RunError, match="attempt 2"):
        post_json("http://127.0.0.1:9", {}, attempts=2, pause=0.0, timeout=2.0)


def test_toxicity_comes_from_a_service(url):
    score = perspective_scorer(f"{url}/comments:analyze")
    assert score(["you fool", "thank you"]).tolist() == [0.9, 0.1]
    Service.reply = "{}"
    with pytest.raises(RunError, match="no TOXICITY"):
        score(["x"])
