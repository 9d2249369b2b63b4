#!/bin/sh
# Installs nodepass on this machine, or into the folder that DESTDIR names; brings it up to date; takes it away again.
# Needs nothing but a POSIX shell and the usual small programs (busybox will do), and no network but for a release at a URL.
set -eu

usage() {
	cat <<'END'
Usage: install.sh [options] [SOURCE]

Installs nodepass, and what belongs to it, from SOURCE:
  a program      a file that make cross or make build made
  an archive     nodepass-...tar.gz of a release; if SHA256SUMS lies beside it, its sum must be there
  a release      a folder or http(s) URL with SHA256SUMS and archives: the one for this machine
  nothing        nodepass beside this script, else target/release/nodepass

What belongs to it:
  always       completions of bash, zsh and fish, and the manual page (not on OpenWrt)
  on systemd   the units nodepass@.service and nodepass-master.service
  on OpenWrt   the init script, what upgrades of the system keep, and a configuration if there is none
What is installed already is replaced, each file in one step; what runs goes on until it is restarted.

Options:
  --prefix DIR   where it goes [/usr/local; on OpenWrt /usr]
  --system NAME  systemd, openwrt or none [what this machine, or DESTDIR, looks like]
  --target NAME  the archive for another machine, such as aarch64 [what uname says]
  --lite         the lite archive: TCP pools, TLS and UDP only
  --remove       takes away what was installed; configuration and state stay
  --purge        the same, and configuration and state too, keys and all
  --dry-run      says what would be done, and does nothing
  --help         this text

Environment:
  DESTDIR        the root of the system to install into; nothing in it is run
END
}

main() {
	prefix='' system='' action=install_all purge='' dry='' binary='' target='' lite='' work=''
	root="${DESTDIR:-}"
	root="${root%/}"
	here="$(cd "$(dirname "$0")" && pwd)"
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	read_options "$@"
	[ -n "$system" ] || system="$(looks_like)"
	case "$system" in
	systemd | none) : "${prefix:=/usr/local}" ;;
	openwrt) : "${prefix:=/usr}" ;;
	*) fail "bad --system \"$system\": expected systemd, openwrt or none" ;;
	esac
	case "$prefix" in
	/*[!A-Za-z0-9/._+-]*) fail "bad --prefix \"$prefix\": expected a path without blanks and signs" ;;
	/*) prefix="${prefix%/}" ;;
	*) fail "bad --prefix \"$prefix\": expected a path that begins with /" ;;
	esac
	"$action"
}

read_options() {
	while [ $# -gt 0 ]; do
		case "$1" in
		--prefix=*) prefix="${1#*=}" ;;
		--system=*) system="${1#*=}" ;;
		--target=*) target="${1#*=}" ;;
		--prefix | --system | --target)
			[ $# -gt 1 ] || fail "$1 has no value"
			case "$1" in
			--prefix) prefix="$2" ;;
			--system) system="$2" ;;
			--target) target="$2" ;;
			esac
			shift
			;;
		--lite) lite=-lite ;;
		--remove) action=remove_all ;;
		--purge) action=remove_all purge=1 ;;
		--dry-run) dry=1 ;;
		--help | -h)
			usage
			exit 0
			;;
		-*) fail "unknown option $1: --help lists all" ;;
		*)
			[ -z "$binary" ] || fail "stray argument \"$1\": expected one source"
			binary="$1"
			;;
		esac
		shift
	done
}

# What kind of system this is.
looks_like() {
	if [ -f "$root/etc/openwrt_release" ]; then
		echo openwrt
	elif [ -d "$root/run/systemd/system" ] || { [ -n "$root" ] && [ -e "$root/lib/systemd/systemd" ]; }; then
		echo systemd
	else
		echo none
	fi
}

# Everything but the binary: calls $1 with mode, source and place of each file.
each_file() {
	case "$system" in
	openwrt)
		"$1" 755 openwrt/nodepass/files/nodepass.init /etc/init.d/nodepass
		"$1" 644 openwrt/nodepass/files/nodepass.keep /lib/upgrade/keep.d/nodepass
		;;
	*)
		"$1" 644 docs/nodepass.1 "$prefix/share/man/man1/nodepass.1"
		"$1" 644 completions/nodepass.bash "$prefix/share/bash-completion/completions/nodepass"
		"$1" 644 completions/_nodepass "$prefix/share/zsh/site-functions/_nodepass"
		"$1" 644 completions/nodepass.fish "$prefix/share/fish/vendor_completions.d/nodepass.fish"
		;;
	esac
	[ "$system" != systemd ] || for unit in nodepass@.service nodepass-master.service; do
		"$1" 644 "systemd/$unit" "$prefix/lib/systemd/system/$unit"
	done
}

install_all() {
	find_source
	find_binary
	each_file must_exist
	put 755 "$binary" "$prefix/bin/nodepass"
	each_file put_our
	case "$system" in
	systemd) said systemctl daemon-reload ;;
	openwrt)
		[ -e "$root/etc/config/nodepass" ] || put_our 600 openwrt/nodepass/files/nodepass.config /etc/config/nodepass
		did "make /etc/nodepass, to go through" passable "$root/etc/nodepass"
		said /etc/init.d/nodepass enable
		;;
	esac
	[ "$system" = openwrt ] || did "make /etc/nodepass, for root alone" private "$root/etc/nodepass"
	say_next
}

# SOURCE may be an archive or a release: then it is unpacked, and what follows is taken from there.
find_source() {
	case "$binary" in
	http://*.tar.gz | https://*.tar.gz) unpack "${binary%/*}" "${binary##*/}" ;;
	http://* | https://*) unpack "${binary%/}" '' ;;
	*.tar.gz)
		[ -f "$binary" ] || fail "no file $binary"
		unpack "$(dirname "$binary")" "$(basename "$binary")"
		;;
	*)
		if [ -d "$binary" ]; then
			unpack "${binary%/}" ''
		elif [ -n "$lite$target" ]; then
			fail "--lite and --target choose from a release: expected a folder or URL with SHA256SUMS"
		fi
		;;
	esac
}

