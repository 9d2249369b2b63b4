#!/bin/sh
# The packages of cross/openwrt/ipk.sh and apk.sh under the real opkg or apk. No part of `make test`, which has neither:
#
#   packages.sh opkg|apk MANAGER PROGRAM        as root; MANAGER is opkg, or apk of apk-tools 3, PROGRAM a binary of nodepass, both
#                                               for this machine
#
# A new root folder has a shell (busybox), the packages that ours want, with nothing in them, and in place of OpenWrt's functions.sh some
# that write down how they are called. Prints a line a test; status 1 if one failed.
#
# shellcheck shell=dash disable=SC2317
set -u
here="$(cd "$(dirname "$0")" && pwd)"
kind="$1" manager="$2" program="$3"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/root"
SOURCE_DATE_EPOCH=0 APK="$manager"
export SOURCE_DATE_EPOCH APK

failed=0
# ok <text> <command>...
ok() {
	text="$1"
	shift
	if "$@" >"$work/said" 2>&1; then
		echo "ok      $text"
	else
		echo "FAILED  $text"
		cat "$work/said"
		failed=1
	fi
}
not() { ! "$@"; }
called() { grep -qx "$1" "$root/log"; }
kept() { grep -qx "$1" "$root/etc/config/$2"; }

# place <program>: in the root, with its libraries.
place() {
	cp "$1" "$root/bin/"
	for library in $(ldd "$1" | grep -o '/[^ ]*'); do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
}

# What the two managers are told, and where they differ.
case $kind in
apk)
	ending=.apk-new
	begin() { "$manager" --root "$root" --initdb --no-network add; }
	manage() { "$manager" --root "$root" --repositories-file /dev/null --allow-untrusted --no-network "$@"; }
	add() { manage add "$@"; }
	del() { manage del "$1"; }
	# empty <name>: a package with nothing in it.
	empty() {
		"$manager" mkpkg --info "name:$1" --info version:1-r0 --info arch:noarch --files "$root/empty" --output "$work/$1.apk"
		echo "$work/$1.apk"
	}
	made() { "$here/../apk.sh" "$1" "$2" 2>/dev/null; }
	listed() { grep -qx "$2" "$root/lib/apk/packages/nodepass.$1"; }
	sound() { manage audit --check-permissions; }
	;;
opkg)
	ending=-opkg
	begin() {
		place "$manager" && mkdir -p "$root/usr/lib/opkg" "$root/var/lock"
		printf 'dest root /\narch all 1\narch %s 10\n' "$(uname -m)" >"$root/etc/opkg.conf"
	}
	manage() { chroot "$root" "/bin/$(basename "$manager")" "$@"; }
	add() { cp "$@" "$root/tmp" && for file; do manage install "/tmp/$(basename "$file")" || return; done; }
	del() { manage remove "$1"; }
	empty() {
		mkdir -p "$work/empty/control" && echo 2.0 >"$work/empty/debian-binary"
		printf 'Package: %s\nVersion: 1\nArchitecture: all\n' "$1" >"$work/empty/control/control"
		tar -C "$work/empty/control" -czf "$work/empty/control.tar.gz" ./control
		tar -C "$root/empty" -czf "$work/empty/data.tar.gz" .
		tar -C "$work/empty" -czf "$work/$1.ipk" ./debian-binary ./data.tar.gz ./control.tar.gz
		echo "$work/$1.ipk"
	}
	made() { [ "$1" -ef "$2/$(basename "$1")" ] || cp "$1" "$2" && echo "$2/$(basename "$1")"; }
	listed() { grep -q "$2" "$root/usr/lib/opkg/status" "$root/usr/lib/opkg/info/nodepass.control"; }
	sound() { manage status nodepass | grep -q 'Status: install .*installed'; }
	;;
*)
	echo "packages.sh: opkg or apk, not $kind" >&2
	exit 1
	;;
esac

mkdir -p "$root/bin" "$root/lib" "$root/tmp" "$root/etc/apk" "$root/empty" "$work/second"
place "$(command -v busybox)"
for name in sh gzip tar basename mkdir rm; do ln -s busybox "$root/bin/$name"; done
uname -m >"$root/etc/apk/arch"
cat >"$root/lib/functions.sh" <<'END'
add_group_and_user() { echo "users of $pkgname" >>/log; }
default_postinst() { echo "installed ${pkgname:-$(basename "${1%.*}")}" >>/log; }
default_prerm() { echo "removed ${pkgname:-$(basename "${1%.*}")}" >>/log; }
END

ipk="$("$here/../ipk.sh" "$program" "$(uname -m)" "$work")"
package="$(made "$ipk" "$work")"
"$here/../ipk.sh" "$program" "$(uname -m)" "$work/second" >/dev/null
page="$(made "$("$here/../ipk.sh" --luci "$work")" "$work")"
ok "the same input makes the same bytes" cmp "$package" "$(made "$work/second/$(basename "$ipk")" "$work/second")"

ok "there is a root" begin
ok "$kind installs the package" add "$(empty libc)" "$package"
ok "the script of the installation runs, with the package's name" called "installed nodepass"
[ "$kind" = opkg ] || ok "the user is asked for" called "users of nodepass"
ok "the program is there, and can be run" test -x "$root/usr/bin/nodepass"
ok "the configuration is root's" test "$(stat -c '%a %u' "$root/etc/config/nodepass")" = "600 0"
ok "the configuration is listed for sysupgrade" listed conffiles /etc/config/nodepass
ok "the user is listed" listed rusers nodepass:nodepass
ok "$kind finds the package whole" sound
ok "$kind installs the page" add "$(empty luci-base)" "$page"
ok "the page is there" test -s "$root/www/luci-static/resources/view/nodepass/sections.js"

# A later version, with another configuration in it.
newer() {
	mkdir "$work/parts" "$work/control" "$work/data"
	tar -xzf "$ipk" -C "$work/parts"
	for part in control data; do tar -xzf "$work/parts/$part.tar.gz" -C "$work/$part"; done
	sed -i 's/^Version: .*/Version: 99.0.0-1/' "$work/control/control"
	echo "# theirs" >>"$work/data/etc/config/nodepass"
	for part in control data; do tar -C "$work/$part" -czf "$work/parts/$part.tar.gz" .; done
	tar -C "$work/parts" -czf "$work/newer.ipk" ./debian-binary ./data.tar.gz ./control.tar.gz
	made "$work/newer.ipk" "$work"
}
echo "# mine" >>"$root/etc/config/nodepass"
rm "$root/log"
ok "$kind upgrades the package" add "$(newer)"
ok "the script of the upgrade runs" called "installed nodepass"
ok "a changed configuration is kept" kept "# mine" nodepass
ok "the new one lies beside it" kept "# theirs" "nodepass$ending"
ok "$kind removes the page" del luci-app-nodepass
ok "$kind removes the package" del nodepass
ok "the script of the removal runs" called "removed nodepass"
ok "nothing of the program is left" not test -e "$root/usr/bin/nodepass" -o -e "$root/etc/init.d/nodepass"
exit "$failed"
