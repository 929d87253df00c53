#!/usr/bin/env bash
# A run on TPU VM slices through queued resources: asked for, set up, run on all
# workers, asked for again when they are taken away, given back when the run is done.
#
#   launch/tpu_vm.sh NAME EXPERIMENT [--config.STAGE.FIELD=VALUE ...]
#
# ZONE      such as us-west4-a (needed)
# TYPE      accelerator type, such as v5litepod-16 (needed)
# RUNTIME   its software, such as v2-alpha-tpuv5-lite (needed)
# SHARED    an NFS export HOST:/PATH that all workers mount at /shared, where the run's
#           directory is (needed: all workers must see one directory)
# SLICES    how many slices (1)
# SPOT      1: spot capacity
# KEEP      1: keep the TPUs when the run has ended
# PAUSE     seconds between looks (60)
set -euo pipefail

if (($# < 2)); then
  echo "usage: ZONE=... TYPE=... RUNTIME=... SHARED=... $0 NAME EXPERIMENT [WORD ...]" >&2
  exit 2
fi
for needed in ZONE TYPE RUNTIME SHARED; do
  if [[ -z ${!needed:-} ]]; then
    echo "tpu_vm: set $needed (see the head of $0)" >&2
    exit 2
  fi
done
name=$1 experiment=$2
shift 2
slices=${SLICES:-1} pause=${PAUSE:-60}
where=(--zone "$ZONE")
exit_file=/shared/runs/$name.exit

state() { # of the queued resource; NONE where there is none
  gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
    --format='value(state.state)' 2>/dev/null || echo NONE
}

request() {
  local options=(--accelerator-type "$TYPE" --runtime-version "$RUNTIME")
  if ((slices > 1)); then
    options+=(--node-count "$slices" --node-prefix "$name")
  else
    options+=(--node-id "$name")
  fi
  [[ ${SPOT:-} == 1 ]] && options+=(--spot)
  gcloud compute tpus queued-resources create "$name" "${where[@]}" "${options[@]}"
}

give_back() {
  gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

until_active() {
  while :; do
    case $(state) in
    ACTIVE) return ;;
    NONE) request ;;
    FAILED | SUSPENDED) give_back ;; # taken away: ask anew
    esac
    sleep "$pause"
  done
}

nodes() {
  if ((slices == 1)); then
    echo "$name"
  else
    for ((i = 0; i < slices; i++)); do echo "$name-$i"; done
  fi
}

everywhere() { # a command on all workers of all slices at once
  local node jobs=() failed=0 job
  for node in $(nodes); do
    gcloud compute tpus tpu-vm ssh "$node" "${where[@]}" --worker=all --command "$1" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  return "$failed"
}

set_up() {
  local node
  for node in $(nodes); do
    gcloud compute tpus tpu-vm scp --recurse . "$node:rlhf_jax" "${where[@]}" --worker=all
  done
  everywhere "set -e
    sudo mkdir -p /shared
    mountpoint -q /shared || sudo mount -t nfs $SHARED /shared
    sudo mkdir -p /shared/runs && sudo chmod 1777 /shared/runs
    cd rlhf_jax && python3 -m venv .tpu && .tpu/bin/pip install -q -e '.[tpu]'"
}

words=$(printf ' %q' "$experiment" "$@")
run="cd rlhf_jax && PATH=\$PWD/.tpu/bin:\$PATH
  EXIT_FILE=$exit_file launch/until_done.sh rlhf-jax run$words --workdir /shared/runs/$name"

while :; do
  until_active
  # a slice that was taken away in between is asked for again
  if set_up && everywhere "rm -f $exit_file" && everywhere "$run"; then code=0; else
    code=$(gcloud compute tpus tpu-vm ssh "$(nodes | head -n 1)" "${where[@]}" \
      --worker=0 --command "cat $exit_file" 2>/dev/null) || code=''
  fi
  case $code in
  0 | 2 | 3 | 4)
    echo "tpu_vm: the run ended with $code" >&2
    [[ ${KEEP:-} == 1 ]] || give_back
    exit "$code"
    ;;
  esac
  echo "tpu_vm: the workers were lost (${code:-no exit code}); again in $pause s" >&2
  sleep "$pause"
done
