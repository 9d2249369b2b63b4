#!/bin/sh
# Figures of the code's structure, as a table for docs/architecture.md. Lines and functions are counted without tests.
set -eu
cd "$(dirname "$0")/.."
files=$(find src -name '*.rs' ! -name tests.rs ! -path '*/tests/*' ! -name testing.rs | sort)
code=$(mktemp)
trap 'rm -f "$code"' EXIT
# shellcheck disable=SC2086
awk -f scripts/code.awk $files >"$code"

echo '| figure | count | which |'
echo '| --- | --- | --- |'

# Lines before a file's tests, comments included.
# shellcheck disable=SC2086
awk '
    FNR == 1 { files++; tests = 0; before = "" }
    before ~ /^#\[cfg\(test\)\]/ && /^mod .*\{/ { tests = 1 }
    { before = $0 }
    !tests { lines[FILENAME]++; all++ }
    END {
        for (file in lines) {
            if (lines[file] > 500) { large = large (large == "" ? "" : ", ") "`" file "` (" lines[file] ")"; count++ }
            if (lines[file] > lines[most]) { most = file }
        }
        printf "| files | %d | %d lines in all, %d in the mean, %d in the longest, `%s` |\n", files, all, all / files, lines[most], most
        printf "| files over 500 lines | %d | %s |\n", count, large == "" ? "-" : large
    }' $files

# A function ends with the brace at its own indentation: rustfmt sees to that.
awk '
    { line = $0; sub(/^[^ ]* /, "", line); where = $0; sub(/ .*/, "", where); split(where, at, ":") }
    !inside && line ~ /^ *(pub(\([a-z:: ]*\))? )?(const |unsafe |async |extern "C" )*fn [a-z_0-9]+/ {
        functions++
        if (line ~ /[;}]$/) { next }
        match(line, /^ */); indent = substr(line, 1, RLENGTH); inside = 1; from = at[2]; name = line
        sub(/.*fn /, "", name); sub(/[^a-z_0-9].*/, "", name)
        next
    }
    inside && (line ~ "^" indent "}" || line ~ "^" indent "[^ ].*;$") {
        inside = 0
        if (at[2] - from + 1 > 60) { long = long (long == "" ? "" : ", ") "`" name "` in `" at[1] "` (" at[2] - from + 1 ")"; count++ }
    }
    END { printf "| functions | %d | |\n| functions over 60 lines | %d | %s |\n", functions, count, long == "" ? "-" : long }' "$code"

# Stand-ins of a build without a transport have the names of what they stand for.
awk '
    $1 ~ /^src\/net\/disabled/ { next }
    match($0, /: *(pub(\([a-z:: ]*\))? )?(struct|enum|trait|union) [A-Z][A-Za-z0-9]*/) {
        name = substr($0, RSTART, RLENGTH); sub(/.* /, "", name)
        if (!names[name]++) { distinct++ } else if (names[name] == 2) { twice++; which = which (which == "" ? "" : ", ") "`" name "`" }
    }
    END { printf "| type names | %d | |\n| used for more than one type | %d (%d %%) | %s |\n", distinct, twice, int(100 * twice / distinct + 0.5), which == "" ? "-" : which }' "$code"

# Panics on purpose: their reasons stand beside them.
awk '/\.unwrap\(\)|\.expect\("|panic!\(|unreachable!\(|todo!\(/ { split($0, at, ":"); files[at[1]]++; count++ }
    END {
        for (file in files) { which = which (which == "" ? "" : ", ") "`" file "`" (files[file] > 1 ? " (" files[file] ")" : "") }
        printf "| `unwrap`, `expect`, `panic!` | %d | %s |\n", count, which == "" ? "-" : which
    }' "$code"

awk -v files="$files" -f scripts/arrows.awk "$code" | sort -u | awk '
    function layer(file,    part, n) { n = split(file, part, "/"); sub(/\.rs$/, "", part[2]); return part[2] }
    { from = layer($1); to = layer($2); if (from == to) { within[from]++ } else { between[from " -> " to]++ } seen[$1, $2]; a[NR] = $1; b[NR] = $2 }
    END {
        for (i = 1; i <= NR; i++) {
            x = a[i]; y = b[i]; sub(/\.rs$/, "/", x); sub(/\.rs$/, "/", y)
            if (a[i] < b[i] && (b[i], a[i]) in seen && index(a[i], y) != 1 && index(b[i], x) != 1) { back++ }
        }
        n = split("logic net run master config", order, " ")
        for (i = 1; i <= n; i++) { all = all (i == 1 ? "" : ", ") order[i] " " within[order[i]] + 0; sum += within[order[i]] }
        m = split("master -> run,master -> net,master -> logic,run -> net,run -> logic,net -> logic,config -> logic", order, ",")
        for (i = 1; i <= m; i++) { other = other (i == 1 ? "" : ", ") order[i] " " between[order[i]] + 0; across += between[order[i]] }
        printf "| arrows within layers | %d | %s |\n| arrows between layers | %d | %s |\n| pairs of files that use each other | %d | a folder and its own parts apart |\n", sum, all, across, other, back
    }'
