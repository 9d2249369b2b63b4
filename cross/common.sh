# shellcheck shell=sh
# What the scripts of this folder share: where things are, and one row of the table of targets. Read with `.`, not run:
# what is set here is used there.
# shellcheck disable=SC2034

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
# Tools and what is built once: Rust's library, BoringSSL.
cache=${CROSS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodepass-cross}
# Binaries, their sums and sizes.
out=${CROSS_OUT:-$root/target/cross}
jobs=${CROSS_JOBS:-$(getconf _NPROCESSORS_ONLN)}

say() { printf 'cross: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

# need TOOL PACKAGE: stops where a tool is missing, with the name of Debian's package that has it.
need() { command -v "$1" >/dev/null || fail "$1 is needed (Debian: $2)"; }

# The rows of the table, without its comments.
rows() { grep -v '^#' "$here/targets"; }

names() { rows | awk '{ print $1 }'; }

# pick NAME: sets name, rust, zig, cpu, code, without and qemu from its row.
pick() {
    row=$(rows | awk -v name="$1" '$1 == name || $2 == name')
    [ -n "$row" ] || fail "no target $1; there are: $(names | tr '\n' ' ')"
    # shellcheck disable=SC2086
    set -- $row
    name=$1 rust=$2 zig=$3 cpu=$4 code=$5 without=$6 qemu=$7
    under=$(printf %s "$rust" | tr - _)
    upper=$(printf %s "$under" | tr '[:lower:]' '[:upper:]')
    own=$cache/$name
}

# use_zig: zig as compiler and linker for the picked target, by the names of what it stands for.
use_zig() {
    bin=$cache/bin
    [ -x "$bin/cc" ] || fail "no zig in $cache: run cross/setup.sh $name"
    zig_folder=$(echo "$cache"/zig/lib/python3*/site-packages/ziglang)
    CROSS_ZIG=$zig_folder/zig CROSS_ZIG_TARGET=$zig CROSS_ZIG_CPU=$cpu CROSS_BIN=$bin
    export CROSS_ZIG CROSS_ZIG_TARGET CROSS_ZIG_CPU CROSS_BIN
}

# use_rust: puts the cargo and rustc that setup.sh chose into CARGO and RUSTC.
use_rust() {
    [ -f "$own/rust" ] || fail "$name is not set up: run cross/setup.sh $name"
    read -r kind recipe <"$own/rust"
    # Named by how it was made: cargo sees another folder, and compiles everything anew.
    sysroot=$own/sysroot-$recipe
    case $kind in
    debian)
        usr=$cache/debian/usr
        CARGO=$usr/bin/cargo RUSTC=$usr/bin/rustc
        LD_LIBRARY_PATH=$usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        export LD_LIBRARY_PATH
        ;;
    *)
        CARGO=$(command -v cargo) RUSTC=$(command -v rustc)
        ;;
    esac
    export RUSTC
    # musl 1.2: time_t of 64 bits on machines of 32, in the libc crate too.
    export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
    # No folder of the builder's in the binary.
    sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
    remap="--remap-path-prefix=$sources= --remap-path-prefix=$root/="
    case $code in
    -) features_of_code= ;;
    *) features_of_code=-Ctarget-feature=$code ;;
    esac
}
