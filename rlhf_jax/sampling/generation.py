"""`generate`: prompts in, responses out, on one device or many."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from rlhf_jax.errors import InputError
from rlhf_jax.models import LanguageModel
from rlhf_jax.sampling.continuous import generate_continuous
from rlhf_jax.sampling.decoder import Decoder, decoding_params
from rlhf_jax.sampling.layout import row_axes
from rlhf_jax.sampling.prompts import check_prompts
from rlhf_jax.sampling.samples import Samples
from rlhf_jax.sampling.spec import SamplingSpec
from rlhf_jax.sampling.static import generate_static

ENGINES = ("static", "continuous")


@dataclasses.dataclass(frozen=True)
class _Plan:
    """All that is static about a rollout besides its shapes."""

    model: LanguageModel
    spec: SamplingSpec
    engine: str
    copies: int
    slots: int | None  # per replica
    refill: int | None
    mesh: Mesh | None
    unrolled: bool | None


def generate(
    model: LanguageModel,
    params: dict,
    prompts: Int[Array, "B P"],
    valid: Bool[Array, "B P"],
    row_ids: Int[Array, "BK"],
    key: PRNGKeyArray,
    spec: SamplingSpec,
    *,
    engine: str = "static",
    limits: Int[Array, "BK"] | None = None,
    samples_per_prompt: int = 1,
    slots: int | None = None,
    refill: int | None = None,
    mesh: Mesh | None = None,
    unrolled: bool | None = None,
) -> Samples:
    """Draws responses y ~ Π_t softmax(z_t / τ) to prompts, in one jitted program.

    Token t of a row is drawn with the key fold_in(fold_in(key, row_id), t) and is read
    back at its own position. So a response is a function of (params, its prompt,
    spec, key, row_id): not of batch mates, padding, engine, slots or device count.
    (Logits of other batch shapes may differ in their last bits, which moves a draw now
    and then: `benchmarks/batch_shapes.py` says how often, docs/log.md what it said.)

    Args:
      model: a language model; its config says compute dtype and context length.
      params: its parameters. Sharded for training? `layout_for_rollout` them first.
      prompts: token ids; B may be 0.
      valid: true at real tokens: left padded, right padded or with holes.
      row_ids: the names of the B·K responses, prompt by prompt; equal names (and
        prompts) give equal responses.
      key: typed key of this rollout.
      spec: budget R, temperature, end tokens, filters.
      engine: "static" (rows start together) or "continuous" (a row that ends gives
        its slot to the next prompt): same tokens; the latter is faster if lengths
        differ and B·K is larger than `slots`.
      limits: tokens each row may write, at most R; None: R. A row of limit 0 is a
        filler: its prompt may be empty.
      samples_per_prompt: K; a prompt is prefilled once for its K responses.
      slots: continuous: rows decoded at a time per replica; default min(B·K, 32),
        at least K.
      refill: continuous: prompts prefilled at a time per replica; default a quarter
        of the slots.
      mesh: rows are split over its axes other than `tensor`; each replica runs its
        own loop and ends on its own, without a collective per token but those of
        tensor-parallel layers. None: as the arrays lie.
      unrolled: give each layer its own code in the loop (faster to decode, slower to
        compile); None: by depth, see `decoding_params`.

    Returns:
      Samples with B·K rows and R columns.

    Raises:
      InputError: a prompt without a token, or one that leaves no room in the context
        (unless its limits are 0); arrays or settings that do not fit together.
        A response that meets the end of the context stops there, unfinished.
    """
    plan = _Plan(model, spec, engine, samples_per_prompt, slots, refill, mesh, unrolled)
    _check_plan(plan)
    check_prompts(
        prompts,
        valid,
        row_ids,
        limits,
        copies=samples_per_prompt,
        config=model.config,
    )
    rows = prompts.shape[0] * samples_per_prompt
    if rows == 0 or spec.max_new_tokens == 0:
        return _no_tokens(rows, spec)
    if limits is None:
        limits = np.full(rows, spec.max_new_tokens, np.int32)
    arrays = (prompts, valid, row_ids, limits)
    arrays = _filled(arrays, samples_per_prompt, _replicas(mesh))
    samples = _program(plan)(params, *arrays, key)
    return samples if len(samples.lengths) == rows else _first_rows(samples, rows)


def rollout_program(
    model: LanguageModel,
    spec: SamplingSpec,
    *,
    engine: str = "static",
    samples_per_prompt: int = 1,
    slots: int | None = None,
    refill: int | None = None,
    mesh: Mesh | None = None,
    unrolled: bool | None = None,
):
    """The jitted function behind `generate`, to be lowered, inspected or inlined.

    Returns:
      (params, prompts, valid, row_ids, limits, key) -> Samples. The number of prompts
      must be a multiple of the replicas of `mesh`.
    """
    plan = _Plan(model, spec, engine, samples_per_prompt, slots, refill, mesh, unrolled)
    _check_plan(plan)
    return _program(plan)


@functools.cache
def _program(plan: _Plan):
    """Kept per plan; jit keeps one compiled program per shape."""

    def rollout(params, prompts, valid, row_ids, limits, key):
        dtype = jnp.dtype(plan.model.config.dtype)
        params = decoding_params(params, dtype, unrolled=plan.unrolled)
        decoder = Decoder(plan.model, params, plan.spec)
        rows = (prompts, valid, row_ids, key, limits, plan.copies)
        if plan.engine == "static":
            return generate_static(decoder, *rows)
        slots, refill = _slots(plan, row_ids.shape[0])
        return generate_continuous(decoder, *rows, slots=slots, refill=refill)

    if plan.mesh is None:
        return jax.jit(rollout)
    axes = row_axes(plan.mesh)
    split, whole = PartitionSpec(axes), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            rollout,
            mesh=plan.mesh,
            in_specs=(whole, split, split, split, split, whole),
            out_specs=split,
            axis_names=frozenset(axes),
            check_vma=False,  # each replica leaves its loop on its own
        )
    )


def _check_plan(plan: _Plan):
    if plan.engine not in ENGINES:
        raise InputError(f"sampling: engine {plan.engine!r}, expected one of {ENGINES}")
    for name in ("copies", "slots", "refill"):
        value = getattr(plan, name)
        if value is not None and value < 1:
            shown = "samples_per_prompt" if name == "copies" else name
            raise InputError(f"sampling: {shown} is {value}, expected >= 1")
    if plan.slots is not None and plan.slots < plan.copies * (plan.refill or 1):
        raise InputError(
            f"sampling: slots is {plan.slots}, expected at least samples_per_prompt "
            f"({plan.copies}) x refill ({plan.refill or 1}): the responses of a prompt "
            "start together"
        )
    size = plan.model.config.vocab_size
    alien = [t for t in plan.spec.end_tokens if t >= size]
    if alien:
        raise InputError(
            f"sampling: end_tokens {alien} are outside the vocabulary of {size}"
        )


def _slots(plan: _Plan, rows: int) -> tuple[int, int]:
    """Slots and prompts per refill of one replica."""
    prompts = rows // plan.copies
    slots = plan.slots or max(min(rows, 32), plan.copies * (plan.refill or 1))
    refill = plan.refill or max(1, slots // (4 * plan.copies))
    return slots, min(refill, prompts)


def _replicas(mesh: Mesh | None) -> int:
    return 1 if mesh is None else mesh.size // mesh.shape.get("tensor", 1)


def _filled(arrays, copies: int, replicas: int):
    """Adds filler prompts (no token, limit 0) until the replicas get equal shares."""
    missing = -arrays[0].shape[0] % replicas
    if not missing:
        return arrays
    prompts, valid, row_ids, limits = arrays
    more = [(0, missing), (0, 0)]
    return [
        jnp.pad(prompts, more),
        jnp.pad(valid, more),
        jnp.pad(row_ids, [(0, missing * copies)]),
        jnp.pad(limits, [(0, missing * copies)]),
    ]


def _first_rows(samples: Samples, rows: int) -> Samples:
    return jax.tree.map(lambda leaf: leaf[:rows], samples)


def _no_tokens(rows: int, spec: SamplingSpec) -> Samples:
    shape = (rows, spec.max_new_tokens)
    return Samples(
        tokens=jnp.full(shape, spec.pad_token, jnp.int32),
        mask=jnp.zeros(shape, bool),
        logprobs=jnp.zeros(shape, jnp.float32),
        finished=jnp.zeros(rows, bool),
        lengths=jnp.zeros(rows, jnp.int32),
    )
