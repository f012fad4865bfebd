#!/bin/sh
# Serve the demonstration models and, once they are ready, print the lines to try.
#   tools/serve_demo.sh PROGRAM MODELS [PORT]     ends with control-C
set -eu
program=$1 models=$2 port=${3:-8000}
url=http://127.0.0.1:$port

"$program" serve "$models" --host 127.0.0.1 --port "$port" &
server=$!
trap 'kill $server 2>/dev/null; wait $server' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tries=0
until "$program" health "$url" >/dev/null 2>&1; do
    kill -0 $server 2>/dev/null || { wait $server; exit 1; }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "serve_demo.sh: not ready after a minute" >&2; exit 1; }
    sleep 0.2
done

# A photograph that shows what the model looks for, where the photographs are at hand.
photo() {
    case $1 in
    *RFB* | *rfb* | *face*) names="faces people" ;;
    *SINet* | *sinet* | *portrait*) names="portrait people" ;;
    *) names="bus people" ;;
    esac
    for name in $names; do
        for folder in "$models" "$models/images" ../shared/images; do
            [ ! -f "$folder/$name.jpg" ] || { echo "$folder/$name.jpg"; return; }
        done
    done
    echo PHOTO.jpg
}

echo
echo "onnxd serves $models on $url (control-C ends it). In another terminal, try:"
for model in "$models"/*/; do
    name=$(basename "$model")
    [ -n "$(find "$model" -maxdepth 2 -name '*.onnx')" ] || continue
    printf "  curl -H 'Content-Type: image/jpeg' --data-binary @%s %s/v2/models/%s/predict\n" \
        "$(photo "$name")" "$url" "$name"
done
echo "  curl $url/v2/models/NAME      # what a model takes and gives"
echo "  curl $url/metrics"
echo
wait $server
