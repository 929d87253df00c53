"""A stage in a process of its own, to be killed: `stage_worker.py KIND CONFIG WORKDIR`.

CONFIG is a JSON file with the config's fields.
"""

import json
import pathlib
import sys

import jax
from tiny_experiment import SETTINGS

from rlhf_jax.parallel import make_mesh
from rlhf_jax.schema import from_config_dict
from rlhf_jax.stages import module_of
from rlhf_jax.training import settings


def on_one_device():
    """Stages take the first device alone, however many the tests pretend to have."""
    settings.make_mesh = lambda **axes: make_mesh(devices=jax.devices()[:1], **axes)


def main(kind, config, workdir):
    on_one_device()
    module = module_of(kind)
    fields = json.loads(pathlib.Path(config).read_text())
    module.run(from_config_dict(module.Config, fields), workdir, SETTINGS)


if __name__ == "__main__":
    main(*sys.argv[1:])
