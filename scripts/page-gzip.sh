#!/bin/sh
# Compresses the master's page, which the binary holds in that form alone, and the API's, which it holds in both. To be run after each
# change of them; tests check.
set -eu
cd "$(dirname "$0")/../src/master"
for file in docs.html page/*.html page/*.css page/*.js; do gzip -9 -n -c "$file" > "$file.gz"; done
wc -c docs.html docs.html.gz page/*.gz
