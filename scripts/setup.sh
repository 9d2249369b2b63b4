#!/bin/sh
# Looks whether this machine has what a make target needs, and names all that is missing with the one command that brings it.
# With Debian's packages it runs that command: at once as root or where CI is set, on a terminal after a yes.
#
#   scripts/setup.sh demo     to build what the demo needs
#   scripts/setup.sh build    also the whole program
#   scripts/setup.sh dist     also static binaries for other machines, and packages
#   scripts/setup.sh test     also programs that tests use; without them those tests are skipped
set -eu
cd "$(dirname "$0")/.."

# One line a need: the first set that has it, what to look for, and the packages that bring it on Debian, Fedora, Arch and Alpine,
# joined by commas; - where there is none, @ for what tells Debian's newer Rust from the release's own. A path is looked for as it is, with patterns; a word as a program.
needs() {
    cat <<'END'
demo  cc                        gcc                   gcc               gcc               gcc
demo  /usr/include/stdio.h      libc6-dev             glibc-devel       glibc             musl-dev
demo  make                      make                  make              make              make
demo  certificates              ca-certificates       ca-certificates   ca-certificates   ca-certificates
build c++                       g++                   gcc-c++           gcc               g++
build cmake                     cmake                 cmake             cmake             cmake
build git                       git                   git               git               git
build libclang                  libclang-dev          clang-devel       clang             clang-dev
dist  python3                   python3               python3           python            python3
dist  python3:ensurepip         python3-venv          python3           python            python3
dist  patch                     patch                 patch             patch             patch
dist  dpkg-deb                  dpkg                  dpkg              dpkg              dpkg
test  cargo-fmt                 rustfmt@              rustfmt           rust              rustfmt
test  cargo-clippy              rust@-clippy          clippy            rust              rust-clippy
test  curl                      curl                  curl              curl              curl
test  openssl                   openssl               openssl           openssl           openssl
test  nginx                     nginx                 nginx             nginx             nginx
test  /usr/lib*/nginx/modules/ngx_stream_module.so libnginx-mod-stream nginx-mod-stream nginx-mod-stream nginx-mod-stream
test  haproxy                   haproxy               haproxy           haproxy           haproxy
test  mosquitto                 mosquitto             mosquitto         mosquitto         mosquitto
test  mosquitto_pub             mosquitto-clients     mosquitto         mosquitto         mosquitto-clients
test  sshd                      openssh-server        openssh-server    openssh           openssh
test  scp                       openssh-client        openssh-clients   openssh           openssh
test  vsftpd                    vsftpd                vsftpd            vsftpd            vsftpd
test  wg                        wireguard-tools       wireguard-tools   wireguard-tools   wireguard-tools
test  wireguard-go              wireguard-go          -                 -                 wireguard-go
test  iperf3                    iperf3                iperf3            iperf3            iperf3
test  dnsmasq                   dnsmasq               dnsmasq           dnsmasq           dnsmasq
test  dig                       dnsutils              bind-utils        bind              bind-tools
test  ip                        iproute2              iproute           iproute2          iproute2
test  iptables                  iptables              iptables          iptables          iptables
test  strace                    strace                strace            strace            strace
test  ps                        procps                procps-ng         procps-ng         procps
test  unshare                   util-linux            util-linux        util-linux        util-linux-misc
test  qemu-aarch64-static       qemu-user-static      qemu-user-static  qemu-user-static  -
test  shellcheck                shellcheck            ShellCheck        shellcheck        shellcheck
test  chromium                  chromium              chromium          chromium          chromium
test  chromedriver              chromium-driver       chromedriver      chromium          chromium-chromedriver
test  tinyproxy                 tinyproxy             tinyproxy         tinyproxy         tinyproxy
test  busybox                   busybox               busybox           busybox           busybox
test  zsh                       zsh                   zsh               zsh               zsh
test  fish                      fish                  fish              fish              fish
test  mandoc                    mandoc                mandoc            mandoc            mandoc
test  nroff                     groff-base            groff-base        groff             groff
test  systemd-analyze           systemd               systemd           systemd           -
test  buildah                   buildah               buildah           buildah           buildah
test  lintian                   lintian               lintian           lintian           -
test  rpmbuild                  rpm                   rpm-build         rpm-tools         -
test  promtool                  prometheus            golang-github-prometheus prometheus   prometheus
test  amtool                    prometheus-alertmanager golang-github-prometheus-alertmanager alertmanager alertmanager
END
}

main() {
    case ${1-} in
    demo) sets="demo" ;;
    build) sets="demo build" ;;
    dist) sets="demo build dist" ;;
    test) sets="demo build dist test" ;;
    *) fail "which set? scripts/setup.sh demo, build, dist or test" ;;
    esac
    installed=''
    find_missing
    [ -n "$missing$rust" ] || return 0
    if may_install; then
        as_root apt-get update -qq || say "the lists of packages are old: apt-get update fails"
    fi
    choose_packages
    tell
    [ -z "$packages" ] || install
    settle
}

# Sets missing to the needs that are not met, required to those of them that a build cannot do without, wanted to their lines of the
# table, and rust to what is wrong with Rust: Cargo.toml says which version is new enough.
find_missing() {
    missing='' required='' wanted=''
    lines=$(needs)
    while read -r set need brings; do
        case " $sets " in
        *" $set "*) ;;
        *) continue ;;
        esac
        ! has "$need" || continue
        missing="${missing:+$missing, }$need"
        wanted="$wanted$brings