# unpack <folder or URL> <archive, or none for the one of this machine>: checked against the sums first.
unpack() {
	work="$(mktemp -d)"
	archive="$2"
	if bring "$1" SHA256SUMS; then
		[ -n "$archive" ] || choose_archive
		awk -v name="$archive" '$2 == name || $2 == "*" name' "$work/SHA256SUMS" >"$work/sum"
		[ -s "$work/sum" ] || fail "$1/SHA256SUMS has no $archive"
	elif [ -z "$archive" ] || [ "$1" != "${1#http}" ]; then
		fail "cannot read $1/SHA256SUMS"
	fi
	bring "$1" "$archive" || fail "cannot read $1/$archive"
	if [ -f "$work/sum" ]; then
		(cd "$work" && sha256sum -c sum >/dev/null 2>&1) || fail "$archive is not what SHA256SUMS says: is it cut short?"
	fi
	mkdir "$work/unpacked"
	gzip -dc "$work/$archive" | tar -C "$work/unpacked" -xf - || fail "$archive cannot be unpacked"
	here="$(echo "$work"/unpacked/*)"
	binary="$here/nodepass"
	echo "From $1/$archive"
}

# The archive for this machine, or for the one that --target names; one of several versions would be a guess.
choose_archive() {
	[ -n "$target" ] || target="$(machine)"
	archive="$(awk -v end="-linux-$target$lite.tar.gz" '
		{ sub(/^[*]/, "", $2) }
		index($2, "nodepass-") == 1 && substr($2, length($2) - length(end) + 1) == end { print $2 }
	' "$work/SHA256SUMS")"
	case $(echo "$archive" | grep -c .) in
	0) fail "no archive for $target$lite in SHA256SUMS: --target names another" ;;
	1) ;;
	*) fail "several versions for $target$lite in SHA256SUMS: name one of the archives" ;;
	esac
}

# What releases call this machine.
machine() {
	said="$(uname -m)"
	case "$said" in
	x86_64 | amd64) echo x86_64 ;;
	i?86) echo i686 ;;
	aarch64 | arm64) echo aarch64 ;;
	armv7* | armv8*) echo armv7 ;;
	armv6*) echo arm ;;
	riscv64) echo riscv64 ;;
	mips)
		# The kernel calls both by this name; a program says in its sixth byte which end comes first.
		case "$(dd if=/bin/sh bs=1 skip=5 count=1 2>/dev/null | od -An -tu1 | tr -d ' ')" in
		1) echo mipsel ;;
		*) echo mips ;;
		esac
		;;
	*) fail "no release for the processor \"$said\": --target names one" ;;
	esac
}

