#!/bin/sh
# Runs servers, clients and a master for so many hours, with users of each kind and faults of each kind, and checks what is left:
#
#   scripts/soak.sh HOURS [SEED]        0.17 is ten minutes; the same seed chooses the same faults
#
# NODEPASS names the binary; unset, it is built. Root fills a disk as well. SOAK_LOG=1 shows what the processes say.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${NODEPASS:-}" ]; then
    cargo build --release --bin nodepass
    NODEPASS=$PWD/target/release/nodepass
fi
export NODEPASS
cargo build --release --quiet --manifest-path tests/soak/Cargo.toml --target-dir target/soak
exec target/soak/release/nodepass-soak "$@"
