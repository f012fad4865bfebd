# The program is built on Debian 12; the final image starts from nothing and holds the program, the
# shared libraries it loads, and a user. There is no shell in it: `onnxd health` is the probe.
ARG BASE=debian:12-slim
FROM $BASE AS build
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        gcc libc6-dev make pkg-config protobuf-c-compiler libprotobuf-c-dev libmicrohttpd-dev \
        libcjson-dev libjpeg62-turbo-dev libturbojpeg0-dev libpng-dev zlib1g-dev libxxhash-dev libpcre2-dev libwebp-dev libgnutls28-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make -j"$(nproc)" all \
 && strip build/onnxd \
 && install -D -m 755 build/onnxd /root-image/usr/bin/onnxd
# Every library that the loader resolves for it, under the name by which it is asked for.
RUN ldd build/onnxd | grep -oE '/[^ ]+' | sort -u | xargs cp --parents --dereference --target-directory=/root-image \
 && mkdir -p /root-image/etc /root-image/models \
 && install -d -m 1777 /root-image/tmp \
 && echo 'onnxd:x:10001:10001:onnxd:/:/usr/sbin/nologin' >/root-image/etc/passwd \
 && echo 'onnxd:x:10001:' >/root-image/etc/group \
 && /root-image/usr/bin/onnxd version

FROM scratch
COPY --from=build /root-image /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/bin/onnxd", "health"]
ENTRYPOINT ["/usr/bin/onnxd"]
CMD ["serve", "/models", "--host", "0.0.0.0"]
