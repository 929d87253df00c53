"""What a stage asks of an engine, so that another one can be plugged in."""

import dataclasses
from typing import Protocol

from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from rlhf_jax.models import LanguageModel
from rlhf_jax.sampling.generation import generate
from rlhf_jax.sampling.layout import layout_for_rollout
from rlhf_jax.sampling.samples import Samples
from rlhf_jax.sampling.spec import SamplingSpec

__all__ = ["JaxRollout", "Rollout"]


class Rollout(Protocol):
    """An engine that writes responses: this project's, or a server's behind it.

    `prepare` is called once per weight update and gives what the engine wants to be
    called with (a layout, a handle, a version); the call itself gives `Samples` as
    `generate` does. An engine that cannot promise the key of each token says so in
    its own docstring: stages need only that rows are independent draws, since they
    score every response again with the training forward.
    """

    def prepare(self, params: dict) -> object:
        """New weights, as the engine keeps them."""

    def __call__(
        self,
        prepared: object,
        prompts: Int[Array, "B P"],
        valid: Bool[Array, "B P"],
        row_ids: Int[Array, "BK"],
        key: PRNGKeyArray,
        spec: SamplingSpec,
        *,
        limits: Int[Array, "BK"] | None = None,
        samples_per_prompt: int = 1,
    ) -> Samples:
        """Responses to prompts, as `generate` gives them."""


@dataclasses.dataclass(frozen=True)
class JaxRollout:
    """The engine of this project: `generate` on a mesh or on one device.

    Attributes:
      model: the policy.
      mesh: rows are split over its axes other than `tensor`; None: one device.
      engine: "static" or "continuous".
      slots: of the continuous engine, per replica.
      refill: of the continuous engine, prompts at a time per replica.
      unrolled: as for `generate`; None: by depth.
    """

    model: LanguageModel
    mesh: Mesh | None = None
    engine: str = "static"
    slots: int | None = None
    refill: int | None = None
    unrolled: bool | None = None

    def prepare(self, params: dict) -> dict:
        """The parameters laid out once for the rollout, in the compute dtype."""
        if self.mesh is None:
            return params
        return layout_for_rollout(params, self.mesh, self.model.config.dtype)

    def __call__(self, prepared, prompts, valid, row_ids, key, spec, **options):
        """`generate` with this engine; options: limits, samples_per_prompt."""
        return generate(
            self.model,
            prepared,
            prompts,
            valid,
            row_ids,
            key,
            spec,
            engine=self.engine,
            slots=self.slots,
            refill=self.refill,
            mesh=self.mesh,
            unrolled=self.unrolled,
            **options,
        )
