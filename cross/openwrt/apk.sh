#!/bin/sh
# A package for apk (OpenWrt 25.12 and later) out of one for opkg: the same files, fields and scripts.
#
#   cross/openwrt/apk.sh PACKAGE.ipk [FOLDER]
#
# Prints the path of the package. Needs GNU tar and apk-tools 3 (APK names the program, `apk` if it does not); the same input and
# SOURCE_DATE_EPOCH make the same bytes. Without root the owners are set in a user namespace (unshare).
set -eu

if [ $# -lt 1 ] || [ ! -f "$1" ]; then
	echo "Usage: apk.sh PACKAGE.ipk [FOLDER]" >&2
	exit 1
fi
apk="${APK:-apk}"
"$apk" --version 2>/dev/null | grep -q "^apk-tools 3" || {
	echo "apk.sh: needs apk-tools 3; APK=... names its program" >&2
	exit 1
}
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
export SOURCE_DATE_EPOCH
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
umask 022

# field <name>: of the package's own control file.
field() {
	sed -n "s/^$1: //p" "$work/control/control"
}

# script <name>: what a router has for it, called with the names that it reads on systems with apk.
script() {
	cat >"$work/$1" <<END
#!/bin/sh
[ "\${IPKG_NO_SCRIPT}" = 1 ] && exit 0
[ -s \${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. \${IPKG_INSTROOT}/lib/functions.sh
export root="\${IPKG_INSTROOT}" pkgname="$name"
END
	cat >>"$work/$1"
}

mkdir "$work/control" "$work/data"
for part in control data; do
	tar -xzOf "$1" "./$part.tar.gz" | tar -xzf - -C "$work/$part" --no-same-owner
done
name="$(field Package)"
version="$(field Version | sed 's/-\([0-9]*\)$/-r\1/')"
arch="$(field Architecture | sed 's/^all$/noarch/')"
users="$(field Require-User)"

# What a router's sysupgrade, and the installation of users, look for.
lists="$work/data/lib/apk/packages"
mkdir -p "$lists"
(cd "$work/data" && find . -type f | sed 's|^\.||' | LC_ALL=C sort) >"$work/list"
mv "$work/list" "$lists/$name.list"
[ -z "$users" ] || echo "$users" >"$lists/$name.rusers"
if [ -s "$work/control/conffiles" ]; then
	cp "$work/control/conffiles" "$lists/$name.conffiles"
	while read -r file; do
		echo "$file $(sha256sum <"$work/data$file" | cut -d ' ' -f 1)"
	done <"$work/control/conffiles" >"$lists/$name.conffiles_static"
fi
chmod 644 "$lists"/*

printf 'add_group_and_user\ndefault_postinst\n' | script post-install
printf 'export PKG_UPGRADE=1\nadd_group_and_user\ndefault_postinst\n' | script post-upgrade
printf 'default_prerm\n' | script pre-deinstall

# mkpkg takes the owners from the files.
owned() {
	if [ "$(id -u)" = 0 ]; then
		chown -R 0:0 "$work/data" && "$@"
	else
		unshare --map-root-user "$@"
	fi
}

archive="${2:-.}/$name-${version}_$arch.apk"
set -- --info "name:$name" --info "version:$version" --info "arch:$arch" --info "description:$(field Description)" \
	--info "license:$(field License)" --info "origin:nodepass" --info "url:https://github.com/yosebyte/nodepass" \
	--info "depends:$(field Depends | tr -d ,) $(field Conflicts | tr -d , | sed 's/[^ ][^ ]*/!&/g')" \
	--script "post-install:$work/post-install" --script "post-upgrade:$work/post-upgrade" \
	--script "pre-deinstall:$work/pre-deinstall" --files "$work/data" --output "$archive"
owned "$apk" mkpkg "$@" >&2
echo "$archive"
