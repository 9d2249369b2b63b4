#!/bin/sh
# No async runtime, anywhere in the tree of dependencies.
set -eu
cd "$(dirname "$0")/.."
found=$(cargo tree --edges normal,build --target all --prefix none --all-features |
    grep -E '^(tokio|async-std|smol|futures|futures-executor|async-executor|async-io|glommio|monoio|embassy-executor)[ -]' || true)
if [ -n "$found" ]; then
    printf 'an async runtime is among the dependencies:\n%s\n' "$found"
    exit 1
fi
