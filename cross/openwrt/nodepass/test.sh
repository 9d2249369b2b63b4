#!/bin/sh
# Run by the feed's checks on the target, with the package's name and version.

case "$1" in
nodepass-full | nodepass-lite) ;;
*) exit 0 ;;
esac

case "$(nodepass version)" in
"nodepass ${2%%-*} linux/"*) ;;
*) exit 1 ;;
esac

# A value that cannot be used is told, with the status of an unusable URL.
said="$(nodepass 'client://:1/127.0.0.1:2?tls=7' 2>&1)"
[ $? = 1 ] || exit 1
case "$said" in
*'bad parameter tls "7"'*) ;;
*) exit 1 ;;
esac
