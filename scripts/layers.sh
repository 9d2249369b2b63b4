#!/bin/sh
# The layers of src/ and what they may use: arrows only point down (docs/architecture.md).
set -eu
cd "$(dirname "$0")/.."
bad=0

# forbid FOLDER PATTERN WHY: code lines only, comments and tests apart.
forbid() {
    found=$(find "$1" -name '*.rs' ! -name tests.rs | while read -r file; do
        awk -v file="$file" '/^#\[cfg\(test\)\]/ { exit } !/^[[:space:]]*\/\// { print file ":" FNR ": " $0 }' "$file"
    done | grep -E "$2" || true)
    if [ -n "$found" ]; then
        printf '%s: %s\n%s\n' "$1" "$3" "$found"
        bad=1
    fi
}

forbid src/logic 'mio::|std::io|std::thread|std::sync::mpsc|SystemTime|Instant::now|SystemRandom|rand::|TcpStream|UdpSocket' \
    'logic is pure: no sockets, clock, threads or randomness'
forbid src/logic 'crate::(net|run|config|master)' 'logic uses nothing above it'
forbid src/net 'crate::(run|master|config)|thread::sleep|Instant::now' 'net uses logic only, and never waits'
forbid src/heap 'crate::' 'the heap uses nothing'
forbid src/run 'crate::master|thread::sleep' 'run knows nothing of the master, and never sleeps'
forbid src 'Rc<RefCell|Arc<Mutex' 'one owner for everything'

# The clock is read in two places: at the start, and once a turn.
clocks=$(grep -rnE 'Instant::now\(\)' src/run | grep -vE '^src/run/(event_loop|start).rs' || true)
if [ -n "$clocks" ]; then
    printf 'the clock is read outside the turn:\n%s\n' "$clocks"
    bad=1
fi
# A child that is just starting has copies of all sockets and locks: what a test beside it closes stays open for a moment.
children=$(grep -rln 'process::Command\|process::{.*Command' src | grep -v '^src/master/child.rs$' || true)
if [ -n "$children" ]; then
    printf 'a child is started outside src/master/child.rs (tests that need one belong into tests/):\n%s\n' "$children"
    bad=1
fi
children=$(grep -rnE '\.(spawn|output|status)\(\)' tests --include='*.rs' | grep -vE '^tests/(support/process.rs|bench)' || true)
if [ -n "$children" ]; then
    printf 'a child of a test that support::start_child knows nothing of:\n%s\n' "$children"
    bad=1
fi
exit $bad
