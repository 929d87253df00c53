"""The adapter for lm-evaluation-harness, against a stand-in of its base class."""

import sys
import types

import pytest
from stub_policies import stub

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.harness import cut_at, harness_model


@pytest.fixture
def library(monkeypatch):
    names = ("lm_eval", "lm_eval.api", "lm_eval.api.model")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lm_eval.api.model"].LM = type("LM", (), {})


def asked(*args):
    return types.SimpleNamespace(args=args)


def test_the_three_requests_are_answered_by_the_policy(library):
    model = harness_model(stub(lambda p: " Paris.\nQ: next"))
    found = model.loglikelihood([asked("p", " no"), asked("p", " Paris.\nQ: next")])
    assert found == [(-3.0, False), (-15.0, True)]
    assert model.loglikelihood_rolling([asked("whole text")]) == [-10.0]
    requests = [asked("p", {"until": ["\n"]}), asked("p", {})]
    assert model.generate_until(requests) == [" Paris.", " Paris.\nQ: next"]


def test_a_policy_that_cannot_tell_what_is_greedy_is_refused(library):
    policy = stub(str)
    with pytest.raises(InputError, match="cannot tell what is greedy"):
        harness_model(type(policy)("p", policy.generate, policy.logprobs))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(InputError, match=r"rlhf_jax\[harness\]"):
        harness_model(stub(str))


def test_stop_strings_are_plain_text():
    assert cut_at("a.b", ".") == "a" and cut_at("ab", []) == "ab"
