#!/bin/sh
# Join index.html with page.css and the scripts, and write FOLDER/page.html and FOLDER/page_bytes.h: the page plain and
# gzip'd, its ETag, and the Content-Security-Policy that allows exactly this style and script.
#   server/page/join.sh FOLDER
set -eu
out=$1
from=$(dirname "$0")
mkdir -p "$out"

cat "$from"/*.js >"$out/page.js"
awk -v css="$from/page.css" -v js="$out/page.js" '
    function put(file,  line) { while ((getline line < file) > 0) print line }
    /^<!-- style -->$/ { printf "<style>"; put(css); print "</style>"; next }
    /^<!-- script -->$/ { printf "<script>"; put(js); print "</script>"; next }
    { print }' "$from/index.html" >"$out/page.html"
gzip -9nc "$out/page.html" >"$out/page.html.gz"

hex() { sha256sum "$1" | cut -c1-64; }
base64_of_hash() { env printf "$(hex "$1" | sed 's/../\\x&/g')" | base64; }
bytes() { # NAME FILE
    echo "static const unsigned char $1[] = {"
    od -An -v -tx1 "$2" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
    echo "};"
}
{
    echo "/* made by server/page/join.sh */"
    bytes page_plain "$out/page.html"
    bytes page_gzip "$out/page.html.gz"
    echo "#define PAGE_ETAG \"$(hex "$out/page.html" | cut -c1-32)\""
    echo "#define PAGE_POLICY \"default-src 'none'; script-src 'sha256-$(base64_of_hash "$out/page.js")'; style-src 'sha256-$(base64_of_hash "$from/page.css")'; \" \\"
    echo "    \"img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\""
} >"$out/page_bytes.h.part"
mv "$out/page_bytes.h.part" "$out/page_bytes.h"
