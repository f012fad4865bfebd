#!/bin/sh
# Build the Docker image with buildah and try it: size, then the program in it as an unprivileged user on a
# read-only file system, with the models of a folder served, probed and asked.
#   tools/try_image.sh [MODELS [PICTURE]]      as root
# Where no image registry is at hand the base is made by debootstrap; BASE=IMAGE names another one.
set -eu
models=${1:-demo} picture=${2:-../shared/images/bus.jpg} port=${PORT:-8765} base=${BASE:-localhost/debian:12}
[ "$(id -u)" = 0 ] || { echo "try_image.sh: mounting and chroot need root" >&2; exit 1; }
export BUILDAH_ISOLATION=chroot

if [ "$base" = localhost/debian:12 ] && ! buildah inspect --type image $base >/dev/null 2>&1; then
    tree=$(mktemp -d)
    debootstrap --variant=minbase bookworm "$tree" >"$tree.log" 2>&1 || { tail -n 20 "$tree.log" >&2; exit 1; }
    blank=$(buildah from scratch)
    buildah add -q "$blank" "$tree" / >/dev/null
    buildah commit -q "$blank" $base >/dev/null
    buildah rm "$blank" >/dev/null
    rm -rf "$tree" "$tree.log"
fi

began=$(date +%s)
buildah bud -q --format docker --build-arg "BASE=$base" -t localhost/onnxd . >/dev/null
echo "built in $(($(date +%s) - began)) s: $(buildah images --format '{{.Size}}' localhost/onnxd)"

box=$(buildah from localhost/onnxd)
root=$(buildah mount "$box")
server=
cleanup() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
    buildah rm "$box" >/dev/null
}
trap cleanup EXIT
(cd "$root" && du -k usr/bin/onnxd && find lib* -type f -exec du -k {} + | sort -rn | head -n 5)

# The image's user, its file system read-only, the models mounted into it: what `docker run --read-only` does.
inside='
    mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && mount --bind "$2" "$1/models" || exit 1
    ! touch "$1/written" 2>/dev/null || { echo "the file system can be written to" >&2; exit 1; }
    exec chroot --userspec=10001:10001 "$1" /usr/bin/onnxd serve /models --host 127.0.0.1 --port "$3"'
unshare --mount sh -c "$inside" serve "$root" "$(realpath "$models")" "$port" &
server=$!
probe="chroot --userspec=10001:10001 $root /usr/bin/onnxd health http://127.0.0.1:$port"
tries=0
until $probe >/dev/null 2>&1; do
    kill -0 $server || exit 1
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "try_image.sh: not healthy after a minute" >&2; exit 1; }
    sleep 0.2
done
echo "healthy, as user $(stat -c %u /proc/$server) on a read-only file system"
for model in "$models"/*/; do
    name=$(basename "$model")
    printf '%s: ' "$name"
    curl -sf -H 'Content-Type: image/jpeg' --data-binary "@$picture" \
        "http://127.0.0.1:$port/v2/models/$name/predict?max_detections=1&top_k=1&mask=none"
    echo
done
kill "$server" && wait "$server" && echo "stopped: exit code 0"
server=
