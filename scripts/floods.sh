#!/bin/sh
# Floods, and what a handshake costs: the tables of docs/measurements.md. Needs root, `ip`, /dev/net/tun and openssl.
#
#   scripts/floods.sh target/release/nodepass            one binary
#   scripts/floods.sh BEFORE AFTER                        two, in turn
#
# Each figure is the median of ROUNDS (5). TESTS chooses: by default all five measurements.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 1; }

tests=${TESTS:-held_http2_connections wrong_tokens forged_udp_sources connects_while_a_client_is_far_away handshakes}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo test --quiet --test system --no-run
for round in $(seq "${ROUNDS:-5}"); do
    for binary; do
        name=this
        if [ $# -gt 1 ]; then name=after; [ "$binary" != "$1" ] || name=before; fi
        for test in $tests; do
            echo "floods: round $round, $name, $test" >&2
            NODEPASS=$(realpath "$binary") cargo test --quiet --test system "netns::floods::$test" -- --ignored --nocapture --exact 2>&1 |
                sed -n "s#^\(FLOOD\|HANDSHAKE\)|#\1|$name|#p" | tee -a "$work/rows" >&2
        done
    done
done

# medians FIELDS: rows of the same name become one, each figure the median, each word that of the last round.
medians() {
    awk -F '|' -v OFS=' | ' '
        { key = $3 OFS $2; if (!(key in count)) order[++keys] = key; row = ++count[key]; fields = NF
          for (field = 4; field <= NF; field++) value[key, field, row] = $field }
        END {
            for (number = 1; number <= keys; number++) {
                key = order[number]; line = "| " key
                for (field = 4; field <= fields; field++) {
                    rows = count[key]
                    for (one = 1; one <= rows; one++) sorted[one] = value[key, field, one]
                    if (sorted[1] ~ /^[0-9.]+$/)
                        for (one = 2; one <= rows; one++)
                            for (other = one; other > 1 && sorted[other - 1] + 0 > sorted[other] + 0; other--) {
                                swap = sorted[other]; sorted[other] = sorted[other - 1]; sorted[other - 1] = swap
                            }
                    line = line OFS (sorted[1] ~ /^[0-9.]+$/ ? sorted[int((rows + 1) / 2)] : sorted[rows])
                }
                print line " |"
            }
        }'
}

if grep -q '^FLOOD' "$work/rows"; then
    echo '| flood | binary | users served | not served | p50 ms | p99 ms | memory before, MiB | at most | CPU s | lines of log | |'
    echo '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |'
    grep '^FLOOD' "$work/rows" | sort -t '|' -k 3,3 -s | medians
fi
if grep -q '^HANDSHAKE' "$work/rows"; then
    echo
    echo '| mode | binary | server, CPU ms | client, CPU ms | start to the first user, ms | round trips | the same 200 ms away, ms |'
    echo '| --- | --- | ---: | ---: | ---: | ---: | ---: |'
    grep '^HANDSHAKE' "$work/rows" | sort -t '|' -k 3,3 -s | medians
fi
