#!/bin/sh
# The layers of src/ and what they may use: arrows only point down, and none goes both ways (docs/architecture.md).
set -eu
cd "$(dirname "$0")/.."
bad=0
files=$(find src -name '*.rs' ! -name tests.rs ! -path '*/tests/*' | sort)
# shellcheck disable=SC2086
code=$(awk -f scripts/code.awk $files)

# forbid FILES PATTERN WHY: lines of code in files whose names begin like this.
forbid() {
    found=$(printf '%s\n' "$code" | grep "^$1" | grep -E ": .*($2)" || true)
    if [ -n "$found" ]; then
        printf '%s: %s\n%s\n' "$1" "$3" "$found"
        bad=1
    fi
}

forbid src/logic/ 'mio::|std::io|std::thread|std::sync::mpsc|SystemTime|Instant::now|SystemRandom|rand::|TcpStream|UdpSocket' \
    'logic is pure: no sockets, clock, threads or randomness'
forbid src/logic/ 'crate::(net|run|config|master|check|log|heap|code_pages)[^a-z_]' 'logic uses nothing above it'
forbid src/net/ 'crate::(run|master|check|config|log|heap|code_pages)[^a-z_]|thread::sleep|Instant::now' 'net uses logic only, and never waits'
forbid src/run/ 'crate::(master|check)[^a-z_]|thread::sleep' 'run knows nothing of the master, and never sleeps'
forbid src/master/ 'crate::check[^a-z_]' 'the master runs instances, and checks none'
forbid src/config 'crate::(net|run|master|check|heap|code_pages)[^a-z_]' 'config uses values of logic, and how the log shows text'
forbid src/check/ 'crate::(heap|code_pages)[^a-z_]' 'a check is no instance'
forbid 'src/log[.]' '[^$]crate::' 'the log uses nothing'
forbid 'src/notify[.]' 'crate::' 'what a service manager is told uses nothing'
forbid src/heap 'crate::' 'the heap uses nothing'
forbid 'src/error[.]' 'crate::' 'errors use nothing: every layer uses them'
forbid src/ 'Rc<RefCell|Arc<Mutex' 'one owner for everything'

# The clock is read in two places: at the start, and once a turn.
clocks=$(printf '%s\n' "$code" | grep '^src/run/.*Instant::now()' | grep -vE '^src/run/(poller|start).rs' || true)
if [ -n "$clocks" ]; then
    printf 'the clock is read outside the turn:\n%s\n' "$clocks"
    bad=1
fi

# No file uses one that uses it back, but a folder and its own parts: x.rs and x/*.rs.
# shellcheck disable=SC2086
pairs=$(printf '%s\n' "$code" | awk -v files="$files" -f scripts/arrows.awk | sort -u | awk '
    { seen[$1, $2]; from[NR] = $1; to[NR] = $2 }
    END {
        for (i = 1; i <= NR; i++) {
            a = from[i]; b = to[i]; part_a = a; part_b = b
            sub(/\.rs$/, "/", part_a); sub(/\.rs$/, "/", part_b)
            if (a < b && (b, a) in seen && index(a, part_b) != 1 && index(b, part_a) != 1) { print a, b }
        }
    }')
if [ -n "$pairs" ]; then
    printf 'files that use each other:\n%s\n' "$pairs"
    bad=1
fi

# A child that is just starting has copies of all sockets and locks: what a test beside it closes stays open for a moment.
children=$(grep -rln 'process::Command\|process::{.*Command' src | grep -vE '^src/(master/child|run/following).rs$' || true)
if [ -n "$children" ]; then
    printf 'a child is started outside src/master/child.rs and src/run/following.rs (tests that need one belong into tests/):\n%s\n' "$children"
    bad=1
fi
children=$(grep -rnE '\.(spawn|output|status)\(\)' tests --include='*.rs' | grep -vE '^tests/(support/process.rs|bench|soak)' || true)
if [ -n "$children" ]; then
    printf 'a child of a test that support::start_child knows nothing of:\n%s\n' "$children"
    bad=1
fi
exit $bad
