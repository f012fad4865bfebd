#!/bin/sh
# clang-tidy (by .clang-tidy) and cppcheck over the given sources; fails on the first kind of finding.
#   tools/lint.sh BUILD JOBS SOURCE...     BUILD holds the generated proto/onnx.pb-c.h
set -eu
build=$1 jobs=$2
shift 2

# Every processor variant can be read at once when all instruction sets are on.
case $(uname -m) in x86_64) march=-march=x86-64-v4 ;; *) march= ;; esac
# shellcheck disable=SC2086 # an empty $march is no word
if ! printf '%s\n' "$@" | xargs -P "$jobs" -n 4 sh -c '
    build=$1 march=$2; shift 2
    clang-tidy --quiet "$@" -- -std=c11 -D_GNU_SOURCE -I. -I"$build" $march 2>/dev/null' tidy "$build" "$march" \
    >"$build/tidy.out"; then
    cat "$build/tidy.out"
    echo "lint: clang-tidy found the above" >&2
    exit 1
fi
echo "clang-tidy: nothing found in $# files"

cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -j "$jobs" \
    --suppressions-list=tools/cppcheck.supp -D_GNU_SOURCE -I. -I"$build" "$@" || { echo "lint: cppcheck found the above" >&2; exit 1; }
echo "cppcheck: nothing found"
