"""`rlhf-jax chat` where there is no terminal: stdin is the prompt."""

import io

import jax
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.chat import pieces
from rlhf_jax.data import ByteTokenizer
from rlhf_jax.models import LanguageModel, ScalarModel, TrunkConfig, init_params
from rlhf_jax.registry import LoadedModel


@pytest.fixture
def checkpoints(monkeypatch):
    """ "policy" and "reward" stand for model directories."""
    tokenizer = ByteTokenizer()
    config = TrunkConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=128,
        embed_dim=16,
        num_layers=1,
        num_heads=2,
    )

    def load_model(name, *, dtype=None, **_):
        model = {"policy": LanguageModel, "reward": ScalarModel}[name](config)
        params = init_params(model, jax.random.key(0))
        return LoadedModel(model, params, tokenizer, {})

    monkeypatch.setattr("rlhf_jax.registry.load_model", load_model)
    monkeypatch.setattr("rlhf_jax.registry.reward.load_model", load_model)


def chat(monkeypatch, capsys, *words, stdin="hello\n") -> tuple[int, str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    code = main(["chat", *words, "--max-new-tokens", "6"])
    return code, *capsys.readouterr()


def test_stdin_is_answered_and_the_seed_names_the_answer(
    checkpoints, monkeypatch, capsys
):
    code, first, _ = chat(monkeypatch, capsys, "policy")
    assert code == 0 and first.strip()
    assert chat(monkeypatch, capsys, "policy")[1] == first
    assert chat(monkeypatch, capsys, "policy", "--seed", "1")[1] != first


def test_several_answers_come_with_their_scores(checkpoints, monkeypatch, capsys):
    words = ("policy", "--reward", "reward", "--samples", "3", "--prompt", "hello")
    code, out, _ = chat(monkeypatch, capsys, *words)
    assert code == 0
    assert [f"[{i}: reward " in out for i in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reward",), "holds a reward model, expected a language model"),
        (("policy", "--reward", "policy"), "expected a reward model"),
        (("policy", "--prompt", "caf\udce9"), "--prompt: expected UTF-8"),
        (("policy", "--temperature", "-1"), "temperature"),
        (("policy", "--samples", "0"), "--samples"),
        (("policy", "--stop", ""), "--stop"),
        (("policy", "--prompt", "x" * 200), "no room in a context of 128"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    checkpoints, monkeypatch, capsys, words, message
):
    code, _, err = chat(monkeypatch, capsys, *words)
    assert code == 2 and message in err


def not_utf8(errors):
    return io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), "utf-8", errors=errors)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_stdin_that_is_not_utf8_is_one_clear_line(
    checkpoints, monkeypatch, capsys, errors
):
    monkeypatch.setattr("sys.stdin", not_utf8(errors))
    assert main(["chat", "policy"]) == 2
    err = capsys.readouterr().err
    assert "stdin: expected UTF-8 text" in err and err.count("\n") == 1


def test_stages_and_an_ensemble_of_a_run_are_read(run_directory, monkeypatch, capsys):
    words = ("--reward", str(run_directory / "reward"), "--prompt", "hello")
    for policy in ("ppo", "ppo/model"):
        code, out, _ = chat(monkeypatch, capsys, str(run_directory / policy), *words)
        assert code == 0 and "[reward " in out


def decode(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def test_text_is_shown_as_soon_as_its_characters_are_whole():
    shown = list(pieces("aé!".encode(), decode, [], ()))
    assert shown == ["a", "é", "!"]


def test_nothing_of_a_stop_string_is_shown():
    shown = list(pieces(b"yes\n\nQ: more", decode, ["\nQ:"], ()))
    assert "".join(shown) == "yes\n"


def test_what_only_looked_like_a_stop_string_is_shown_at_the_end():
    shown = list(pieces(b"yes\nQ", decode, ["\nQ:"], ()))
    assert "".join(shown) == "yes\nQ"


def test_the_end_token_is_not_shown():
    assert list(pieces([97, 3, 98], decode, [], (3,))) == ["a"]
