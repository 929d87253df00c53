"""Start-up of many processes: once, first thing, before any other use of jax."""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec

import jax

from rlhf_jax.errors import InputError

logger = logging.getLogger("rlhf_jax.parallel")

# jax waits 100 s for a dead process and 300 s for a clean end; a restart is cheaper
HEARTBEAT_SECONDS = 30
SHUTDOWN_SECONDS = 30


def detect_cluster(environ: Mapping[str, str] | None = None) -> str | None:
    """The launcher that started several processes like this one, or None.

    An allocation with one process (a notebook inside a SLURM job, a single-host TPU
    VM) is no cluster.

    Returns:
      "explicit" (JAX_COORDINATOR_ADDRESS is set), "slurm", "openmpi", "tpu" (GKE or
      a GCE pod slice; several slices too), "kubernetes" (an indexed Job), or None.
    """
    env = os.environ if environ is None else environ
    if env.get("JAX_COORDINATOR_ADDRESS"):
        return "explicit"
    if _count(env, "OMPI_COMM_WORLD_SIZE") > 1:
        return "openmpi"
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if _count(env, "SLURM_NTASKS") > 1 and all(name in env for name in slurm):
        return "slurm"
    hosts = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES", "")
    if hosts.count(",") or env.get("MEGASCALE_COORDINATOR_ADDRESS"):
        return "tpu"
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env:
        return "kubernetes"
    return None


def start_distributed(
    mode: str = "auto",
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    local_devices: list[int] | None = None,
) -> bool:
    """Starts `jax.distributed` where there is something to start.

    What is not given is read from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, and else from the launcher by jax itself. A process that dies ends
    the others within `HEARTBEAT_SECONDS`; start all again and they resume.

    A Kubernetes job whose pods cannot ask for each other (no coordinator is given, no
    client library is installed) runs alone, and says so.

    Args:
      mode: "auto" starts when a coordinator is given or a cluster is detected; "on"
        starts or fails; "off" never starts.
      coordinator: `host:port` of process 0.
      num_processes: number of processes.
      process_id: number of this process, from 0.
      local_devices: the device ids of this process, when several share a host.

    Returns:
      Whether it was started.

    Raises:
      InputError: an unknown mode, or "on" and nothing says where the others are.
    """
    if mode not in ("auto", "on", "off"):
        raise InputError(f"distributed={mode!r}: expected 'auto', 'on' or 'off'")
    found = coordinator or detect_cluster()
    if mode == "off" or (mode == "auto" and not found):
        return False
    if mode == "auto" and found == "kubernetes" and not find_spec("kubernetes"):
        logger.warning(
            "an indexed Kubernetes job that does not say where its other processes "
            "are: this one runs alone. Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES "
            "and JAX_PROCESS_ID, or install jax[k8s]"
        )
        return False
    count, number = num_processes, process_id
    if count is None:
        count = _count(os.environ, "JAX_NUM_PROCESSES") or None
    if number is None and "JAX_PROCESS_ID" in os.environ:
        number = int(os.environ["JAX_PROCESS_ID"])
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            number,
            local_devices,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            f"distributed={mode!r}: {error} Set JAX_COORDINATOR_ADDRESS=host:port, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID, or use distributed='off'."
        ) from error
    return True


def _count(env: Mapping[str, str], name: str) -> int:
    text = env.get(name, "")
    return int(text) if text.isdigit() else 0
