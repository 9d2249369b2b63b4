#!/bin/sh
# Runs static binaries of cross/build.sh through real tunnels and a master (tests/e2e/cross.rs), foreign ones under qemu's user-mode emulator:
#
#   scripts/cross-test.sh armv7 armv7-lite mipsel-lite
#
# Each argument is what stands behind `nodepass-` in a binary's name. Emulators: Debian's qemu-user-static. The kernel is told to start them by
# itself (binfmt_misc), in a namespace of the test's own and with no trace outside: only so can a foreign master start its children.
# Where that is not allowed (it needs Linux 6.7) the emulator is called by name, and the master's test says that it skips.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=${CROSS_OUT:-$root/target/cross}
cd "$root"

fail() {
    echo "cross-test: $1" >&2
    exit 1
}

# kernel_starts EMULATOR COMMAND ...: the command, in a namespace where the kernel starts the emulator for its binaries.
kernel_starts() {
    emulator=${1%-static}
    shift
    # shellcheck disable=SC2016
    unshare --user --map-root-user --mount sh -c '
        mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && cat "$0" >/proc/sys/fs/binfmt_misc/register && exec "$@"
    ' "/usr/lib/binfmt.d/$emulator.conf" "$@"
}

[ $# -gt 0 ] || fail "which binary? As in $out/nodepass-NAME"
for binary; do
    target=${binary%-lite}
    qemu=$(awk -v name="$target" '$1 == name { print $NF }' cross/targets)
    [ -n "$qemu" ] || fail "no target $target in cross/targets"
    NODEPASS=$out/nodepass-$binary
    export NODEPASS
    [ -x "$NODEPASS" ] || fail "$NODEPASS is not there: cross/build.sh $target"
    test="cargo test --quiet --test e2e cross::"
    if "$NODEPASS" version >/dev/null 2>&1; then
        echo "cross-test: $NODEPASS"
        $test
    elif ! command -v "$qemu" >/dev/null; then
        fail "$qemu is needed (Debian: qemu-user-static)"
    elif kernel_starts "$qemu" "$NODEPASS" version >/dev/null 2>&1; then
        echo "cross-test: $NODEPASS, by $qemu"
        kernel_starts "$qemu" $test
    else
        NODEPASS="$qemu $NODEPASS"
        echo "cross-test: $NODEPASS"
        $test
    fi
done
