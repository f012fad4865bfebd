#!/bin/sh
# Run each given test program and add up what their closing lines say. A program that dies counts as
# one failure.
passed=0 failed=0
for t in "$@"; do
    out=$("$t" 2>&1); rc=$?
    line=$(printf '%s\n' "$out" | tail -n 1)
    p=$(printf '%s\n' "$line" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1/p')
    f=$(printf '%s\n' "$line" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\2/p')
    if [ -z "$p" ] || { [ $rc -ne 0 ] && [ "$f" = 0 ]; }; then p=0 f=1; fi
    [ $rc -eq 0 ] || printf '== %s (exit %d)\n%s\n' "$t" $rc "$out"
    passed=$((passed + p)) failed=$((failed + f))
done
printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
