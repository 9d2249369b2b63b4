#!/bin/sh
# Builds BoringSSL once for a target, from the source that the crate boring-sys brings: cross/boringssl.sh TARGET. Needs cmake, make and patch.
# Prints the folder that has it; build.sh calls it. It stays in the cache until boring-sys or this script changes.
set -eu
# shellcheck source=cross/common.sh
. "$(dirname "$0")/common.sh"

main() {
    pick "$1"
    use_rust
    use_zig
    crate=$(source_of boring-sys)
    # Its name says what it was made from and how: cargo sees another folder, and links it anew.
    made=$own/$(basename "$crate")-$( (cat "$0" "$here/zig.sh" && echo "$zig $cpu") | cksum | cut -d ' ' -f 1)
    if [ -f "$made/libssl.a" ]; then
        echo "$made"
        return 0
    fi
    need cmake cmake
    need make make
    need patch patch
    say "$name: building BoringSSL ($(basename "$crate"))"

    rm -rf "$made"
    mkdir -p "$made/source"
    cp -R "$crate/deps/boringssl/." "$made/source"
    # The one patch that the crate itself always applies.
    patch --quiet --strip=1 --directory="$made/source" <"$crate/patches/boring-pq.patch"
    align "$made/source"
    cmake -S "$made/source" -B "$made/build" -DCMAKE_TOOLCHAIN_FILE="$here/zig.cmake" \
        -DCMAKE_BUILD_TYPE=MinSizeRel -DBUILD_TESTING=OFF -DOPENSSL_SMALL=1 -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
        -DCMAKE_CXX_FLAGS="-fno-exceptions -fno-rtti" >"$made/log" 2>&1 || stop
    cmake --build "$made/build" --target ssl crypto --parallel "$jobs" >>"$made/log" 2>&1 || stop
    cp -R "$made/source/include" "$made/include"
    find "$made/build" -name libcrypto.a -exec cp {} "$made" \;
    find "$made/build" -name libssl.a -exec cp {} "$made" \;
    rm -rf "$made/source" "$made/build"
    echo "$made"
}

stop() {
    tail -n 20 "$made/log" >&2
    fail "$name: BoringSSL does not build: $made/log"
}

# Where cargo has unpacked a crate.
source_of() {
    "$CARGO" metadata --manifest-path "$root/Cargo.toml" --locked --format-version 1 --filter-platform "$rust" |
        tr , '\n' | sed -n "s|.*\"manifest_path\":\"\(.*/$1-[0-9][^/]*\)/Cargo.toml\".*|\1|p" | head -n 1
}

# P-256 keeps its numbers in arrays of bytes on the stack and works on them as words, which only machines that forgive an unaligned
# access allow: mipsel ends with SIGBUS. Aligned they are right everywhere.
align() {
    sed -i 's/^\( *\)uint8_t \(_br_stackalloc_\)/\1alignas(16) uint8_t \2/' "$1/third_party/fiat/p256_point.br.c.inc"
    sed -i 's/^\( *\)uint8_t \(out\[3 \{0,1\}\* \{0,1\}32\], in\)/\1alignas(16) uint8_t \2/' \
        "$1/crypto/fipsmodule/ec/p256.cc.inc"
    stack=$(grep -c 'alignas(16) uint8_t _br_stackalloc_' "$1/third_party/fiat/p256_point.br.c.inc")
    points=$(grep -c 'alignas(16) uint8_t out' "$1/crypto/fipsmodule/ec/p256.cc.inc")
    if [ "$stack" -lt 15 ] || [ "$points" != 2 ]; then
        fail "BoringSSL's P-256 has changed: look at align() in cross/boringssl.sh"
    fi
}

main "$@"
