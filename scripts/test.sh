#!/bin/sh
# All tests; then one line that counts those which this machine cannot run, by what it lacks (docs/testing.md).
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

NODEPASS_SKIPPED=$(mktemp)
export NODEPASS_SKIPPED
trap 'rm -f "$NODEPASS_SKIPPED"' EXIT

# Most tests wait more than they compute: twice as many at a time as there are processors.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
export RUST_TEST_THREADS

status=0
{ "$cargo" test --all-targets && "$cargo" test --doc; } || status=$?

# A line is what is lacking, a tab, and the test. A test that tried it in several places counts once.
LC_ALL=C sort -u "$NODEPASS_SKIPPED" | awk -F '\t' '
    !($2 in tests) { tests[$2]; total++ }
    $1 != last     { order[++kinds] = last = $1 }
    { count[$1]++ }
    END {
        for (at = 1; at <= kinds; at++) list = list (at > 1 ? ", " : ": ") order[at] " (" count[order[at]] ")"
        print total + 0 (total == 1 ? " test" : " tests") " skipped" list
    }'
exit "$status"
