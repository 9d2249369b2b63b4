#!/bin/sh
# Makes what a release offers out of the binaries of cross/build.sh:
#
#   cross/dist.sh TARGET ...           a name of cross/targets, or `all`
#
# For each target an archive with the program, manual page, completions, units and installer, full and lite; packages for dpkg, rpm and opkg
# where such systems have the processor, and for apk where apk-tools 3 is there (APK names its program); the page for LuCI; the source, and a feed for
# OpenWrt's SDK that knows its sum; for all of them a container image, install.sh, SHA256SUMS and a list of what is inside (CycloneDX). It
# goes to DIST_OUT (default target/dist), which is emptied first. The same binaries and SOURCE_DATE_EPOCH (default: the last commit's time) make the same
# bytes. DIST_REVISION is the packages' own number behind the version.
set -eu
# shellcheck source=cross/common.sh
. "$(dirname "$0")/common.sh"

dist=${DIST_OUT:-$root/target/dist}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH DIST_REVISION="${DIST_REVISION:-1}" LC_ALL=C TZ=UTC

main() {
    umask 022
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    # shellcheck disable=SC2046
    case ${1-} in
    "") fail "which target? $(names | tr '\n' ' ')" ;;
    all) set -- $(names) ;;
    esac
    for each; do
        pick "$each"
        for binary in "$out/nodepass-$name" "$out/nodepass-$name-lite"; do
            [ -f "$binary" ] || fail "$binary is not there: cross/build.sh $name"
        done
    done
    need python3 python3
    need dpkg-deb dpkg
    need rpmbuild rpm
    need buildah buildah
    rm -rf "$dist"
    mkdir -p "$dist"
    for each; do
        pick "$each"
        archive "$out/nodepass-$name" "nodepass-$version-linux-$name"
        archive "$out/nodepass-$name-lite" "nodepass-$version-linux-$name-lite"
        packages
    done
    opkg --luci
    sources
    "$here/image.sh" "$dist/nodepass-$version-oci.tar" "$@"
    cp "$root/scripts/install.sh" "$dist"
    chmod 755 "$dist/install.sh"
    has_apk || say "no .apk: apk-tools 3 is not here (APK names its program)"
    "$here/sbom.py" >"$dist/nodepass-$version.cdx.json"
    (cd "$dist" && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
    cat "$dist/SHA256SUMS"
}

# archive BINARY NAME: a folder of this name, in which install.sh finds all that it installs.
archive() {
    work=$(mktemp -d)
    folder=$work/$2
    mkdir -p "$folder/docs" "$folder/openwrt/nodepass/files"
    cp "$1" "$folder/nodepass"
    cp "$root/LICENSE" "$root/README.md" "$root/README_zh.md" "$root/scripts/install.sh" "$folder"
    cp "$root"/docs/* "$folder/docs"
    cp -R "$root/scripts/completions" "$root/scripts/systemd" "$folder"
    cp "$here"/openwrt/nodepass/files/* "$folder/openwrt/nodepass/files"
    find "$folder" -type f -exec chmod 644 {} +
    chmod 755 "$folder/nodepass" "$folder/install.sh"
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu -c "$2" |
        gzip -9n >"$dist/$2.tar.gz"
    rm -rf "$work"
}

# The packages for the systems that know the picked target, each under its own name for the processor.
packages() {
    case $name in
    x86_64) package amd64 x86_64 x86_64 ;;
    aarch64) package arm64 aarch64 aarch64_generic aarch64_cortex-a53 aarch64_cortex-a72 ;;
    armv7) package armhf armv7hl arm_cortex-a7_neon-vfpv4 arm_cortex-a9_vfpv3-d16 arm_cortex-a15_neon-vfpv4 ;;
    arm) package - - arm_arm1176jzf-s_vfp ;;
    mipsel) package - - mipsel_24kc ;;
    mips) package - - mips_24kc ;;
    riscv64) package riscv64 riscv64 riscv64_generic ;;
    i686) package - - i386_pentium4 ;;
    esac
}

# package DEBIAN FEDORA OPENWRT ...: - where there is none.
package() {
    [ "$1" = - ] || "$here/debian/deb.sh" "$out/nodepass-$name" "$1" "$dist" >/dev/null
    [ "$2" = - ] || "$here/rpm/rpm.sh" "$out/nodepass-$name" "$2" "$dist" >/dev/null
    shift 2
    for router; do
        opkg "$out/nodepass-$name" "$router"
    done
}

# opkg ARGUMENT ...: a package of ipk.sh, and the same for apk.
opkg() {
    package=$("$here/openwrt/ipk.sh" "$@" "$dist")
    ! has_apk || "$here/openwrt/apk.sh" "$package" "$dist" >/dev/null
}

has_apk() { "${APK:-apk}" --version 2>/dev/null | grep -q "^apk-tools 3"; }

# The source of the last commit, and the folders of OpenWrt's packages, which build it: the sum is the one that a release brings.
sources() {
    if ! git -C "$root" rev-parse --verify --quiet HEAD >/dev/null; then
        say "no source archive: this is no work tree of git"
        return
    fi
    source=$dist/nodepass-$version.tar.gz
    git -C "$root" archive --format=tar --prefix="nodepass-$version/" HEAD | gzip -9n >"$source"
    work=$(mktemp -d)
    cp -R "$here/openwrt/nodepass" "$here/luci-app-nodepass" "$work"
    rm -rf "$work/luci-app-nodepass/tests"
    sum=$(sha256sum <"$source" | cut -d ' ' -f 1)
    sed "s/^\( *PKG_HASH:=\).*/\1$sum/" "$here/openwrt/nodepass/Makefile" >"$work/nodepass/Makefile"
    chmod -R u=rwX,go=rX "$work"
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu -c luci-app-nodepass nodepass |
        gzip -9n >"$dist/nodepass-$version-openwrt-feed.tar.gz"
    rm -rf "$work"
}

main "$@"
