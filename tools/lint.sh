#!/bin/sh
# clang-tidy (by .clang-tidy) and cppcheck over the given sources; fails on the first kind of finding.
#   tools/lint.sh BUILD JOBS SOURCE...     BUILD holds the generated proto/onnx.pb-c.h
set -eu
build=$1 jobs=$2
shift 2

# clang-tidy over the files whose names are read, for a processor that runs them.
tidy() {
    # shellcheck disable=SC2086 # an empty $1 is no word
    xargs -P "$jobs" -n 4 sh -c '
        build=$1 march=$2; shift 2
        clang-tidy --quiet "$@" -- -std=c11 -D_GNU_SOURCE -I. -I"$build" $march 2>/dev/null' tidy "$build" "$1" >>"$build/tidy.out" || found=1
}
case $(uname -m) in x86_64) most=-march=x86-64-v4 avx2=-march=x86-64-v3 ;; *) most= avx2= ;; esac
found=0
: >"$build/tidy.out"
printf '%s\n' "$@" | grep '_avx2\.c$' >"$build/tidy.avx2"
printf '%s\n' "$@" | grep -v '_avx2\.c$' >"$build/tidy.rest"
tidy "$avx2" <"$build/tidy.avx2"
tidy "$most" <"$build/tidy.rest"
if [ "$found" = 1 ]; then
    cat "$build/tidy.out"
    echo "lint: clang-tidy found the above" >&2
    exit 1
fi
echo "clang-tidy: nothing found in $# files"

cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -j "$jobs" \
    --suppressions-list=tools/cppcheck.supp -D_GNU_SOURCE -I. -I"$build" "$@" || { echo "lint: cppcheck found the above" >&2; exit 1; }
echo "cppcheck: nothing found"
