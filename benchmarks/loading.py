"""Host memory of reading a model onto a mesh of 8 virtual devices.

    python benchmarks/loading.py [--size 1.3B] [--light] [--one-device]

Writes a model of that size in transformers' layout (bfloat16, in shards) to a temporary
folder, reads it, and prints one JSON line: GiB of the parameters, the peak of the
process's own memory beyond what it had before (looked at every 10 ms; pages of the
files, which the kernel takes back when it likes, are not its own), and the most that
one device holds. On a CPU the devices' memory is the host's, so that the difference of
the first two is what reading costs.
"""

import argparse
import json
import os
import pathlib
import re
import tempfile
import threading
import time
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import ml_dtypes
import numpy as np

from rlhf_jax.models import gpt3_config, load_pretrained
from rlhf_jax.models.export import hf_config
from rlhf_jax.models.weights import save_weights
from rlhf_jax.parallel import make_mesh, shardings

GIB = 2**30


def own_memory() -> int:
    """Bytes of the process's own memory."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


class Peak(threading.Thread):
    """Looks at the process's own memory until it is told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.most = own_memory()
        self.ended = threading.Event()

    def run(self) -> None:
        """Looks."""
        while not self.ended.wait(0.01):
            self.most = max(self.most, own_memory())

    def end(self) -> int:
        """Bytes at most, beyond those at the start."""
        self.ended.set()
        self.join()
        return max(self.most, own_memory()) - self.before


def tensors(config) -> Iterator[tuple[str, np.ndarray]]:
    """GPT-2's tensors for a config, one after the other, of repeated noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, 2**20).astype(ml_dtypes.bfloat16)
    width, layers = config.embed_dim, config.num_layers
    norm = [("weight", (width,)), ("bias", (width,))]
    block = [(f"ln_{n}.{name}", shape) for n in (1, 2) for name, shape in norm]
    for name, outs, ins in (
        ("attn.c_attn", 3 * width, width),
        ("attn.c_proj", width, width),
        ("mlp.c_fc", 4 * width, width),
        ("mlp.c_proj", width, 4 * width),
    ):
        block += [(f"{name}.weight", (ins, outs)), (f"{name}.bias", (outs,))]
    wanted = [
        ("wte.weight", (config.vocab_size, width)),
        ("wpe.weight", (config.context_length, width)),
        *((f"h.{i}.{name}", shape) for i in range(layers) for name, shape in block),
        *((f"ln_f.{name}", shape) for name, shape in norm),
    ]
    for name, shape in wanted:
        yield f"transformer.{name}", np.resize(noise, shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1.3B")
    parser.add_argument("--light", action="store_true", help="keep it in bfloat16")
    parser.add_argument("--one-device", action="store_true", help="not cut")
    args = parser.parse_args()
    config = gpt3_config(args.size, dtype="bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = hf_config(config, "gpt2", "lm")
        (folder / "config.json").write_text(json.dumps(text))
        if os.fork() == 0:  # so that writing does not count
            save_weights(folder, tensors(config), 500 * 2**20)
            os._exit(0)
        assert os.wait()[1] == 0
        mesh = make_mesh(1, 8, 1)
        places = None if args.one_device else lambda tree: shardings(tree, mesh)
        peak, start = Peak(), time.perf_counter()
        peak.start()
        found = load_pretrained(
            folder, compute="bfloat16", light=args.light, shardings=places
        )
        jax.block_until_ready(found.params)
        seconds, most = time.perf_counter() - start, peak.end()
    leaves = jax.tree.leaves(found.params)
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in leaves:
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    print(
        json.dumps(
            {
                "size": args.size,
                "light": args.light,
                "params_gib": round(sum(leaf.nbytes for leaf in leaves) / GIB, 2),
                "peak_gib": round(most / GIB, 2),
                "fullest_device_gib": round(max(held.values()) / GIB, 2),
                "seconds": round(seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
