#!/bin/sh
# What a tunnel's two processes hold at rest, by pool size, TLS and transport, as a table for docs/measurements.md:
#
#   scripts/rest.sh target/cross/nodepass-x86_64 [more binaries]
#
# POOLS="tls=0 tls=1&type=1" chooses; by default tls=0 and tls=1. SIZES="8 64 1024" likewise.
#
# Each pool is filled and left alone for nine seconds, in which each side says that it is there. RSS is what is resident, private what no other process shares.
set -eu

work=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# weigh NAME PID: a row.
weigh() {
    awk -v name="$1" -v threads="$(find "/proc/$2/task" -mindepth 1 -maxdepth 1 | wc -l)" \
        -v files="$(find "/proc/$2/fd" -mindepth 1 -maxdepth 1 | wc -l)" '
        $1 == "Rss:" { rss = $2 }
        $1 ~ /^Private_/ && $1 !~ /Hugetlb/ { private += $2 }
        END { printf "| %s | %d | %d | %d | %d |\n", name, rss, private, threads, files }' "/proc/$2/smaps_rollup"
}

# filled PID COUNT: waits until a process holds so many descriptors, and no more come; a pool of streams, which have none,
# is given ten seconds.
filled() {
    for _ in $(seq "$3"); do
        [ "$(find "/proc/$1/fd" -mindepth 1 -maxdepth 1 | wc -l)" -lt "$2" ] || break
        sleep 0.2
    done
    sleep 9
}

printf '| process | RSS KiB | private KiB | threads | descriptors |\n| --- | ---: | ---: | ---: | ---: |\n'
for binary; do
    name=$(basename "$binary")
    for pool in ${POOLS:-tls=0 tls=1}; do
        case $pool in *type=1* | *type=3*) wait=50 ;; *) wait=150 ;; esac
        for min in ${SIZES:-8 64 1024}; do
            target=$(port) tunnel=$(port) user=$(port)
            "$binary" "server://rest@127.0.0.1:$tunnel/127.0.0.1:$user?mode=1&$pool&log=none" &
            server=$!
            sleep 1
            "$binary" "client://rest@127.0.0.1:$tunnel/127.0.0.1:$target?mode=2&min=$min&log=none" &
            client=$!
            pids="$server $client"
            filled "$client" "$min" "$wait"
            weigh "$name server, pool $min, $pool" "$server"
            weigh "$name client, pool $min, $pool" "$client"
            kill "$server" "$client"
            wait "$server" "$client" || true
            pids=
        done
    done
done
