#!/bin/sh
# Install the Debian packages that are missing for the named groups, and nothing when none is.
#   tools/deps.sh [--list] GROUP...     groups: build run test lint fuzz cov bench neon memcheck image
# Needs root or sudo only when something is missing; without either it names what to install.
set -eu

packages() {
    case $1 in
    build) echo gcc libc6-dev make pkg-config protobuf-c-compiler libprotobuf-c-dev libmicrohttpd-dev \
        libcjson-dev libjpeg62-turbo-dev libturbojpeg0-dev libpng-dev zlib1g-dev libxxhash-dev libpcre2-dev libwebp-dev libgnutls28-dev ;;
    run) echo python3 python3-venv curl ;;
    test) echo python3 python3-venv curl procps libonnx-testdata chromium \
        libtiff-dev libopenjp2-7-dev ;; # for ImageDecoder, which does without where they are not
    lint) echo clang-tidy clang-format cppcheck ;;
    fuzz) echo clang llvm libclang-rt-dev ;;
    cov) echo lcov ;;
    bench) echo wrk ;;
    memcheck) echo valgrind ;;
    image) echo buildah debootstrap curl ;;
    neon) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user ;;
    *) echo "deps.sh: unknown group '$1'; there are build, run, test, lint, fuzz, cov, bench, neon, memcheck, image" >&2; exit 2 ;;
    esac
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

list=no
if [ "${1:-}" = --list ]; then list=yes; shift; fi
[ $# -gt 0 ] || { echo "deps.sh: name at least one group" >&2; exit 2; }

if ! command -v dpkg-query >/dev/null; then
    [ $list = yes ] || echo "deps.sh: no dpkg here: install the packages of README's list by your system's means" >&2
    exit 0
fi

missing=
for group in "$@"; do
    names=$(packages "$group")
    for p in $names; do
        case " $missing " in *" $p "*) continue ;; esac
        [ $list = yes ] || ! installed "$p" || continue
        missing="$missing $p"
    done
done
missing=${missing# }
if [ $list = yes ]; then echo "$missing"; exit 0; fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then as=
elif command -v sudo >/dev/null; then as=sudo
else
    echo "deps.sh: neither root nor sudo; as root run: apt-get install $missing" >&2
    exit 1
fi
echo "installing: $missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # shellcheck disable=SC2086 # the list is words, and so is an empty $as
    $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >"$log" 2>&1 </dev/null
}
# Stale package lists are refreshed once, whether that was the cause or not.
install || { $as apt-get update -q >"$log" 2>&1 </dev/null && install; } || { cat "$log" >&2; exit 1; }
