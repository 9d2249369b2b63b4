#!/bin/sh
# Compresses the API's page, which the binary holds in both forms. To be run after each change of it; a test checks.
set -eu
cd "$(dirname "$0")/../src/master"
gzip -9 -n -c docs.html > docs.html.gz
wc -c docs.html docs.html.gz
