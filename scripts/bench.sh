#!/bin/sh
# Measures NodePass side by side with a direct connection and other programs.
#
#   scripts/bench.sh                 the whole of docs/benchmarks.md, its chart, and the counts of docs/measurements.md, about an hour (root)
#   scripts/bench.sh --quick         one short round, printed only
#   scripts/bench.sh --only conn     one test (conn, bulk, udp, memory), printed only
#   scripts/bench.sh --only far      a path with 50 ms and one that loses 1 % as well (root), printed only
#   scripts/bench.sh --ways single,haproxy      some ways only, printed only
#   scripts/bench.sh --against BINARY [--quick] [--ways tls]   this build and another one in turn: did it get slower?
#
# With --out docs/benchmarks.md what is printed goes there too. Programs: NODEPASS, NGINX, HAPROXY, SOCAT, REALM, RATHOLE and
# ORIGINAL name them; unset, nodepass is built, rathole 0.5 is installed under target/bench, the others are looked for on the
# PATH (the original as nodepass-go114). One that is missing is skipped.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/target/bench
cd "$root"

find_program() { command -v "$1" || PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin command -v "$1" || true; }

NGINX=${NGINX:-$(find_program nginx)}
HAPROXY=${HAPROXY:-$(find_program haproxy)}
SOCAT=${SOCAT:-$(find_program socat)}
REALM=${REALM:-$(find_program realm)}
ORIGINAL=${ORIGINAL:-$(find_program nodepass-go114)}

if [ -z "${NODEPASS:-}" ]; then
    cargo build --release --bin nodepass || echo "bench: nodepass does not build" >&2
    NODEPASS=$root/target/release/nodepass
fi

if [ -z "${RATHOLE:-}" ]; then
    RATHOLE=$cache/rathole/bin/rathole
    if [ ! -x "$RATHOLE" ]; then
        cargo install rathole --version '^0.5' --no-default-features --features server,client \
            --root "$cache/rathole" || echo "bench: rathole could not be installed" >&2
    fi
fi

cargo build --release --quiet --manifest-path tests/bench/Cargo.toml --target-dir "$cache"

work=$(mktemp -d)
bench=
clean_up() {
    # The bench's children die with it: it has asked the kernel for that.
    if [ -n "$bench" ]; then
        kill "$bench" 2>/dev/null || true
        wait "$bench" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

export NODEPASS NGINX HAPROXY SOCAT REALM RATHOLE ORIGINAL

measure() {
    "$cache/release/nodepass-bench" --work "$work" "$@" &
    bench=$!
    status=0
    wait "$bench" || status=$?
    bench=
    return "$status"
}

if [ $# -gt 0 ]; then
    measure "$@"
    exit
fi

# Standard input takes the place of what stands between the marks of instructions on their page.
page=docs/benchmarks.md
counts=docs/measurements.md
instructions() {
    cat > "$work/text"
    awk -v text="$work/text" '
        $0 == "<!-- instructions:end -->" { inside = 0 }
        !inside
        $0 == "<!-- instructions:start -->" {
            inside = 1
            print ""
            while ((getline line < text) > 0) print line
            print ""
        }' "$counts" > "$work/page"
    cat "$work/page" > "$counts"
}

measure --out "$page"
measure --only far --out "$page"
scripts/instructions.sh --short "$NODEPASS" | instructions