# bring <folder or URL> <name>: a file of it into the scratch folder.
bring() {
	case "$1" in
	http://* | https://*)
		if [ -n "$(command -v curl)" ]; then
			curl -fsSL --retry 2 -o "$work/$2" "$1/$2"
		elif [ -n "$(command -v wget)" ]; then
			wget -q -O "$work/$2" "$1/$2"
		else
			fail "curl or wget is needed for a URL"
		fi
		;;
	*) [ -f "$1/$2" ] && cp "$1/$2" "$work/$2" ;;
	esac
}

# The file to install: it must be one, and run here, unless it is for another machine.
find_binary() {
	if [ -z "$binary" ]; then
		binary="$here/nodepass"
		[ -f "$binary" ] || binary="$here/../target/release/nodepass"
		[ -f "$binary" ] || fail "no program beside this script nor in target/release: expected its file as an argument"
	fi
	[ -f "$binary" ] || fail "no file $binary"
	version="$("$binary" version 2>/dev/null)" || version=''
	case "$version" in
	"nodepass "*) echo "Installing $version" ;;
	*) [ -n "$root" ] || fail "$binary does not run here: is it built for this machine?" ;;
	esac
}

must_exist() {
	ours "$2" >/dev/null
}

# ours <file>: where it lies: beside this script in an archive, elsewhere in the source tree.
ours() {
	for base in "$here" "$here/.." "$here/../cross"; do
		if [ -f "$base/$1" ]; then
			echo "$base/$1"
			return 0
		fi
	done
	fail "no file $here/$1"
}

# put_our <mode> <source> <place>: a file of ours, in which the program is where it is to be.
put_our() {
	if [ -n "$dry" ]; then
		echo "would install $root$3"
		return
	fi
	scratch="$(mktemp)"
	sed -e "s|/usr/local/bin/nodepass|$prefix/bin/nodepass|" -e "s|^PROG=.*|PROG=$prefix/bin/nodepass|" "$(ours "$2")" >"$scratch"
	put "$1" "$scratch" "$3"
	rm -f "$scratch"
}

# put <mode> <source> <place>: beside the place first and then renamed, so that there is always the old or the new one.
put() {
	if [ -n "$dry" ]; then
		echo "would install $root$3"
		return
	fi
	mkdir -p "$root${3%/*}"
	new="$root$3.new.$$"
	if ! cp "$2" "$new" || ! chmod "$1" "$new" || ! mv -f "$new" "$root$3"; then
		rm -f "$new"
		fail "cannot write $root$3"
	fi
	echo "installed $root$3"
}

# What is in it is for its owners alone; users of the router's sections go through it to theirs.
passable() {
	mkdir -p "$1" && chmod 711 "$1"
}

private() {
	mkdir -p "$1" && chmod 700 "$1"
}

remove_all() {
	case "$system" in
	systemd)
		said systemctl disable --now nodepass-master.service
		said systemctl stop 'nodepass@*.service'
		;;
	openwrt)
		said /etc/init.d/nodepass disable
		said /etc/init.d/nodepass stop
		;;
	esac
	each_file take
	take '' '' "$prefix/bin/nodepass"
	[ "$system" != systemd ] || said systemctl daemon-reload
	if [ -n "$purge" ]; then
		for place in /etc/nodepass /etc/config/nodepass /var/lib/nodepass /var/lib/private/nodepass; do
			[ ! -e "$root$place" ] || did "remove $root$place" rm -rf "$root$place"
		done
	else
		[ ! -e "$root/etc/nodepass" ] || echo "kept $root/etc/nodepass (--purge removes it)"
	fi
}

take() {
	[ ! -e "$root$3" ] || did "remove $root$3" rm -f "$root$3"
}

# did <words> <command>...: does it and says so; or only says so.
did() {
	words="$1"
	shift
	if [ -n "$dry" ]; then
		echo "would $words"
	else
		"$@"
		echo "$words: done"
	fi
}

# said <command>...: runs a command of the system we are on, which may have nothing to do.
said() {
	if [ -n "$dry" ]; then
		[ -n "$root" ] || echo "would run $*"
	elif [ -z "$root" ] && [ -n "$(command -v "$1")" ]; then
		"$@" 2>/dev/null || true
	fi
}

say_next() {
	[ -z "$dry$root" ] || return 0
	case "$system" in
	systemd) echo "Next: put NP_URL=\"...\" into /etc/nodepass/NAME.conf, then systemctl enable --now nodepass@NAME" ;;
	openwrt) echo "Next: edit /etc/config/nodepass, then service nodepass reload" ;;
	none) echo "Next: nodepass help" ;;
	esac
}

fail() {
	echo "Error: $1" >&2
	exit 1
}

main "$@"
