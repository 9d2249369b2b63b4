#!/usr/bin/env bash
# The conformance peer beside this repository against a binary, in every generation: scripts/conformance.sh PEER BINARY [PYTHON].
#
# Its limits are those of the protocol, and some are as short as what it waits for: on a machine that is busy with all its cells at once a case may
# be late through no fault of the binary. So the few that fail are played a second time, each by itself. Both outcomes are shown, and the second counts.
set -euo pipefail
peer=$1 binary=$2 python=${3:-python3}
few=5
play() { "$python" "$peer/run" --nodepass "$binary" --wire 1.6,1.8,1.10,1.12,1.13,1.14,2.0 "$@"; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if play | tee "$log"; then exit 0; fi
mapfile -t failed < <(sed -n 's/^FAIL \([^ :]*\): .*/\1/p' "$log")
if [ "${#failed[@]}" -eq 0 ] || [ "${#failed[@]}" -gt "$few" ]; then exit 1; fi
status=0
for name in "${failed[@]}"; do
    printf '\n%s, by itself:\n' "$name"
    play -k "$name" || status=1
done
exit "$status"
