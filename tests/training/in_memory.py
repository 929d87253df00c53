"""A checkpoint store and a tracker in memory; both note the order of events."""

import copy

import jax
import numpy as np


class MemoryStore:
    def __init__(self, events=None):
        self.saved, self.events = {}, [] if events is None else events

    def save(self, step, state, meta, *, force=False):
        def host(leaf):
            if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            return np.array(jax.device_get(leaf))

        self.saved[step] = (jax.tree.map(host, state), copy.deepcopy(meta))
        self.events.append(("save", step))

    def restore(self, template, *, step=None):
        state, meta = self.saved[self.latest_step() if step is None else step]

        def device(leaf, like):
            if jax.numpy.issubdtype(like.dtype, jax.dtypes.prng_key):
                leaf = jax.random.wrap_key_data(leaf)
            return jax.device_put(leaf, like.sharding)

        return jax.tree.map(device, state, template), meta

    def tidy(self):
        pass

    def latest_step(self):
        return max(self.saved, default=None)

    def wait(self):
        self.events.append(("wait",))


class MemoryTracker:
    def __init__(self, events=None):
        self.lines, self.events = [], [] if events is None else events

    def log(self, step, metrics):
        self.lines.append((step, metrics))
        self.events.append(("log", step))

    def rewind(self, step):
        self.lines = [line for line in self.lines if line[0] <= step]

    @property
    def steps(self):
        return [step for step, _ in self.lines]
