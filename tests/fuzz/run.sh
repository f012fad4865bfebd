#!/bin/sh
# Give each libFuzzer program its seeds and a time, and stop at the first finding.
#   tests/fuzz/run.sh BUILD SECONDS TARGET...     TARGET: tests/fuzz/fuzz_NAME
# Seeds come from tools/make_corpus.py, which fills BUILD/corpus/fuzz_NAME; what a run learns stays
# there. A finding is left in BUILD/found/.
set -eu
build=$1 seconds=$2
shift 2
python=.venv/bin/python
[ -x $python ] || python=python3
$python tools/make_corpus.py "$build/corpus"
mkdir -p "$build/found"
for target in "$@"; do
    name=$(basename "$target")
    corpus=$build/corpus/$name
    mkdir -p "$corpus"
    log=$build/$name.log
    # Memory that is asked for and never touched is no finding: large requests may succeed or fail.
    if ! ASAN_OPTIONS=allocator_may_return_null=1 \
        "$build/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1048576 -max_len=1048576 \
        -print_final_stats=1 -artifact_prefix="$build/found/$name-" "$corpus" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "$name: found something, see above and $build/found" >&2
        exit 1
    fi
    printf '%-24s %s runs in %s s, nothing found\n' "$name" \
        "$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")" "$seconds"
done
