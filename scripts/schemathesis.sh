#!/bin/sh
# Tries the API of a running master against its own description: every call, with what it promises to take and with what
# it does not. Needs python3; NODEPASS names the program (default: the release build). Takes a minute or two.
set -eu
cd "$(dirname "$0")/.."
nodepass=${NODEPASS:-target/release/nodepass}
venv=target/schemathesis
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet 'schemathesis==4.32.5'
fi

work=$(mktemp -d)
master=
clean_up() {
    if [ -n "$master" ]; then
        kill "$master" 2>/dev/null || true
        wait "$master" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
NP_STATE_DIR=$work "$nodepass" "master://127.0.0.1:$port/api?log=info" > "$work/master.log" 2>&1 &
master=$!
key=
for _ in 1 2 3 4 5 6 7 8 9 10; do
    key=$(sed -n 's/.*API Key created: //p' "$work/master.log")
    [ -n "$key" ] && break
    sleep 0.3
done
[ -n "$key" ] || { cat "$work/master.log"; exit 1; }

# What a schema cannot say: which URLs are good (two ports that differ, a host that is none), which instances there are, what is an address,
# and that lengths are in bytes.
cat > "$work/schemathesis.toml" <<TOML
[[operations]]
include-operation-id = ["createInstance", "replaceInstance", "patchInstance", "renameMaster", "liftBans"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "403", "404", "409"]
TOML

# The events are a stream without end, which no request and answer can be made of.
status=0
timeout "${SECONDS_AT_MOST:-240}" "$venv/bin/schemathesis" --config-file "$work/schemathesis.toml" run \
    "http://127.0.0.1:$port/api/v1/openapi.json" -H "X-API-Key: $key" --exclude-path /v1/events \
    --checks all --max-examples "${EXAMPLES:-25}" --seed 1 --continue-on-failure --no-color || status=$?
kill -0 "$master" || { echo "the master has ended"; cat "$work/master.log"; exit 1; }
exit "$status"
