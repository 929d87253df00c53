"""A matrix with a low-rank change beside it: x W + s (x A) B, W + s A B never made.

Source: Hu et al. 2021 (LoRA), section 4.1; in their letters W₀ + (α/r) B A, transposed.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Key

from rlhf_jax.layouts import columns_product, contracted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRank:
    """What stands in the place of a kernel: `base`, and s · `lora_a` · `lora_b`.

    A pytree whose first leaf is the kernel: stacked over layers, a scan slices all of
    it, and a module that asks for a kernel of its shape is content.

    Attributes:
      base: W, frozen.
      lora_a: A.
      lora_b: B, 0 at first, so that nothing is changed.
      key: of the dropout, one per layer; None: no dropout.
      scale: s.
      dropout: rate on what A reads, where there is a key.
    """

    base: Float[Array, "*L I O"]
    lora_a: Float[Array, "*L I r"]
    lora_b: Float[Array, "*L r O"]
    key: Key[Array, "*L"] | None = None
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})
    dropout: float = dataclasses.field(default=0.0, metadata={"static": True})

    def product(self, inputs: Float[Array, "*R I"], dtype: str) -> Array:
        """x W + s (dropped x A) B; operands and result in `dtype`, the sum in float32.

        Gradients reach all parts, W too; where nobody asks for that, the compiler
        leaves it out.
        """
        side = inputs
        if self.key is not None:
            keep = jax.random.bernoulli(self.key, 1 - self.dropout, inputs.shape)
            side = jnp.where(keep, inputs / (1 - self.dropout), 0).astype(inputs.dtype)
        parts = self.base, self.lora_a, self.lora_b
        return _product(inputs, side, *parts, self.scale, dtype)

    @property
    def merged(self) -> Float[Array, "*L I O"]:
        """W + s A B, summed in float32, in the dtype of W."""
        change = jnp.einsum(
            "...ir,...ro->...io",
            self.lora_a.astype(jnp.float32),
            self.lora_b.astype(jnp.float32),
            precision=jax.lax.Precision.HIGHEST,
        )
        whole = self.base.astype(jnp.float32) + self.scale * change
        return whole.astype(self.base.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _product(inputs, side, base, lora_a, lora_b, scale, dtype):
    return _forward(inputs, side, base, lora_a, lora_b, scale, dtype)[0]


def _forward(inputs, side, base, lora_a, lora_b, scale, dtype):
    x, y = inputs.astype(dtype), side.astype(dtype)
    low = (scale * contracted("...i,ir->...r", y, lora_a.astype(dtype))).astype(dtype)
    low = checkpoint_name(low, "product")
    out = contracted("...i,io->...o", x, base.astype(dtype))
    out = out + contracted("...r,ro->...o", low, lora_b.astype(dtype))
    # the sum is kept for the backward pass, as of a plain product, not its parts
    out = checkpoint_name(out.astype(dtype), "product")
    likes = jnp.zeros((0,), inputs.dtype), jnp.zeros((0,), side.dtype)
    return out, (x, y, low, base, lora_a, lora_b, likes)


def _backward(scale, dtype, saved, dout):
    x, y, low, base, lora_a, lora_b, likes = saved
    dout = dout.astype(dtype)
    dlow = scale * contracted("...o,ro->...r", dout, lora_b.astype(dtype))
    dlow = dlow.astype(dtype)
    dx = contracted("...o,io->...i", dout, base.astype(dtype))
    dy = contracted("...r,ir->...i", dlow, lora_a.astype(dtype))
    return (
        dx.astype(likes[0].dtype),
        dy.astype(likes[1].dtype),
        columns_product(x, dout).astype(base.dtype),
        columns_product(y, dlow).astype(lora_a.dtype),
        columns_product(low, dout).astype(lora_b.dtype),
    )


_product.defvjp(_forward, _backward)
