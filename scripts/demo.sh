#!/bin/sh
# A working tunnel on this machine: a target, a server, a client, and a request through both. Everything ends with it.
set -eu
cd "$(dirname "$0")/.."
nodepass=${NODEPASS:-target/release/nodepass}
work=$(mktemp -d)
trap 'kill $pids 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
pids=

say() { printf '\033[1m%s\033[0m\n' "$*"; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
target=$(port) tunnel=$(port) public=$(port)

say "1. A target that only this machine can reach: http://127.0.0.1:$target/"
echo "Hello through the tunnel." > "$work/index.html"
(cd "$work" && exec python3 -m http.server --bind 127.0.0.1 "$target" >/dev/null 2>&1) &
pids="$pids $!"

say "2. The server, where users come in:"
echo "   nodepass 'server://secret@127.0.0.1:$tunnel/127.0.0.1:$public?mode=1&tls=1'"
"$nodepass" "server://secret@127.0.0.1:$tunnel/127.0.0.1:$public?mode=1&tls=1" > "$work/server.log" 2>&1 &
pids="$pids $!"

for _ in 1 2 3 4 5 6 7 8 9 10; do
    grep -q "Waiting for a client" "$work/server.log" && break
    sleep 0.2
done

say "3. The client, next to the target:"
echo "   nodepass 'client://secret@127.0.0.1:$tunnel/127.0.0.1:$target?mode=2'"
"$nodepass" "client://secret@127.0.0.1:$tunnel/127.0.0.1:$target?mode=2" > "$work/client.log" 2>&1 &
pids="$pids $!"

say "4. A user asks the server's public port: curl http://127.0.0.1:$public/"
if answer=$(curl --silent --show-error --fail --retry 20 --retry-delay 1 --retry-all-errors --max-time 30 "http://127.0.0.1:$public/" 2>"$work/curl.log"); then
    printf '   -> %s\n' "$answer"
else
    cat "$work/curl.log" "$work/server.log" "$work/client.log"
    exit 1
fi

say "What the server said:"
sed 's/^/   /' "$work/server.log"
say "What the client said:"
sed 's/^/   /' "$work/client.log"
[ "$answer" = "Hello through the tunnel." ] && say "It works."
