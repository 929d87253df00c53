#!/usr/bin/env bash
# Runs a command again until it has ended for good.
#
#   launch/until_done.sh rlhf-jax run experiments/x.py --workdir /shared/x
#
# 0 is done; 2 (bad config or data), 3 (numerics) and 4 (no usable checkpoint) wait for
# a person. All else starts again, from the last checkpoint: preempted (143), a lost
# peer (134), out of memory (137), a hang (1). A signal to this script goes to the
# command, which saves its state, and ends both.
#
# RESTARTS  most restarts (100)
# PAUSE     seconds before a restart (10)
# EXIT_FILE where the last exit code is written, for whoever watches from elsewhere
set -uo pipefail

if (($# == 0)); then
  echo "usage: $0 COMMAND [WORD ...]" >&2
  exit 2
fi
restarts=${RESTARTS:-100} pause=${PAUSE:-10}
child='' stopping=''

stop() {
  stopping=1
  [[ -n $child ]] && kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT HUP

run_once() { # its exit code, also where a signal ends the waiting
  local code
  "$@" &
  child=$!
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    code=$?
  done
  child=''
  return "$code"
}

ended() {
  if [[ -n ${EXIT_FILE:-} ]]; then echo "$1" >"$EXIT_FILE"; fi
  echo "until_done: ended with $1" >&2
  exit "$1"
}

for ((attempt = 0; ; attempt++)); do
  run_once "$@"
  code=$?
  case $code in
  0 | 2 | 3 | 4) ended "$code" ;;
  esac
  [[ -n $stopping ]] && ended "$code"
  if ((attempt >= restarts)); then
    echo "until_done: $restarts restarts are enough" >&2
    ended "$code"
  fi
  echo "until_done: ended with $code; restart $((attempt + 1)) in $pause s" >&2
  sleep "$pause"
done
