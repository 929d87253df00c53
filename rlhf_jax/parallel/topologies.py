"""TPUs that are not here: devices to compile programs for, ahead of time.

Needs libtpu from the package index (the extra `tpu`), and no TPU.
"""

import os
import re
from typing import Any

from rlhf_jax.errors import InputError

# name -> (libtpu's name, chip config, chips per host)
_KINDS = {
    "v4": ("v4", "megacore", (2, 2, 1)),
    "v5e": ("v5e", "default", (2, 2, 1)),
    "v5p": ("v5", "megacore", (2, 2, 1)),
    "v6e": ("v6e", "default", (2, 2, 1)),
}


def topology_devices(name: str, slices: int = 1) -> list[Any]:
    """The devices of TPU slices, for `make_mesh(devices=...)`.

    What is compiled for them can be read (memory, FLOPs, collectives), not run.

    Args:
      name: generation and shape of a slice in chips: "v5e:4x4", "v5p:2x2x2".
      slices: how many of them.

    Raises:
      InputError: an unknown generation or shape, or libtpu is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind not in _KINDS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise InputError(
            f"topology {name!r}: expected a generation of {', '.join(_KINDS)} and a "
            "shape in chips, as 'v5e:4x4'"
        )
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise InputError(
            f"topology {name!r}: needs libtpu, pip install 'rlhf_jax[tpu]'"
        ) from None
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no metadata server is asked
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # none of them has a TPU
    own, chip, per_host = _KINDS[kind]
    if set(shape.split("x")) == {"1"}:
        per_host = (1, 1, 1)
    options = {} if slices == 1 else {"num_slices": slices}
    try:
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{own}:{shape}",
            chip_config_name=chip,
            chips_per_host_bounds=per_host,
            **options,
        )
    except Exception as error:  # of libtpu, of no class of its own
        raise InputError(f"topology {name!r}: {error}") from error
    return list(described.devices)
