#!/bin/sh
# A Debian package out of a static binary, without a build system: the files of the installer in Debian's places.
#
#   cross/debian/deb.sh BINARY ARCHITECTURE [FOLDER]
#
# ARCHITECTURE is what `dpkg --print-architecture` says, such as arm64. Prints the path of the package. The same binary and SOURCE_DATE_EPOCH
# make the same bytes. DIST_REVISION is Debian's own number behind the version, DIST_MAINTAINER who answers for the package.
set -eu

if [ $# -lt 2 ] || [ ! -f "$1" ]; then
    echo "Usage: deb.sh BINARY ARCHITECTURE [FOLDER]" >&2
    exit 1
fi
binary=$1 architecture=$2 folder=${3:-.}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")-${DIST_REVISION:-1}
maintainer=${DIST_MAINTAINER:-NodePass maintainers <maintainers@nodepass.invalid>}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The package's root, with the mode of a root.
work=$scratch/root
mkdir "$work"

# place MODE SOURCE PLACE
place() {
    mkdir -p "$work/${3%/*}"
    cp "$2" "$work/$3"
    chmod "$1" "$work/$3"
}

place 755 "$binary" usr/bin/nodepass
place 644 "$root/docs/nodepass.1" usr/share/man/man1/nodepass.1
place 644 "$root/scripts/completions/nodepass.bash" usr/share/bash-completion/completions/nodepass
place 644 "$root/scripts/completions/_nodepass" usr/share/zsh/vendor-completions/_nodepass
place 644 "$root/scripts/completions/nodepass.fish" usr/share/fish/vendor_completions.d/nodepass.fish
for unit in nodepass@.service nodepass-master.service; do
    place 644 "$root/scripts/systemd/$unit" "lib/systemd/system/$unit"
    sed -i 's|/usr/local/bin/|/usr/bin/|' "$work/lib/systemd/system/$unit"
done
# Configuration has keys in it.
mkdir -p "$work/etc/nodepass"
chmod 700 "$work/etc/nodepass"

pages=$work/usr/share/doc/nodepass
mkdir -p "$pages"
{
    echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    echo
    echo "Files: *"
    sed -n 's/^Copyright (c) /Copyright: /p' "$root/LICENSE"
    echo "License: BSD-3-Clause"
    sed -e '1,/^Copyright/d' -e 's/^[[:space:]]*$/./' -e 's/^/ /' "$root/LICENSE" | sed '1{/^ \.$/d}'
} >"$pages/copyright"
cat >"$pages/changelog.Debian" <<END
nodepass ($version) stable; urgency=medium

  * Upstream release; docs/CHANGELOG.md of the sources says what is new.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
gzip -9n "$pages/changelog.Debian" "$work/usr/share/man/man1/nodepass.1"

size=$(find "$work" -type f -exec cat {} + | wc -c)
mkdir "$work/DEBIAN"
(cd "$work" && find etc lib usr -type f -exec md5sum {} + | sort -k 2 >DEBIAN/md5sums)
cat >"$work/DEBIAN/control" <<END
Package: nodepass
Version: $version
Section: net
Priority: optional
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(((size + 1023) / 1024))
Description: TCP and UDP tunnel, one program and one URL
 NodePass carries TCP and UDP traffic between two networks. It forwards ports
 by itself, or two of them make a tunnel whose connections are ready before
 the first user comes: over TCP, QUIC, WebSocket or HTTP/2, with TLS.
 .
 Units for systemd run servers and clients by their URLs in /etc/nodepass, and
 a master with an API.
END
for script in postinst prerm postrm; do
    place 755 "$here/$script" "DEBIAN/$script"
done

find "$work" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
package=$folder/nodepass_${version}_$architecture.deb
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$work" "$package" >/dev/null
echo "$package"
