#!/bin/sh
# Builds static musl binaries:
#
#   cross/build.sh [--set full|lite] [--profile small|release] TARGET ...
#
# TARGET is a name of cross/targets, or `all`; the set is both if none is named. cross/setup.sh is run first for a target that was
# never set up. Binaries go to CROSS_OUT (default target/cross) as nodepass-TARGET and nodepass-TARGET-lite, with SHA256SUMS
# and SIZES beside them. CROSS_JOBS limits how many things are built at once.
set -eu
# shellcheck source=cross/common.sh
. "$(dirname "$0")/common.sh"

sets="full lite"
profile=small

main() {
    while [ $# -gt 0 ]; do
        case $1 in
        --set) sets=$2 && shift 2 ;;
        --profile) profile=$2 && shift 2 ;;
        -*) fail "$1 is not understood" ;;
        *) break ;;
        esac
    done
    # shellcheck disable=SC2046
    case ${1-} in
    "") fail "which target? $(names | tr '\n' ' ')" ;;
    all) set -- $(names) ;;
    esac
    mkdir -p "$out"
    for each; do
        pick "$each"
        "$here/setup.sh" "$name"
        for set in $sets; do
            (build "$set")
        done
    done
    list
}

build() {
    use_rust
    use_zig
    features=$(features "$1")
    has quic && boringssl
    export "CC_$under=$CROSS_BIN/cc" "CXX_$under=$CROSS_BIN/c++"
    export "AR_$under=$CROSS_BIN/ar" "RANLIB_$under=$CROSS_BIN/ranlib"
    export "CARGO_TARGET_${upper}_LINKER=$CROSS_BIN/cc"
    export "CARGO_TARGET_${upper}_RUSTFLAGS=$(flags)"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
    say "$name: $1 ($features)"
    (cd "$root" && "$CARGO" build --locked --quiet --target "$rust" --profile "$profile" --bin nodepass \
        --no-default-features --features "$features" --jobs "$jobs") || fail "$name: $1 does not build"
    case $1 in
    full) binary=$out/nodepass-$name ;;
    *) binary=$out/nodepass-$name-$1 ;;
    esac
    cp "$CARGO_TARGET_DIR/$rust/$profile/nodepass" "$binary"
}

# The features of a set, less those that the target cannot have.
features() {
    case $1 in
    full) all="quic ws h2 master check page dns" ;;
    lite) all= ;;
    *) fail "no set $1: full or lite" ;;
    esac
    list=
    for feature in $all; do
        case ,$without, in
        *,"$feature",*) ;;
        *) list=${list:+$list,}$feature ;;
        esac
    done
    printf %s "$list"
}

has() {
    case ,$features, in
    *,"$1",*) return 0 ;;
    esac
    return 1
}

flags() {
    printf %s "-Clink-self-contained=no -Cforce-unwind-tables=no -Ctarget-feature=+crt-static $features_of_code $remap"
    printf %s " -Clink-arg=-Wl,-T,$here/discard.ld"
    case $name in
    # Repeated instructions become functions, as they do without being asked on aarch64 and riscv64.
    arm* | x86_64 | i686) printf %s " -Cllvm-args=-enable-machine-outliner=always" ;;
    esac
    if [ -d "$sysroot" ]; then
        printf %s " --sysroot=$sysroot"
    fi
}

# BoringSSL for quiche: built once a target, then only linked.
boringssl() {
    made=$("$here/boringssl.sh" "$name")
    export "BORING_BSSL_PATH_$under=$made"
    export "BORING_BSSL_ASSUME_PATCHED_$under=1"
    export "BORING_BSSL_RUST_CPPLIB_$under=c++"
    headers=$zig_folder/lib/libc/include
    case $zig in
    x86*) kernel=x86-linux-any ;;
    *) kernel=${zig%%-*}-linux-any ;;
    esac
    case $zig in
    mipsel*) kernel=mips-linux-any musl=mips-linux-musl ;;
    riscv64*) kernel=riscv-linux-any musl=riscv64-linux-musl ;;
    *) musl=${zig%%-*}-linux-musl ;;
    esac
    export "BINDGEN_EXTRA_CLANG_ARGS_$under=-nostdlibinc -isystem $headers/$musl -isystem $headers/generic-musl \
-isystem $headers/$kernel -isystem $headers/any-linux-any"
}

# What is there, with sums and sizes.
list() {
    cd "$out"
    sha256sum nodepass-* >SHA256SUMS
    wc -c nodepass-* | grep -v ' total$' >SIZES
    cat SIZES
}

main "$@"
