#!/bin/sh
# A package for opkg out of a static binary, without OpenWrt's SDK: the same files as the feed's package, in an archive.
#
#   cross/openwrt/ipk.sh BINARY ARCHITECTURE [FOLDER]
#   cross/openwrt/ipk.sh --luci [FOLDER]               the page for LuCI, for all processors
#
# ARCHITECTURE is what `opkg print-architecture` says on the router, such as mipsel_24kc or aarch64_cortex-a53.
# Prints the path of the package; the same input makes the same bytes. Needs GNU tar, and for the page python3.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
umask 022

main() {
	if [ "${1:-}" = --luci ]; then
		luci
		package luci-app-nodepass all "${2:-.}"
	elif [ $# -ge 2 ] && [ -f "$1" ]; then
		program "$1" "$2"
		package nodepass "$2" "${3:-.}"
	else
		echo "Usage: ipk.sh BINARY ARCHITECTURE [FOLDER] | --luci [FOLDER]" >&2
		exit 1
	fi
}

# program <binary> <architecture>
program() {
	files="$here/nodepass/files"
	place 755 "$1" usr/bin/nodepass
	place 755 "$files/nodepass.init" etc/init.d/nodepass
	place 755 "$files/nodepass.defaults" etc/uci-defaults/50-nodepass
	# The SDK makes such a file of the folders among a package's conffiles.
	place 644 "$files/nodepass.keep" lib/upgrade/keep.d/nodepass
	place 600 "$files/nodepass.config" etc/config/nodepass
	control <<END
Package: nodepass
Version: $version-1
Depends: libc
Conflicts: nodepass-full, nodepass-lite
License: BSD-3-Clause
Section: net
Architecture: $2
Installed-Size: $(($(wc -c <"$1") + 32768))
Require-User: nodepass:nodepass
Description: TCP and UDP tunnel
END
	echo /etc/config/nodepass >"$work/control/conffiles"
}

luci() {
	app="$here/../luci-app-nodepass"
	(cd "$app/root" && find . -type f) | while read -r file; do place 644 "$app/root/$file" "$file"; done
	(cd "$app/htdocs" && find . -type f) | while read -r file; do place 644 "$app/htdocs/$file" "www/$file"; done
	"$app/po.py" --lmo "$app/po/zh_Hans/nodepass.po" "$work/zh.lmo"
	place 644 "$work/zh.lmo" usr/lib/lua/luci/i18n/nodepass.zh-cn.lmo
	control <<END
Package: luci-app-nodepass
Version: $version-1
Depends: luci-base, nodepass
License: BSD-3-Clause
Section: luci
Architecture: all
Installed-Size: $(find "$work/data" -type f -exec cat {} + | wc -c)
Description: LuCI page of NodePass
END
}

# control: the package's fields, and the scripts that call what a router has for packages.
control() {
	mkdir "$work/control"
	cat >"$work/control/control"
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
}

# place <mode> <source> <place>
place() {
	mkdir -p "$work/data/${3%/*}"
	cp "$2" "$work/data/$3"
	chmod "$1" "$work/data/$3"
}

# packed <folder> <archive>: a member of the package; nothing of this machine is in it.
packed() {
	tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -c . | gzip -9n >"$work/$2"
}

# package <name> <architecture> <folder>
package() {
	echo 2.0 >"$work/debian-binary"
	packed "$work/control" control.tar.gz
	packed "$work/data" data.tar.gz
	archive="$3/$1_$version-1_$2.ipk"
	tar -C "$work" --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -c ./debian-binary ./data.tar.gz ./control.tar.gz |
		gzip -9n >"$archive"
	echo "$archive"
}

main "$@"
