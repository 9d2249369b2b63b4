#!/bin/sh
# Measures NodePass side by side with a direct connection, nginx, haproxy and rathole.
#
#   scripts/bench.sh                 the whole run, about 20 minutes; rewrites the tables of docs/benchmarks.md
#   scripts/bench.sh --quick         one short round, printed only
#   scripts/bench.sh --only conn     one test (conn, bulk, udp, memory), printed only
#   scripts/bench.sh --only far      a path with 50 ms and one that loses 1 % as well (root), printed only
#   scripts/bench.sh --ways single,haproxy      some ways only, printed only
#   scripts/bench.sh --against BINARY [--quick] [--ways tls]   this build and another one in turn: did it get slower?
#
# Programs: NODEPASS, NGINX, HAPROXY and RATHOLE name them; unset, nodepass is built, rathole 0.5 is installed
# under target/bench, nginx and haproxy are looked for. One that is missing is skipped.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/target/bench
cd "$root"

find_program() { command -v "$1" || PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin command -v "$1" || true; }

NGINX=${NGINX:-$(find_program nginx)}
HAPROXY=${HAPROXY:-$(find_program haproxy)}

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

# Only a whole run may speak in the documentation.
if [ $# -eq 0 ]; then
    set -- --out "$root/docs/benchmarks.md"
fi

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

export NODEPASS NGINX HAPROXY RATHOLE
"$cache/release/nodepass-bench" --work "$work" "$@" &
bench=$!
status=0
wait "$bench" || status=$?
bench=
exit "$status"
