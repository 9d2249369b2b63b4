#!/bin/sh
# Compresses the master's page, which the binary holds in that form alone. To be run after each change of it; a test checks.
set -eu
cd "$(dirname "$0")/../src/master/page"
for file in *.html *.css *.js; do gzip -9 -n -c "$file" > "$file.gz"; done
wc -c ./*.gz
