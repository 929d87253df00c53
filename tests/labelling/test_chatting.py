"""Two models answer live; the person does not learn which is which."""

import http.server
import json
import threading

import pytest
from studies import batch_of, person

from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.labelling.answering import submit
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.chatting import converse
from rlhf_jax.labelling.exchange import collect
from rlhf_jax.labelling.refusals import Missing
from rlhf_jax.labelling.web.views import task_view


class Model(http.server.BaseHTTPRequestHandler):
    """Says its name and what it has heard."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body["model"] == "broken":
            self.send_error(500)
            return
        heard = [message["content"] for message in body["messages"]]
        text = f"{body['model']} heard {len(heard)}: {heard[-1]}"
        reply = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *words):
        pass


@pytest.fixture
def models():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def talk(study, models, names=("one", "two")):
    settings = {"models": [{"url": models, "model": name} for name in names]}
    topic = [Prompt(id="t", prompt="Ask about rivers.")]
    batch_of(study, topic, task="chat", settings=settings)
    who = person(study, "ann")
    return who, claim(study, who)


def test_both_answer_and_the_choice_goes_to_the_right_one(study, models):
    who, number = talk(study, models)
    converse(study, who, number, "Hello")
    converse(study, who, number, "And then?")
    shown = task_view(study, who, number)
    first, second = shown["talk"][0]["replies"]
    assert {first, second} == {"one heard 1: Hello", "two heard 1: Hello"}
    assert "heard 3" in shown["talk"][1]["replies"][0]
    token = "0123456789abcdef"
    submit(study, who, number, token=token, content={"choice": "first"})
    (row,) = collect(study, "b")
    best = row["responses"][row["ranks"].index(1)]
    assert best.startswith(first) and "Human: And then?" in best
    assert row["prompt"] == "Hello"


def test_an_answer_needs_a_conversation(study, models):
    who, number = talk(study, models)
    with pytest.raises(InputError, match="at least one message"):
        submit(study, who, number, token="0123456789abcdef", content={"choice": "tie"})


def test_a_model_that_fails_is_told_without_its_name(study, models):
    who, number = talk(study, models, ("one", "broken"))
    with pytest.raises(InputError, match="a model does not answer") as caught:
        converse(study, who, number, "Hello")
    assert "broken" not in str(caught.value)
    assert task_view(study, who, number)["talk"] == []


def test_nobody_talks_in_somebody_else_s_task(study, models):
    _, number = talk(study, models)
    with pytest.raises(Missing):
        converse(study, person(study, "eve"), number, "Hello")
