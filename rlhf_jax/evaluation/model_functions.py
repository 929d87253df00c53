"""A language model as functions of texts: what it writes, how likely a text is.

Rows are sorted by length, put in batches of one size and padded to powers of two, so
that a suite of thousands of texts compiles a handful of programs. Hidden states become
logits only where a completion stands.

What a suite asks is read in the model's form. "plain" and "transcript": the prompt as
it stands, what is scored right behind it. "template": the prompt, instruction and
solved examples with it, is one turn of the user, what is written or scored is the
assistant's turn. Of a scored turn counts what is said, not the token that closes it,
and the space that divides a completion from its prompt is left out: the template
divides them. An empty prompt is an empty turn.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import compile_function, mesh_of, to_host, whole_rows
from rlhf_jax.registry import LoadedModel

_SHORTEST = 16  # the smallest padded length [tokens]; longer ones double


@dataclasses.dataclass
class ModelPolicy:
    """A language model as a `Policy`; lengths are padded to powers of two.

    Attributes:
      name: the column of a table.
      loaded: a language model; its tokenizer's `begin_token`, if it has one, stands
        before every prompt, and before an empty prompt its `end_token` otherwise, as
        GPT-2 does. Its form says how it reads a prompt.
      max_new_tokens: response budget [tokens].
      batch_size: rows at once.
      stop_at_newline: end generation at a newline token, for suites that cut there
        anyway.
      truncated: how many prompts were cut to fit the context so far.
    """

    name: str
    loaded: LoadedModel
    max_new_tokens: int = 64
    batch_size: int = 16
    stop_at_newline: bool = False
    truncated: int = 0

    @property
    def model(self) -> Any:
        """The model without dropout: one program for all policies of one shape."""
        return self.loaded.model

    @property
    def params(self) -> Any:
        """Its params."""
        return self.loaded.params

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.loaded.tokenizer

    def logprobs(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
        """(sums in nats, token counts) of the completions; an empty one is (0, 0)."""
        sums, _, counts = self._scored(prompts, completions)
        return sums, counts

    def is_greedy(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> Bool[np.ndarray, "N"]:
        """Whether each token of the completion is the likeliest one."""
        return self._scored(prompts, completions)[1]

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """Continuations at temperature 0."""
        return self._written(prompts, temperature=0.0, seed=0)

    def sample(self, prompts: Sequence[str], seed: int) -> list[str]:
        """Continuations at temperature 1; row i of a seed is the same in any batch."""
        return self._written(prompts, temperature=1.0, seed=seed)

    def _prompt_ids(self, prompt: str, room: int) -> list[int]:
        begin = getattr(self.tokenizer, "begin_token", None)
        head = [] if begin is None else [begin]
        if self.loaded.form.name == "template":
            head, ids = [], self.loaded.form.prompt_ids(prompt)
        else:
            ids = self.tokenizer.encode(prompt)
        if not head and not ids:
            head = [self.tokenizer.end_token]
        if room < 1 + len(head):
            raise InputError(
                f"no room for a prompt: of the context's {self._context} tokens "
                f"{self._context - room} are for what follows"
            )
        self.truncated += len(head) + len(ids) > room
        return head + ids[max(0, len(head) + len(ids) - room) :]

    def _completion_ids(self, prompt: str, completion: str) -> list[int]:
        """The completion's tokens as they stand behind the prompt.

        In a template, those of the assistant's turn. Encoded alone, some tokenizers
        (SentencePiece's) would put a space of their own in front of it. Where the
        prompt's tokens change with what follows, the two are encoded apart, as in
        training.
        """
        if self.loaded.form.name == "template":
            said = completion.removeprefix(" ")
            response = self.loaded.form.response_ids
            return response(prompt, said, closed=False) if said else []
        head = self.tokenizer.encode(prompt)
        whole = self.tokenizer.encode(prompt + completion)
        if whole[: len(head)] == head:
            return whole[len(head) :]
        return self.tokenizer.encode(completion)

    @property
    def _context(self) -> int:
        return self.model.config.context_length

    def _scored(self, prompts, completions):
        if len(prompts) != len(completions):
            raise InputError(
                f"{len(prompts)} prompts for {len(completions)} completions"
            )
        tails = [
            self._completion_ids(prompt, text)
            for prompt, text in zip(prompts, completions, strict=True)
        ]
        heads = [
            self._prompt_ids(text, self._context - len(tail))
            for text, tail in zip(prompts, tails, strict=True)
        ]
        sums, greedy = np.zeros(len(heads)), np.ones(len(heads), bool)
        score = score_program(self.model)
        for rows in self._batches(
            [len(h) + len(t) for h, t in zip(heads, tails, strict=True)]
        ):
            arrays = self._pair_arrays(
                [heads[i] for i in rows], [tails[i] for i in rows]
            )
            found = to_host(score(self.params, arrays))
            sums[rows], greedy[rows] = (values[: len(rows)] for values in found)
        return sums, greedy, np.array([len(tail) for tail in tails])

    def _batches(self, lengths: Sequence[int]):
        """Rows in batches of like length, so that little is padded."""
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self._rows):
            yield order[start : start + self._rows]

    @property
    def _rows(self) -> int:
        """Rows at once: such as can be cut over the mesh that the params lie on."""
        return whole_rows(self.batch_size, mesh_of(self.params))

    def _pair_arrays(self, heads, tails):
        width = padded(
            max(len(h) + len(t) for h, t in zip(heads, tails, strict=True)),
            self._context,
        )
        tail_width = padded(max(map(len, tails)), self._context)
        tokens = np.full((self._rows, width), self.tokenizer.pad_token, np.int32)
        valid = np.zeros((self._rows, width), bool)
        targets = np.zeros((self._rows, tail_width), np.int32)
        mask = np.zeros((self._rows, tail_width), bool)
        starts = np.zeros(self._rows, np.int32)
        valid[:, 0] = True  # a row that is only filler needs something to attend to
        for i, (head, tail) in enumerate(zip(heads, tails, strict=True)):
            tokens[i, : len(head) + len(tail)] = head + tail
            valid[i, : len(head) + len(tail)] = True
            targets[i, : len(tail)], mask[i, : len(tail)] = tail, True
            starts[i] = len(head) - 1
        return tokens, valid, targets, mask, starts

    def _written(
        self, prompts: Sequence[str], *, temperature: float, seed: int
    ) -> list[str]:
        from rlhf_jax.experience.writer import Writer, texts_of

        writer = Writer(
            self.loaded,
            self.max_new_tokens,
            temperature=temperature,
            end_tokens=self._end_tokens(),
            batch_size=self.batch_size,
        )
        self.truncated += writer.count_too_long(prompts)
        batches = writer.batches(prompts, jax.random.key(seed))
        return texts_of(map(self._drawn, batches), 1, prompts)

    def _drawn(self, batch: Any) -> Any:
        """The same batch, refused where the model gave no distribution to draw from."""
        logprobs = np.asarray(batch.samples["sampler_logprobs"])[: len(batch.rows)]
        if np.isnan(logprobs).any():
            raise InputError(
                f"policy {self.name}: the log-probability of a token that it wrote is "
                "NaN; its parameters or its logits are not finite"
            )
        return batch

    def _end_tokens(self) -> tuple[int, ...]:
        ends = list(self.loaded.form.end_tokens)
        if self.stop_at_newline:
            word = self.tokenizer.encode("a")
            for newline in ("\n", "\n\n"):
                # behind a word, because some tokenizers open a text with a space
                ids = self.tokenizer.encode(f"a{newline}")
                if ids[:-1] == word and ids[-1] not in ends:
                    ends.append(ids[-1])
        return tuple(ends)


def padded(length: int, limit: int) -> int:
    """The next power of two from 16 up, at most `limit`: few shapes, few compilations.

    >>> padded(5, 512), padded(17, 512), padded(300, 320)
    (16, 32, 320)
    """
    return min(max(_SHORTEST, 1 << (length - 1).bit_length()), max(limit, length))


@functools.cache
def score_program(model):
    """The scorer of one model; hidden states become logits only at completions.

    Returns:
      (params, (tokens [B,T], valid [B,T], targets [B,C], mask [B,C], starts [B])) ->
      (sums [B] in nats, greedy [B]), where the params lie; `starts` is the place of
      the last prompt token.
    """
    from rlhf_jax.losses import token_logprobs, weighted_sum

    def score(
        params,
        tokens: Int[Array, "B T"],
        valid: Bool[Array, "B T"],
        targets: Int[Array, "B C"],
        mask: Bool[Array, "B C"],
        starts: Int[Array, "B"],
    ):
        hidden = model.apply({"params": params}, tokens, valid, method="hidden")
        places = starts[:, None] + jnp.arange(targets.shape[1])[None]
        places = jnp.minimum(places, tokens.shape[1] - 1)
        hidden = jnp.take_along_axis(hidden, places[:, :, None], axis=1)
        logits = model.logits(params, hidden)
        per_token = token_logprobs(logits, targets)
        sums = jax.vmap(weighted_sum)(per_token, mask.astype(jnp.float32))
        greedy = jnp.where(mask, jnp.argmax(logits, axis=-1) == targets, True)
        return sums, greedy.all(axis=-1)

    return compile_function(lambda params, arrays: score(params, *arrays))
