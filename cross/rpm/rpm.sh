#!/bin/sh
# An RPM package out of a static binary:
#
#   cross/rpm/rpm.sh BINARY ARCHITECTURE [FOLDER]
#
# ARCHITECTURE is what `rpm --eval %_arch` says, such as aarch64. Prints the path of the package. The same binary and SOURCE_DATE_EPOCH make the
# same bytes. DIST_REVISION is the package's own number behind the version. Needs rpmbuild.
set -eu

if [ $# -lt 2 ] || [ ! -f "$1" ]; then
    echo "Usage: rpm.sh BINARY ARCHITECTURE [FOLDER]" >&2
    exit 1
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") architecture=$2 folder=${3:-.}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
revision=${DIST_REVISION:-1}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Nothing of this machine is in it, and nothing is done to the program.
if ! rpmbuild -bb --quiet --target "$architecture" \
    --define "_topdir $work" --define "_rpmdir $work/made" --define "_dbpath $work/db" \
    --define "np_version $version" --define "np_release $revision" --define "np_binary $binary" --define "np_tree $root" \
    --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
    --define "clamp_mtime_to_source_date_epoch 1" --define "build_mtime_policy clamp_to_source_date_epoch" \
    --define "__os_install_post %{nil}" --define "debug_package %{nil}" --define "_build_id_links none" \
    "$here/nodepass.spec" >"$work/log" 2>&1; then
    tail -n 20 "$work/log" >&2
    echo "rpm.sh: the package is not made" >&2
    exit 1
fi
package=nodepass-$version-$revision.$architecture.rpm
cp "$work/made/$architecture/$package" "$folder/$package"
echo "$folder/$package"
