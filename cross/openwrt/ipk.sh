#!/bin/sh
# A package for opkg out of a static binary, without OpenWrt's SDK: the same files as the feed's package, in an archive.
#
#   cross/openwrt/ipk.sh BINARY ARCHITECTURE [FOLDER]
#
# ARCHITECTURE is what `opkg print-architecture` says on the router, such as mipsel_24kc or aarch64_cortex-a53.
# Prints the path of the package; the same input makes the same bytes. Needs GNU tar.
set -eu

if [ $# -lt 2 ] || [ ! -f "$1" ]; then
	echo "Usage: ipk.sh BINARY ARCHITECTURE [FOLDER]" >&2
	exit 1
fi
binary="$1" architecture="$2" folder="${3:-.}"
files="$(cd "$(dirname "$0")" && pwd)/files"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' "$files/../../../Cargo.toml")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# packed <folder> <archive>: a member of the package; nothing of this machine is in it.
packed() {
	tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -c . | gzip -9n >"$work/$2"
}

# place <mode> <source> <place>
place() {
	mkdir -p "$work/data/${3%/*}"
	cp "$2" "$work/data/$3"
	chmod "$1" "$work/data/$3"
}

umask 022
place 755 "$binary" usr/bin/nodepass
place 755 "$files/nodepass.init" etc/init.d/nodepass
place 755 "$files/nodepass.defaults" etc/uci-defaults/50-nodepass
place 644 "$files/nodepass.keep" lib/upgrade/keep.d/nodepass
place 600 "$files/nodepass.config" etc/config/nodepass

mkdir "$work/control"
cat >"$work/control/control" <<END
Package: nodepass
Version: $version-1
Depends: libc
Conflicts: nodepass-full, nodepass-lite
License: BSD-3-Clause
Section: net
Architecture: $architecture
Installed-Size: $(($(wc -c <"$binary") + 32768))
Description: TCP and UDP tunnel
END
cat >"$work/control/conffiles" <<'END'
/etc/config/nodepass
END
for script in postinst prerm; do
	cat >"$work/control/$script" <<END
#!/bin/sh
[ "\${IPKG_NO_SCRIPT}" = 1 ] && exit 0
[ -s \${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. \${IPKG_INSTROOT}/lib/functions.sh
default_$script \$0 \$@
END
	chmod 755 "$work/control/$script"
done

echo 2.0 >"$work/debian-binary"
packed "$work/control" control.tar.gz
packed "$work/data" data.tar.gz
name="nodepass_$version-1_$architecture.ipk"
tar -C "$work" --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -c ./debian-binary ./data.tar.gz ./control.tar.gz |
	gzip -9n >"$folder/$name"
echo "$folder/$name"
