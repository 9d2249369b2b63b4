#!/bin/sh
# Sets up what static cross builds need, for the targets named or for all:
#
#   cross/setup.sh [TARGET ...]
#
#   1. zig (the Python package ziglang, in a virtual environment): C compiler, linker and musl for every target.
#   2. Rust with a standard library for the target, the first that is to be had of
#        rustup    the toolchain in use, with `rustup target add`
#        source    the toolchain in use, with the library built from its source (`rustup component add rust-src`)
#        debian    Debian's packages of a newer Rust, unpacked without root, with the library built from theirs
#      CROSS_RUST names one of the three and leaves no choice.
#
# Everything goes to CROSS_CACHE (default ~/.cache/nodepass-cross), nothing elsewhere, and what is there is not made again until
# this script or the target's row changes.
# Needed are python3 with venv and a C compiler for this machine's own helpers of the build; BoringSSL, for targets with QUIC, also wants
# cmake, make, patch and libclang. scripts/setup.sh dist brings all of it.
set -eu
# shellcheck source=cross/common.sh
. "$(dirname "$0")/common.sh"

ZIGLANG=0.17.0
PACKAGES="rustc-web cargo-web libstd-rust-web-dev libstd-rust-web-1.96 rust-web-src
    libllvm22 libgit2-1.5 libhttp-parser2.9 libmbedcrypto7 libmbedx509-1 libmbedtls14"

main() {
    need python3 python3-venv
    need cc "gcc libc6-dev"
    mkdir -p "$cache"
    have_zig
    # shellcheck disable=SC2046
    [ $# -gt 0 ] || set -- $(names)
    for each; do
        pick "$each"
        mkdir -p "$own"
        have_rust
    done
}

have_zig() {
    if [ ! -x "$cache/zig/bin/python" ] || ! ls "$cache"/zig/lib/python3*/site-packages/ziglang/zig >/dev/null 2>&1; then
        say "zig $ZIGLANG into $cache/zig"
        python3 -m venv "$cache/zig" || fail "python3 with its venv module is needed (Debian: python3-venv)"
        "$cache/zig/bin/pip" install --quiet "ziglang==$ZIGLANG"
    fi
    mkdir -p "$cache/bin"
    for tool in cc c++ ar ranlib; do
        ln -sf "$here/zig.sh" "$cache/bin/$tool"
    done
}

have_rust() {
    recipe=$( (cat "$0" && echo "$row") | cksum | cut -d ' ' -f 1)
    [ "$(cut -d ' ' -f 2 "$own/rust" 2>/dev/null)" != "$recipe" ] || return 0
    rm -rf "$own"/sysroot*
    case ${CROSS_RUST:-any} in
    rustup) from_rustup || fail "rustup has no library for $rust" ;;
    source) from_source || fail "the source of Rust's library is not there: rustup component add rust-src" ;;
    debian) from_debian ;;
    any) from_rustup || from_source || from_debian ;;
    *) fail "CROSS_RUST=$CROSS_RUST: rustup, source or debian" ;;
    esac
}

from_rustup() {
    command -v rustup >/dev/null || return 1
    rustup target add "$rust" >/dev/null 2>&1 || return 1
    say "$name: Rust's library by rustup"
    echo "rustup $recipe" >"$own/rust"
}

from_source() {
    command -v cargo >/dev/null || return 1
    library=$(rustc --print sysroot)/lib/rustlib/src/rust/library
    if [ ! -d "$library" ]; then
        command -v rustup >/dev/null && rustup component add rust-src >/dev/null 2>&1 || return 1
    fi
    build_library source
}

from_debian() {
    if [ ! -x "$cache/debian/usr/bin/cargo" ]; then
        command -v apt-get >/dev/null || fail "$name: neither rustup nor Debian's packages to be had"
        say "Debian's Rust into $cache/debian"
        rm -rf "$cache/debian.new"
        mkdir -p "$cache/debian.new/packages"
        # shellcheck disable=SC2086
        (cd "$cache/debian.new/packages" && apt-get download -q $PACKAGES >/dev/null) ||
            fail "Debian's packages could not be had: is the list of packages new (apt-get update)?"
        for package in "$cache"/debian.new/packages/*.deb; do
            dpkg -x "$package" "$cache/debian.new"
        done
        rm -rf "$cache/debian.new/packages"
        mv "$cache/debian.new" "$cache/debian"
    fi
    build_library debian
}

# Builds Rust's library once and keeps it as a sysroot of its own, so that the program itself is built by a plain `cargo build`.
# Without backtraces: the binaries are stripped, and end on panic.
build_library() {
    echo "$1 $recipe" >"$own/rust"
    use_rust
    use_zig
    say "$name: building Rust's library"
    work=$own/library
    lib=$sysroot/lib/rustlib/$rust/lib
    rm -rf "$work"
    mkdir -p "$work/src" "$lib/self-contained"
    : >"$work/src/lib.rs"
    cat >"$work/Cargo.toml" <<END
[package]
name = "library"
version = "0.0.0"
edition = "2021"

[profile.release]
opt-level = "${CROSS_LIBRARY_LEVEL:-s}"
codegen-units = 1
panic = "abort"
END
    source=$("$RUSTC" --print sysroot)/lib/rustlib/src/rust
    if ! (
        cd "$work"
        export CARGO_TARGET_DIR="$work/target" RUSTC_BOOTSTRAP=1
        # The path of the source as every Rust has it.
        export RUSTFLAGS="-Cembed-bitcode=yes -Cforce-unwind-tables=no --remap-path-prefix=$source=/rust $remap $features_of_code"
        "$CARGO" build --quiet --release --target "$rust" --jobs "$jobs" \
            -Zbuild-std=std,panic_abort -Zbuild-std-features=
    ); then
        rm -f "$own/rust"
        fail "$name: Rust's library does not build"
    fi
    cp "$work/target/$rust/release/deps/"*.rlib "$lib"
    rm -rf "$lib"/liblibrary-*.rlib "$work"
}

main "$@"
