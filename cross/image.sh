#!/bin/sh
# Container images around static binaries, in one archive that knows the processors (OCI): scripts/Dockerfile for each.
#
#   cross/image.sh FILE TARGET ...
#
# Docker, podman and skopeo read FILE. Needs buildah and GNU tar. The same binaries and SOURCE_DATE_EPOCH make the same bytes.
set -eu
# shellcheck source=cross/common.sh
. "$(dirname "$0")/common.sh"

[ $# -gt 1 ] || fail "which file, and which targets? cross/image.sh FILE TARGET ..."
file=$1
shift
need buildah buildah
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# With a store of its own, which goes with this script.
build() { buildah --storage-driver vfs --root "$work/images" --runroot "$work/run" "$@" >>"$work/log" 2>&1 || stop; }

stop() {
    tail -n 20 "$work/log" >&2
    fail "the image is not made"
}

# The containers' name for the picked target's processor; nothing where few run containers.
platform() {
    case $name in
    x86_64) echo linux/amd64 ;;
    aarch64) echo linux/arm64 ;;
    armv7) echo linux/arm/v7 ;;
    esac
}

build manifest create nodepass
made=''
for each; do
    pick "$each"
    platform=$(platform)
    [ -n "$platform" ] || continue
    build bud --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --platform "$platform" --manifest nodepass \
        --build-arg "BINARY=nodepass-$name" -f "$root/scripts/Dockerfile" "$out"
    made=yes
done
[ -n "$made" ] || exit 0
build manifest push --all nodepass "oci:$work/layout:nodepass:$version"
tar -C "$work/layout" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu -cf "$file" .
