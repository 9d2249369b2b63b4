#!/bin/sh
# Runs static binaries of cross/build.sh through real tunnels (tests/cross.rs), foreign ones under qemu's user-mode emulator:
#
#   scripts/cross-test.sh armv7 armv7-lite mipsel-lite
#
# Each argument is what stands behind `nodepass-` in a binary's name. Emulators: Debian's qemu-user-static.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${CROSS_OUT:-$root/target/cross}
cd "$root"

fail() {
    echo "cross-test: $1" >&2
    exit 1
}

[ $# -gt 0 ] || fail "which binary? As in $out/nodepass-NAME"
for binary; do
    target=${binary%-lite}
    qemu=$(awk -v name="$target" '$1 == name { print $NF }' cross/targets)
    [ -n "$qemu" ] || fail "no target $target in cross/targets"
    NODEPASS=$out/nodepass-$binary
    [ -x "$NODEPASS" ] || fail "$NODEPASS is not there: cross/build.sh $target"
    # What this processor runs itself needs no emulator.
    if [ "$qemu" != "qemu-$(uname -m)-static" ]; then
        command -v "$qemu" >/dev/null || fail "$qemu is needed (Debian: qemu-user-static)"
        NODEPASS="$qemu $NODEPASS"
    fi
    export NODEPASS
    echo "cross-test: $NODEPASS"
    cargo test --quiet --test cross
done
