# Which file of src/ uses which other one, out of what code.awk prints: lines `src/a.rs src/b.rs`. First all files are named
# in the variable `files`; a path is that of the longest module in it that has a file.
BEGIN {
    count = split(files, list, /[ \n]+/)
    for (i = 1; i <= count; i++) { known[list[i]] = 1 }
}
{
    from = $0; sub(/:.*/, "", from)
    text = $0; sub(/^[^ ]* /, "", text)
}
text ~ /^ *(pub(\([a-z:: ]*\))? )?use / { use = ""; using = 1; sub(/^ *(pub(\([a-z:: ]*\))? )?use /, "", text) }
using {
    use = use text
    if (use !~ /;/) { next }
    using = 0
    gsub(/ as [A-Za-z_0-9]+/, "", use); gsub(/[ ;]/, "", use)
    while (match(use, /[^{},]*\{[^{}]*\}/)) {
        group = substr(use, RSTART, RLENGTH); before = substr(use, 1, RSTART - 1); after = substr(use, RSTART + RLENGTH)
        open = index(group, "{"); out = ""
        n = split(substr(group, open + 1, length(group) - open - 1), part, ",")
        for (i = 1; i <= n; i++) { out = out "," substr(group, 1, open - 1) part[i] }
        use = before substr(out, 2) after
    }
    n = split(use, part, ",")
    for (i = 1; i <= n; i++) { arrow(part[i]) }
    next
}
{
    while (match(text, /(crate|super|self|nodepass)(::[a-z_0-9]+)+/)) {
        path = substr(text, RSTART, RLENGTH); text = substr(text, RSTART + RLENGTH)
        arrow(path)
    }
}
# Prints the arrow from `from` to the file that `path` is in.
function arrow(path,    parts, n, i, at, file) {
    n = split(path, parts, "::")
    if (parts[1] !~ /^(crate|super|self|nodepass)$/) { return }
    at = from; sub(/\.rs$/, "", at)
    if (at ~ /^src\/(lib|main)$/ || parts[1] == "crate" || parts[1] == "nodepass") { at = "src" }
    for (i = 1; i <= n && parts[i] ~ /^(crate|super|self|nodepass)$/; i++) {
        if (parts[i] == "super") { sub(/\/[^\/]*$/, "", at) }
    }
    file = ""
    for (; ; i++) {
        if ((at ".rs") in known) { file = at ".rs" }
        if (i > n) { break }
        at = at "/" parts[i]
    }
    if (file != "" && file != from) { print from, file }
}
