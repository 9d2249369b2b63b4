# The code of Rust files without comments and without what is compiled for tests alone, each line as `file:number: text`.
# An item that begins at some indentation ends with a brace, or a semicolon, at the same one: rustfmt sees to that.
FNR == 1 { skip = 0 }
skip && match($0, "^" indent "[^ ]") {
    if ($0 ~ "^" indent "}" || ($0 !~ "^" indent "#" && $0 ~ /[;}]$/)) { skip = 0 }
    next
}
skip { next }
/^ *#\[cfg\((all\()?test/ { match($0, /^ */); indent = substr($0, 1, RLENGTH); skip = 1; next }
/^[[:space:]]*\/\// { next }
{ print FILENAME ":" FNR ": " $0 }
