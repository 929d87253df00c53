"""What policies write: prompts in, responses out, on a mesh, any number per prompt.

Response j to prompt i is row i·K + j. What stands in it is a function of the policy,
its prompt, the key and that number, not of its batch mates, of the mesh, or of where a
run was cut; so a run that goes on asks only for the batches that are missing.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from rlhf_jax.data.inputs import padded_prompts, prompt_rows
from rlhf_jax.errors import InputError
from rlhf_jax.parallel import mesh_of, to_host, whole_rows
from rlhf_jax.registry import LoadedModel
from rlhf_jax.sampling import SamplingSpec, generate, layout_for_rollout
from rlhf_jax.storage import is_first_process
from rlhf_jax.tracking.lines import LineFile

__all__ = [
    "Writer",
    "Written",
    "bucket",
    "decoded",
    "sample_batch",
    "sampling_spec",
    "texts_of",
]

# from this budget on, rows that end early give their slot to the next prompt
_LONG = 256


@dataclasses.dataclass(frozen=True)
class Written:
    """A batch of responses.

    Attributes:
      rows: [n] the number of each response.
      texts: n texts without their end tokens.
      finished: [n] whether the policy ended it; else it was cut at the budget.
      samples: of `sample_batch`; the first n rows are those of `rows`.
    """

    rows: Int[np.ndarray, " n"]
    texts: list[str]
    finished: np.ndarray
    samples: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Writer:
    """A policy that writes.

    Attributes:
      policy: a language model; its dropout is off here.
      max_response: tokens sampled at most.
      max_prompt: tokens; a longer prompt loses its beginning. None: the context less
        the budget.
      temperature: of sampling; 0: the likeliest token each time.
      end_tokens: ids that end a response; empty: those of the policy's form.
      batch_size: responses sampled together, or as many more as the mesh has places
        for.
      mesh: where; None: where the policy lies.
      engine: "static" (rows start together), "continuous" (a row that ends gives its
        place to the next prompt: the same text, sooner where lengths differ), or
        "auto": continuous from a budget of 256 tokens on.
    """

    policy: LoadedModel
    max_response: int
    max_prompt: int | None = None
    temperature: float = 1.0
    end_tokens: tuple[int, ...] = ()
    batch_size: int = 64
    mesh: Mesh | None = None
    engine: str = "auto"

    @functools.cached_property
    def spec(self) -> SamplingSpec:
        """How tokens are drawn."""
        return sampling_spec(
            self.policy, self.max_response, self.temperature, self.end_tokens
        )

    @functools.cached_property
    def model(self) -> Any:
        """The policy's model without dropout."""
        return self.policy.with_config(residual_dropout=0.0).model

    @functools.cached_property
    def params(self) -> Any:
        """The policy's params, laid out once."""
        if self.where.size == 1:
            return self.policy.params
        dtype = self.model.config.dtype
        return layout_for_rollout(self.policy.params, self.where, dtype)

    @functools.cached_property
    def where(self) -> Mesh:
        """The mesh that it writes on."""
        return mesh_of(self.policy.params) if self.mesh is None else self.mesh

    def write(self, prompts: Sequence[str], key: Any, *, copies: int = 1) -> list[str]:
        """The texts of all responses, in the order of their numbers."""
        return texts_of(self.batches(prompts, key, copies=copies), copies, prompts)

    def batches(
        self, prompts: Sequence[str], key: Any, *, copies: int = 1, skip: int = 0
    ) -> Iterator[Written]:
        """Responses in batches; prompts of like length come together.

        Args:
          prompts: N texts, or messages where the policy's form holds them.
          key: typed key.
          copies: K, responses to each prompt; its tokens are read once for all.
          skip: batches that were made before.

        Raises:
          InputError: a prompt without a token, or no room for a response.
        """
        rows = prompt_rows(prompts, self.policy.form)
        order = np.argsort([len(row) for row in rows], kind="stable")
        count = self._prompts_at_once(copies)
        for start in range(skip * count, len(order), count):
            some = order[start : start + count]
            width = min(bucket(len(rows[some[-1]])), self.most_prompt)
            yield self._batch([rows[i] for i in some], some, width, copies, key)

    def resumed(
        self,
        path: pathlib.Path,
        identity: str,
        prompts: Sequence[str],
        key: Any,
        *,
        copies: int = 1,
    ) -> list[str]:
        """`write`, kept in a file batch by batch: a killed run loses one batch.

        Args:
          path: of the file; its lines are batches. It stays; delete it when the texts
            are safe elsewhere.
          identity: of the policy and the settings; another one starts anew.
          prompts: N texts.
          key: typed key.
          copies: responses to each prompt.
        """
        identity = f"{identity} by {self._prompts_at_once(copies)}"
        kept = _kept(path, identity)
        texts = {row: text for line in kept for row, text in line.items()}
        file = LineFile(path) if is_first_process() else None
        if file is not None and file.last_step is None:
            file.append(0, {"identity": identity})
        batches = self.batches(prompts, key, copies=copies, skip=len(kept))
        for number, batch in enumerate(batches, len(kept) + 1):
            rows = batch.rows.tolist()
            texts |= dict(zip(rows, batch.texts, strict=True))
            if file is not None:
                file.append(number, {"rows": rows, "texts": batch.texts})
        if file is not None:
            file.close()
        return [texts[row] for row in range(len(prompts) * copies)]

    @property
    def most_prompt(self) -> int:
        """Tokens of the longest prompt that is read whole.

        Raises:
          InputError: the budget fills the context.
        """
        context = self.model.config.context_length
        room = context - self.max_response
        if room < 1:
            raise InputError(
                f"max_response: {self.max_response} tokens leave no room for a prompt "
                f"in a context of {context}"
            )
        return min(self.max_prompt or room, room)

    def count_too_long(self, prompts: Sequence[str]) -> int:
        """How many prompts lose their beginning."""
        rows = prompt_rows(prompts, self.policy.form)
        return sum(len(row) > self.most_prompt for row in rows)

    def _prompts_at_once(self, copies: int) -> int:
        count = max(1, self.batch_size // copies)
        count = 8 * count if self._engine == "continuous" else count
        return whole_rows(count, self.where)

    @property
    def _engine(self) -> str:
        if self.engine != "auto":
            return self.engine
        return "continuous" if self.max_response >= _LONG else "static"

    def _batch(
        self,
        prompts: list[list[int]],
        numbers: np.ndarray,
        width: int,
        copies: int,
        key: Any,
    ) -> Written:
        count = self._prompts_at_once(copies)
        missing = count - len(prompts)
        filled = prompts + prompts[:1] * missing
        batch = padded_prompts(filled, self.policy.tokenizer.pad_token, width)
        places = np.concatenate([numbers, np.full(missing, numbers[0])])
        batch["row"] = (places[:, None] * copies + np.arange(copies)[None]).reshape(-1)
        samples = sample_batch(
            self.model,
            self.params,
            batch,
            key,
            self.spec,
            copies=copies,
            mesh=self.where,
            engine=self._engine,
            slots=max(copies, self.batch_size) if self._engine != "static" else None,
        )
        real = len(prompts) * copies
        tokens, mask, finished = to_host(
            [samples[name] for name in ("tokens", "mask", "finished")]
        )
        ends = self.spec.end_tokens
        read = decoded(
            self.policy.tokenizer, {"tokens": tokens[:real], "mask": mask[:real]}, ends
        )
        return Written(batch["row"][:real], read, finished[:real], samples)


def texts_of(
    batches: Iterator[Written], copies: int, prompts: Sequence[str]
) -> list[str]:
    """The texts of batches, in the order of their numbers."""
    texts = [""] * (len(prompts) * copies)
    for batch in batches:
        for row, text in zip(batch.rows, batch.texts, strict=True):
            texts[row] = text
    return texts


def _kept(path: pathlib.Path, identity: str) -> list[dict[int, str]]:
    """row -> text of each batch in the file; nothing, and no file, of another run."""
    import json

    if not path.exists():
        return []
    if is_first_process():
        LineFile(path).close()  # cuts a torn end
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    if lines and lines[0].get("identity") == identity:
        return [
            dict(zip(line["rows"], line["texts"], strict=True)) for line in lines[1:]
        ]
    if is_first_process():
        path.unlink()
    return []


def bucket(length: int) -> int:
    """Padded length of prompts: multiples of 32 up to 128, then four a doubling.

    >>> [bucket(n) for n in (1, 33, 128, 129, 300)]
    [32, 64, 128, 160, 320]
    """
    step = 32
    while 4 * step < length:
        step *= 2
    return -(-length // step) * step


def sampling_spec(
    model: LoadedModel,
    max_response: int,
    temperature: float = 1.0,
    end_tokens: Sequence[int] = (),
) -> SamplingSpec:
    """The `SamplingSpec` with the pad token and, unless given, the form's ends."""
    return SamplingSpec(
        max_new_tokens=max_response,
        temperature=temperature,
        end_tokens=tuple(end_tokens) or tuple(model.form.end_tokens),
        pad_token=model.tokenizer.pad_token,
    )


def sample_batch(
    model: Any,
    params: Any,
    batch: dict,
    key: Any,
    spec: SamplingSpec,
    *,
    copies: int = 1,
    mesh: Mesh | None = None,
    **engine: Any,
) -> dict[str, Array]:
    """Responses to a batch of prompts.

    Args:
      model: `LanguageModel`.
      params: its params; on a mesh of several devices as `layout_for_rollout` has them.
      batch: `prompts [B,P]` left padded, `valid [B,P]`; `row [B·K]` names the rows'
        randomness where present, else their place does.
      key: typed key.
      spec: how to sample.
      copies: K, responses to each prompt, which is read once.
      mesh: where; None: one device.
      **engine: of `generate`: engine, slots, refill.

    Returns:
      `prompts [B·K,P]`, `valid`, `tokens [B·K,R]`, `mask [B·K,R]`, `finished [B·K]`,
      `sampler_logprobs [B·K,R]`.
    """
    prompts, valid = jnp.asarray(batch["prompts"]), jnp.asarray(batch["valid"])
    row_ids = jnp.asarray(batch.get("row", np.arange(prompts.shape[0] * copies)))
    samples = generate(
        model,
        params,
        prompts,
        valid,
        row_ids,
        key,
        spec,
        samples_per_prompt=copies,
        mesh=mesh if mesh is not None and mesh.size > 1 else None,
        **engine,
    )
    if copies > 1:
        prompts, valid = (jnp.repeat(a, copies, axis=0) for a in (prompts, valid))
    return {
        "prompts": prompts,
        "valid": valid,
        "tokens": samples.tokens,
        "mask": samples.mask,
        "finished": samples.finished,
        "sampler_logprobs": samples.logprobs,
    }


def decoded(tokenizer: Any, samples: dict, end_tokens: Sequence[int]) -> list[str]:
    """The text of each response, without its end token."""
    tokens, mask = np.asarray(samples["tokens"]), np.asarray(samples["mask"])
    ends = set(end_tokens)
    return [
        tokenizer.decode([int(t) for t in row[kept] if int(t) not in ends])
        for row, kept in zip(tokens, mask, strict=True)
    ]
