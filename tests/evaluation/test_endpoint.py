"""The endpoint judge against a server on the loopback."""

import http.server
import json
import threading

import pytest

from rlhf_jax.errors import InputError, RunError
from rlhf_jax.evaluation.preference.endpoint import (
    EndpointJudge,
    perspective_scorer,
    post_json,
)
from rlhf_jax.evaluation.preference.win_rates import compare, win_rate


class Service(http.server.BaseHTTPRequestHandler):
    """Prefers the longer answer; what it does wrong is set by the test."""

    failures: list[int] = []
    seen: list[dict] = []
    reply: str | None = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Service.seen.append({"path": self.path, "headers": self.headers, "body": body})
        if Service.failures:
            self.send_response(Service.failures.pop())
            self.end_headers()
            self.wfile.write(b"busy")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer(body).encode())

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


@pytest.fixture
def url():
    Service.failures, Service.seen, Service.reply = [], [], None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
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


def test_nobody_listening_is_an_error():
    with pytest.raises(RunError, match="attempt 2"):
        post_json("http://127.0.0.1:9", {}, attempts=2, pause=0.0, timeout=2.0)


def test_toxicity_comes_from_a_service(url):
    score = perspective_scorer(f"{url}/comments:analyze")
    assert score(["you fool", "thank you"]).tolist() == [0.9, 0.1]
    Service.reply = "{}"
    with pytest.raises(RunError, match="no TOXICITY"):
        score(["x"])
