#!/bin/sh
# Each fuzz target for a minute, or for so many seconds: scripts/fuzz.sh [SECONDS]. Needs cargo-fuzz (cargo install cargo-fuzz).
# A nightly toolchain is used where there is one; else the stable one, which is told to allow what a sanitizer needs.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}

if cargo +nightly --version >/dev/null 2>&1; then
    fuzz="cargo +nightly fuzz"
else
    export RUSTC_BOOTSTRAP=1
    fuzz="cargo fuzz"
fi
for target in tests/fuzz/fuzz_targets/*.rs; do
    $fuzz run --fuzz-dir tests/fuzz "$(basename "$target" .rs)" -- -max_total_time="$seconds"
done
