#!/bin/sh
# A compiler, linker or archiver for one target: zig, called by the name of the tool that it stands for (cc, c++, ar, ranlib).
# The target comes in by CROSS_ZIG_TARGET and CROSS_ZIG_CPU.
set -eu

tool=$(basename "$0")
case $tool in
ar | ranlib) exec "$CROSS_ZIG" "$tool" "$@" ;;
esac

# The program that is linked, if this is no compilation.
linked='' output=''
for arg; do
    [ "$output" != next ] || linked=$arg
    output=''
    case $arg in
    -o) output=next ;;
    -c | -E | -S | -r) linked='' && break ;;
    esac
done

# Each argument goes from the front of the list to its end, changed where zig wants another word.
count=$#
while [ "$count" -gt 0 ]; do
    arg=$1
    shift
    count=$((count - 1))
    case $arg in
    # Assembler sources are written for ARM's own instructions; the linker joins them with Thumb's.
    *.S) CROSS_ZIG_TARGET=$(echo "$CROSS_ZIG_TARGET" | sed s/^thumb-/arm-/) && set -- "$@" "$arg" ;;
    # The target's name in Rust's words; zig has its own below.
    --target=*) ;;
    # The linker is told the machine by the target, and knows no other word for it.
    -Wl,-melf_i386) ;;
    # zig ignores -static-pie without a word; the pair makes what it means.
    -static-pie) set -- "$@" -static -pie ;;
    # Rust asks for a fixed address on these machines, though its code can be anywhere: let the kernel choose (ASLR).
    -no-pie)
        case $CROSS_ZIG_TARGET in
        mips*) set -- "$@" "$arg" ;;
        *) set -- "$@" -pie ;;
        esac
        ;;
    *) set -- "$@" "$arg" ;;
    esac
done
# The program ends on panic, so nothing is ever unwound; what is not called is left out, function by function.
set -- "$CROSS_ZIG" "$tool" -fno-unwind-tables -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections \
    -target "$CROSS_ZIG_TARGET" -mcpu="$CROSS_ZIG_CPU" -fno-sanitize=undefined "$@"
[ -n "$linked" ] || exec "$@"

# zig knows the linker but not all of its words: it links once and says how, and the same is done again with them. Addresses that are to be
# moved take a bit each instead of 8 to 24 bytes, functions that are the same are there once, and strings share their ends.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
ZIG_VERBOSE_LINK=1 "$@" 2>"$said" || { status=$? && cat "$said" >&2 && exit $status; }
# shellcheck disable=SC2046
set -- $(grep '^ld\.lld ' "$said" | grep -F -- " -o $linked " | tail -n 1 | sed 's/ --eh-frame-hdr / /')
[ $# -gt 0 ] || { echo "zig.sh: zig does not say how it linked $linked" >&2 && exit 1; }
"$CROSS_ZIG" "$@" -O2 --pack-dyn-relocs=relr --icf=all
