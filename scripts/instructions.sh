#!/bin/sh
# Counts what a byte, a datagram and a user cost: instructions of the program itself (valgrind) and system calls (strace). Unlike
# time, both are the same on a busy machine and say something of slower ones.
#
#   scripts/instructions.sh target/release/nodepass              a table
#   scripts/instructions.sh BEFORE AFTER                         both, and the ratios
#   scripts/instructions.sh --short BINARY                       a row for each way
#   scripts/instructions.sh --ways tls,ws --loads down BINARY    some only
#   scripts/instructions.sh --keep FOLDER ...                    profiles for callgrind_annotate stay there
#
# Ways: single, tunnel, tls, ws, h2, quic. Loads: down, up, user, burst, lone. Needs python3, valgrind and strace.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 1; }
exec python3 tests/bench/instructions.py "$@"
