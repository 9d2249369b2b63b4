#!/bin/sh
# Installs nodepass on this machine, or into the folder that DESTDIR names; brings it up to date; takes it away again.
# Needs no network, and nothing but a POSIX shell and the usual small programs (busybox will do).
set -eu

usage() {
	cat <<'END'
Usage: install.sh [options] [BINARY]

Installs BINARY (else nodepass beside this script, else target/release/nodepass), and what belongs to it:
  always       completions of bash, zsh and fish, and the manual page (not on OpenWrt)
  on systemd   the units nodepass@.service and nodepass-master.service
  on OpenWrt   the init script, what upgrades of the system keep, and a configuration if there is none
What is installed already is replaced, each file in one step; what runs goes on until it is restarted.

Options:
  --prefix DIR   where it goes [/usr/local; on OpenWrt /usr]
  --system NAME  systemd, openwrt or none [what this machine, or DESTDIR, looks like]
  --remove       takes away what was installed; configuration and state stay
  --purge        the same, and configuration and state too, keys and all
  --dry-run      says what would be done, and does nothing
  --help         this text

Environment:
  DESTDIR        the root of the system to install into; nothing in it is run
END
}

main() {
	prefix='' system='' action=install_all purge='' dry='' binary=''
	root="${DESTDIR:-}"
	root="${root%/}"
	here="$(cd "$(dirname "$0")" && pwd)"
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
		--prefix | --system)
			[ $# -gt 1 ] || fail "$1 has no value"
			case "$1" in
			--prefix) prefix="$2" ;;
			--system) system="$2" ;;
			esac
			shift
			;;
		--remove) action=remove_all ;;
		--purge) action=remove_all purge=1 ;;
		--dry-run) dry=1 ;;
		--help | -h)
			usage
			exit 0
			;;
		-*) fail "unknown option $1: --help lists all" ;;
		*)
			[ -z "$binary" ] || fail "stray argument \"$1\": expected one file"
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
		"$1" 755 ../cross/openwrt/files/nodepass.init /etc/init.d/nodepass
		"$1" 644 ../cross/openwrt/files/nodepass.keep /lib/upgrade/keep.d/nodepass
		;;
	*)
		"$1" 644 ../docs/nodepass.1 "$prefix/share/man/man1/nodepass.1"
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
	find_binary
	each_file must_exist
	put 755 "$binary" "$prefix/bin/nodepass"
	each_file put_our
	case "$system" in
	systemd) said systemctl daemon-reload ;;
	openwrt)
		[ -e "$root/etc/config/nodepass" ] || put_our 600 ../cross/openwrt/files/nodepass.config /etc/config/nodepass
		did "make /etc/nodepass, for root alone" private "$root/etc/nodepass"
		said /etc/init.d/nodepass enable
		;;
	esac
	[ "$system" = openwrt ] || did "make /etc/nodepass, for root alone" private "$root/etc/nodepass"
	say_next
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
	[ -f "$here/$2" ] || fail "no file $here/$2"
}

# put_our <mode> <source> <place>: a file of ours, in which the program is where it is to be.
put_our() {
	if [ -n "$dry" ]; then
		echo "would install $root$3"
		return
	fi
	scratch="$(mktemp)"
	sed -e "s|/usr/local/bin/nodepass|$prefix/bin/nodepass|" -e "s|^PROG=.*|PROG=$prefix/bin/nodepass|" "$here/$2" >"$scratch"
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
	systemd) echo "Next: put NODEPASS_URL=\"...\" into /etc/nodepass/NAME.conf, then systemctl enable --now nodepass@NAME" ;;
	openwrt) echo "Next: edit /etc/config/nodepass, then service nodepass reload" ;;
	none) echo "Next: nodepass help" ;;
	esac
}

fail() {
	echo "Error: $1" >&2
	exit 1
}

main "$@"
