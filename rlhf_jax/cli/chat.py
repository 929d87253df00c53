"""`rlhf-jax chat DIR`: talk to any checkpoint in the terminal."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator

from rlhf_jax.errors import InputError
from rlhf_jax.literal import literal

HELP = "talk to a checkpoint; --samples 4 shows several answers with their scores"

_EPILOG = """\
A model with a chat template holds a conversation; any other continues each prompt as
it stands. At the `>` prompt: /new forgets the conversation, /quit (or Ctrl-D) ends.
Without a terminal, all of stdin is one prompt and stdout gets the answer alone.

  rlhf-jax chat runs/ppo
  rlhf-jax chat runs/ppo --samples 4 --reward runs/reward
  echo "Once upon a time" | rlhf-jax chat MODEL_DIR --temperature 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of the command."""
    add = parser.add_argument
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add("model", metavar="DIR", help="of a stage or a model, or a name on the hub")
    add("--reward", metavar="DIR", help="reward model whose scores are shown")
    add("--samples", type=int, default=1, help="answers per prompt")
    add("--prompt", help="answer this and end")
    add("--max-new-tokens", type=int, default=256)
    add("--temperature", type=float, default=1.0, help="0 is greedy")
    add("--top-k", type=int, default=0, help="0 keeps all")
    add("--top-p", type=float, default=1.0)
    add("--min-new-tokens", type=int, default=0)
    add("--stop", action="append", default=[], help="text that ends an answer")
    add("--seed", type=int, default=0)
    add("--dtype", choices=("float32", "bfloat16"), help="of the computation")


def run(args: argparse.Namespace) -> int:
    """Answers until there are no more prompts."""
    if args.samples < 1:
        raise InputError(f"--samples: {args.samples}, expected at least 1")
    if not all(args.stop):
        raise InputError("--stop: an empty text would end every answer at once")
    chat = Chat(args)
    for number, prompt in enumerate(prompts(args.prompt)):
        if prompt == "/new":
            chat.history.clear()
        else:
            chat.answer(prompt, number)
    return 0


def prompts(given: str | None) -> Iterator[str]:
    """What is asked: the flag's text, the terminal's lines, or the whole of stdin.

    Raises:
      InputError: it is not UTF-8.
    """
    if given is not None:
        yield _utf8(lambda: given, "--prompt")
    elif not sys.stdin.isatty():
        yield _utf8(sys.stdin.read, "stdin").removesuffix("\n")
    else:
        while True:
            try:
                line = _utf8(lambda: input("> "), "stdin")
            except EOFError:
                print()
                return
            if line.strip() == "/quit":
                return
            if line.strip():
                yield line.strip() if line.strip() == "/new" else line


def _utf8(read: Callable[[], str], where: str) -> str:
    try:
        text = read()
        text.encode()  # some surroundings let bytes through as lone surrogates
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        place = f"found other bytes at position {error.start}"
        raise InputError(f"{where}: expected UTF-8 text, {place}") from error
    return text


class Chat:
    """A model, how it is sampled, and what was said so far."""

    def __init__(self, args: argparse.Namespace):
        from rlhf_jax.data.conversations import default_form
        from rlhf_jax.sampling import SamplingSpec, decoding_params

        loaded = _policy(args.model, args.dtype)
        if loaded.meta.get("form") is None:  # a model of which nobody said how it talks
            talks = bool(loaded.tokenizer.chat_template)
            name = default_form(loaded.tokenizer, conversations=talks)
            loaded = loaded.in_form((), name, args.model)
        self.form = loaded.form
        self.args, self.tokenizer, self.model = args, loaded.tokenizer, loaded.model
        self.spec = SamplingSpec(
            args.max_new_tokens,
            args.temperature,
            tuple(self.form.end_tokens),
            loaded.tokenizer.pad_token,
            args.top_k,
            args.top_p,
            args.min_new_tokens,
        )
        self.params = decoding_params(loaded.params, loaded.model.config.dtype)
        self.reward = _reward(args.reward) if args.reward else None
        self.history: list[dict[str, str]] = []

    def answer(self, prompt: str, number: int) -> None:
        """Shows the answer or answers; the first becomes part of the conversation."""
        import jax

        said = [*self.history, {"role": "user", "content": prompt}]
        said, tokens = self._fitting(said)
        key = jax.random.fold_in(jax.random.key(self.args.seed), number)
        if self.args.samples == 1:
            texts = [self._streamed(tokens, key)]
        else:
            texts = self._several(tokens, key)
        scores = None
        if self.reward is not None:
            asked = prompt if self.form.name == "plain" else said
            scores = self.reward([asked] * len(texts), texts)
        _show(texts, scores, streamed=self.args.samples == 1)
        if self.form.name != "plain":
            self.history = [*said, {"role": "assistant", "content": texts[0]}]

    def _fitting(
        self, said: list[dict[str, str]]
    ) -> tuple[list[dict[str, str]], list[int]]:
        """What was said and its ids, without the oldest turns that have no room."""
        from rlhf_jax.data.inputs import prompt_rows

        plain = self.form.name == "plain"
        room = self.model.config.context_length - 1
        dropped = 0
        while True:
            asked = said[-1]["content"] if plain else said
            (tokens,) = prompt_rows([asked], self.form)
            if len(tokens) <= room or len(said) == 1:
                break
            said, dropped = said[2:], dropped + 2
        if dropped:
            print(
                f"[the {dropped} oldest turns have no room in the context of "
                f"{room + 1} tokens and are left out]",
                file=sys.stderr,
            )
        return said, tokens

    def _streamed(self, tokens: list[int], key) -> str:
        from rlhf_jax.sampling import stream

        drawn = stream(self.model, self.params, tokens, key, self.spec)
        written = []
        for piece in pieces(
            (token for token, _ in drawn),
            self.tokenizer.decode,
            self.args.stop,
            self.spec.end_tokens,
        ):
            print(piece, end="", flush=True)
            written.append(piece)
        print()
        return "".join(written)

    def _several(self, tokens: list[int], key) -> list[str]:
        import numpy as np

        from rlhf_jax.sampling import cut_at_stop_strings, generate

        samples = generate(
            self.model,
            self.params,
            np.asarray([tokens], np.int32),
            np.ones((1, len(tokens)), bool),
            np.arange(self.args.samples, dtype=np.int32),
            key,
            self.spec,
            samples_per_prompt=self.args.samples,
        )
        texts, _ = cut_at_stop_strings(
            samples,
            self.tokenizer.decode,
            self.args.stop,
            end_tokens=self.spec.end_tokens,
        )
        return texts


def pieces(
    tokens: Iterable[int], decode, stops: list[str], end_tokens: tuple[int, ...]
) -> Iterator[str]:
    """Text as it can be shown: whole characters, and nothing of a stop string.

    Text that may be the beginning of a stop string is held back until it is decided.
    """
    from rlhf_jax.sampling.stop_strings import first_stop

    held = max(map(len, stops), default=1) - 1
    ids, shown, text = [], 0, ""
    for token in tokens:
        if token in end_tokens:
            break
        ids.append(token)
        text = decode(ids)
        place = first_stop(text, stops)
        if place is not None:
            yield text[shown:place]
            return
        whole = text.rstrip("\ufffd")  # a character whose bytes are not all there
        ready = max(shown, len(whole) - held)
        if ready > shown:
            yield text[shown:ready]
        shown = ready
    if text[shown:]:
        yield text[shown:]


def _show(texts: list[str], scores, *, streamed: bool) -> None:
    """Several answers side by side on a terminal, one after the other elsewhere."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    console = Console(highlight=False)
    if streamed:
        if scores is not None:
            print(f"[reward {scores[0]:+.3f}]")
        return
    titles = [
        f"{i + 1}" if scores is None else f"{i + 1}: reward {scores[i]:+.3f}"
        for i in range(len(texts))
    ]
    if not console.is_terminal:
        for title, text in zip(titles, texts, strict=True):
            print(f"[{title}]\n{text}")
        return
    width = max(24, console.width // min(len(texts), 4) - 1)
    boxes = [
        Panel(Text(literal(text)), title=title, width=width)
        for title, text in zip(titles, texts, strict=True)
    ]
    console.print(Columns(boxes, padding=(0, 0)))


def _policy(name: str, dtype: str | None):
    from rlhf_jax.registry import load_model, require_language_model

    return require_language_model(load_model(name, dtype=dtype), name)


def _reward(name: str):
    """(prompts, responses) -> scores, by texts: its tokenizer may be another one."""
    from rlhf_jax.registry import load_reward

    return load_reward(name).score