"
        [ "$set" = test ] || required="${required:+$required, }$need"
    done <<END
$lines
END
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    here=''
    ! cargo --version >/dev/null 2>&1 || here=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
    rust=''
    newer "$here" "$least" || rust="Rust $least or newer with cargo (here: ${here:-none})"
}

has() {
    case $1 in
    libclang) has_libclang ;;
    certificates) there '/etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem' ;;
    python3:*) python3 -c "import ${1#*:}" 2>/dev/null ;;
    /*) there "$1" ;;
    *) (PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin && command -v "$1" >/dev/null) ;;
    esac
}

# there PATTERN ...: whether a file of one of these names is there.
there() {
    # shellcheck disable=SC2048
    for file in $*; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

# The library and the compiler's own headers, in the places where bindgen looks.
has_libclang() {
    [ -z "${LIBCLANG_PATH-}" ] || return 0
    there '/usr/lib*/llvm*/lib*/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*/libclang*.so*' &&
        there '/usr/lib*/llvm*/lib*/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h'
}

# newer VERSION LEAST: whether the first two numbers of a version are at least these.
newer() {
    [ -n "$1" ] && awk -v here="$1" -v least="$2" 'BEGIN {
        split(here, h, "."); split(least, l, ".")
        exit !(h[1] + 0 > l[1] + 0 || (h[1] == l[1] && h[2] + 0 >= l[2] + 0)) }'
}

# Sets packages to what brings all that is missing, and manager to the command that takes them.
choose_packages() {
    column=0 packages='' rust_brings=''
    for each in 'apt-get install -y --no-install-recommends' 'dnf install' 'pacman -S --needed' 'apk add'; do
        column=$((column + 1)) manager=$each
        command -v "${each%% *}" >/dev/null || continue
        [ "$column" != 1 ] || find_flavour
        packages=$(printf %s "$wanted" | awk -v at=$column '$at != "-" { print $at }' | tr , '\n' | sed "s/@/${flavour-}/" |
            sort -u | tr '\n' ' ')
        [ -z "$rust" ] || rust_brings=$(rust_packages)
        packages=$packages$rust_brings
        packages=${packages% }
        return 0
    done
    manager=''
}

# Debian keeps a newer Rust beside the release's own, for browsers. Sets flavour to what its packages have in their names, and
# candidate to whether it is new enough.
find_flavour() {
    for flavour in '' -web; do
        candidate=$(apt-cache policy "cargo$flavour" 2>/dev/null | sed -n 's/^ *Candidate: //p')
        ! newer "$candidate" "$least" || return 0
    done
    candidate=''
}

# The packages of Rust, where they bring one that is new enough. The systems but Debian follow Rust closely: an old one there
# does not come from them.
rust_packages() {
    case ${manager%% *} in
    apt-get) [ -z "$candidate" ] || echo "rustc$flavour cargo$flavour" ;;
    pacman) [ -n "$here" ] || echo rust ;;
    *) [ -n "$here" ] || echo "rust cargo" ;;
    esac
}

# Everything at once: what is missing, and the command; Rust in a line of its own where no package brings it.
tell() {
    packaged=${rust_brings:+$rust}
    [ -z "$missing$packaged" ] || say "missing: $missing${packaged:+${missing:+, }$packaged}"
    [ -z "$packages" ] || say "this brings it:  $(sudo_word)$manager $packages"
    [ -z "$rust" ] || [ -n "$packaged" ] || say "$rust is needed:  $(rust_advice)"
}

rust_advice() {
    if command -v rustup >/dev/null; then
        echo "rustup update stable && rustup default stable"
    elif [ -x "${CARGO_HOME:-${HOME-}/.cargo}/bin/cargo" ]; then
        echo "PATH=${CARGO_HOME:-$HOME/.cargo}/bin:\$PATH"
    else
        echo "curl --proto '=https' -sSf https://sh.rustup.rs | sh   (https://rustup.rs)"
    fi
}

sudo_word() {
    if [ "$(id -u)" != 0 ]; then echo "sudo "; fi
}

# Whether packages may be installed without a question.
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || { [ -n "${CI-}" ] && command -v sudo >/dev/null; }
}

install() {
    if ! may_install; then
        agreed || return 0
        as_root apt-get update -qq || say "the lists of packages are old: apt-get update fails"
    fi
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive $manager -qq $packages >/dev/null || fail "apt-get could not install it"
    hash -r
    installed=yes
    find_missing
}

# Whether the one at the terminal says yes.
agreed() {
    command -v apt-get >/dev/null && command -v sudo >/dev/null && [ -t 0 ] && [ -t 2 ] || return 1
    printf 'setup: run it now? [Y/n] ' >&2
    read -r answer || return 1
    case $answer in
    '' | y | Y | yes) return 0 ;;
    esac
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# What follows from what is still missing.
settle() {
    if [ -n "$required$rust" ]; then
        [ -z "$installed" ] || say "still missing: $required${required:+${rust:+, }}$rust"
        exit 1
    elif [ -n "$missing" ]; then
        say "going on: tests that need $missing are skipped"
    fi
}

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

main "$@"
