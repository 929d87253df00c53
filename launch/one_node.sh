#!/usr/bin/env bash
# A run on one node of GPUs: one process drives them all; started again until done.
#
#   launch/one_node.sh experiments/x.py [--workdir DIR] [--config.STAGE.FIELD=VALUE ...]
#
# GPUS      how many there must be (8)
# MESH      data,fsdp,tensor ("1,-1,1": parameters cut over all of them)
set -euo pipefail

if (($# == 0)); then
  echo "usage: $0 EXPERIMENT [WORD ...]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-8} mesh=${MESH:-1,-1,1}
found=$(nvidia-smi --list-gpus | wc -l)
if ((found != gpus)); then
  echo "one_node: $found GPUs are here, $gpus were asked for; set GPUS=$found" >&2
  exit 2
fi
# the same bits each time, so that a run that is cut continues with them
export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
exec "$here/until_done.sh" rlhf-jax run "$@" "--config.settings.mesh=$mesh"
