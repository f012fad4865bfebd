# onnxd. `make help` lists the targets.
B        ?= build
CC       ?= gcc
PKGS     := libmicrohttpd libcjson zlib libprotobuf-c libturbojpeg libjpeg libpng libxxhash libpcre2-8 libwebp gnutls
CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wconversion
CPPFLAGS += -std=c11 -D_GNU_SOURCE -I. -I$(B)
ALL_C     = $(CPPFLAGS) $(CFLAGS) $(EXTRA) $(WARN) -fno-math-errno -fno-trapping-math -pthread
LIBS      = -Wl,--as-needed $(shell pkg-config --libs $(PKGS)) -lm -pthread

SRC      := $(sort $(shell find engine loaders server -name '*.c'))
MAIN     := server/cli/main.c
OBJ      := $(patsubst %.c,$(B)/%.o,$(filter-out $(MAIN),$(SRC))) $(B)/proto/onnx.pb-c.o
TESTS    := $(sort $(shell find tests -name 'test_*.c' 2>/dev/null))
TESTBIN  := $(patsubst %.c,$(B)/%,$(TESTS))

all: $(B)/onnxd ## build the program

$(B)/onnxd: $(B)/$(MAIN:.c=.o) $(B)/libonnxd.a
	$(CC) $(CFLAGS) $(EXTRA) -o $@ $^ $(LDFLAGS) $(LIBS)

$(B)/libonnxd.a: $(OBJ)
	@rm -f $@
	ar rcs $@ $^

$(B)/proto/onnx.pb-c.c $(B)/proto/onnx.pb-c.h &: proto/onnx.proto
	@mkdir -p $(B)/proto
	protoc-c --c_out=$(B) proto/onnx.proto

$(B)/proto/%.o: $(B)/proto/%.c
	$(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA) -c -o $@ $<

$(B)/server/protocols/openapi.o: server/protocols/openapi.json # .incbin

# The page's parts joined, packed and turned into C.
PAGE := server/page/join.sh server/page/index.html server/page/page.css $(sort $(wildcard server/page/*.js))
$(B)/server/page/page_bytes.h: $(PAGE)
	@sh server/page/join.sh $(@D)
$(B)/server/page/page.o: $(B)/server/page/page_bytes.h

# Names of the decoders' parameters, as they read them: one number by srv_number, or a list.
DECODERS := $(wildcard server/tasks/*.c server/tasks/detect/*.c)
$(B)/server/tasks/parameters.h: $(DECODERS)
	@mkdir -p $(@D)
	@grep -ohE '(srv_number|ldr_card_param)\([^,]+, "[a-z0-9_]+"' $(DECODERS) | awk -F'"' '/^ldr/ { list[$$2] } /^srv/ { one[$$2] } END { \
	  for (n in list) delete one[n]; for (n in list) print "{\"" n "\", false},"; for (n in one) print "{\"" n "\", true}," }' | sort > $@
$(B)/server/tasks/picture.o: $(B)/server/tasks/parameters.h

$(B)/%.o: %.c | $(B)/proto/onnx.pb-c.h
	@mkdir -p $(@D)
	$(CC) $(ALL_C) -MMD -MP -c -o $@ $<

$(B)/engine/kernels/%.o:        EXTRA += -O3
$(B)/engine/kernels/%_avx2.o:   EXTRA += -mavx2 -mfma -mf16c
build-fuzz/engine/kernels/%_avx512.o: EXTRA += -O1 -fno-sanitize=all # clang takes minutes for it otherwise
$(B)/loaders/image/%.o:         EXTRA += -O3
$(B)/server/tasks/%.o:          EXTRA += -O3
$(B)/loaders/image/%_avx2.o:    EXTRA += -mavx2 -mfma
$(B)/server/protocols/%_avx2.o: EXTRA += -mavx2 -mfma -fno-tree-slp-vectorize -mbmi -mbmi2 -mlzcnt -mpopcnt # which all processors with the first two have
$(B)/engine/kernels/%_avx512.o: EXTRA += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c

$(B)/tests/%: tests/%.c $(B)/libonnxd.a
	@mkdir -p $(@D)
	$(CC) $(ALL_C) -Wno-conversion -MMD -MP -o $@ $< $(B)/libonnxd.a $(LDFLAGS) $(LIBS)

tests: $(TESTBIN) ## build the C tests

check: tests layers ## run the C tests
	@sh tests/run_c.sh $(TESTBIN)

layers: ## no #include points up the tree, or past a door
	@! grep -rnE '^#include "(server|loaders|proto)/' engine
	@! grep -rnE '^#include "engine/[^b]' engine/base
	@! grep -rnE '^#include "(server/|engine/[^b][^/]*/)' loaders
	@! grep -rnE '^#include "(proto/|engine/[^b][^/]*/)' server

# The four ways below build the same sources with other flags into folders of their own.
SAN_FLAGS  = -O1 -g -fno-omit-frame-pointer
ASAN       = B=build-asan CFLAGS="$(SAN_FLAGS) -fsanitize=address,undefined -fno-sanitize-recover=undefined"
UBSAN      = B=build-ubsan CFLAGS="$(SAN_FLAGS) -fsanitize=undefined -fno-sanitize-recover=undefined"
TSAN       = B=build-tsan CFLAGS="$(SAN_FLAGS) -fsanitize=thread"
FUZZ       = B=build-fuzz CC=clang WARN=-w LDFLAGS=-fsanitize=fuzzer \
             CFLAGS="$(SAN_FLAGS) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=pointer-overflow -fno-sanitize-recover=undefined"
COV        = B=build-cov CFLAGS="-O0 -g --coverage -fprofile-update=atomic"
TSAN_TESTS = $(sort $(wildcard tests/base/test_*.c tests/server/test_*.c tests/server/*/test_*.c tests/engine/test_session.c))
FUZZERS    = $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 60
SUPPRESS   = suppressions=$(CURDIR)/tests/tsan.supp

asan: ## run the C tests under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory $(ASAN) tests
	@ASAN_OPTIONS=allocator_may_return_null=1 sh tests/run_c.sh $(TESTS:%.c=build-asan/%)

# Whatever a sanitizer says of any server of these tests lands in a file, leaks at its exit too.
REPORTS = build-asan/reports
asan-http: .venv/ready ## run the tests of server and protocols on a server under these sanitizers
	@$(MAKE) --no-print-directory -j$(JOBS) $(ASAN) all
	@rm -rf $(REPORTS) && mkdir -p $(REPORTS)
	@ONNXD=build-asan/onnxd ASAN_OPTIONS="log_path=$(CURDIR)/$(REPORTS)/asan allocator_may_return_null=1" \
		UBSAN_OPTIONS="log_path=$(CURDIR)/$(REPORTS)/ubsan print_stacktrace=1" .venv/bin/python -m pytest -q tests/http tests/server; \
		rc=$$?; ! cat $(REPORTS)/* 2>/dev/null || rc=1; exit $$rc

memcheck: models ## run the demonstration models on photographs under valgrind: no error, no leak
	@sh tools/deps.sh memcheck
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@for model in $(DEMO)/*/; do \
		echo "$$model"; ONNXD_ISA=avx2 valgrind -q --leak-check=full --error-exitcode=1 $(B)/onnxd predict --threads 2 $$model \
			$(MODELS_FROM)/../images/bus.jpg || exit 1; done

ubsan: ## run the C tests under the undefined-behaviour sanitizer alone
	@$(MAKE) --no-print-directory $(UBSAN) tests
	@sh tests/run_c.sh $(TESTS:%.c=build-ubsan/%)

tsan: ## run the tests of threads, sessions and server under the thread sanitizer
	@$(MAKE) --no-print-directory $(TSAN) $(TSAN_TESTS:%.c=build-tsan/%)
	@TSAN_OPTIONS="$(SUPPRESS) halt_on_error=1" sh tests/run_c.sh $(TSAN_TESTS:%.c=build-tsan/%)

fuzz: .venv/ready ## run each fuzz target for FUZZ_SECONDS (60) from made-up seeds
	@sh tools/deps.sh build fuzz
	@$(MAKE) --no-print-directory $(FUZZ) $(FUZZERS:%.c=build-fuzz/%)
	@sh tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS) $(FUZZERS:%.c=%)

cov: ## report the lines that the C tests reach
	@sh tools/deps.sh build cov
	@$(MAKE) --no-print-directory $(COV) tests
	@find build-cov -name '*.gcda' -delete
	@sh tests/run_c.sh $(TESTS:%.c=build-cov/%)
	@lcov -q --capture --directory build-cov --output-file build-cov/cov.info --include '$(CURDIR)/*' 2>/dev/null
	@lcov -q --remove build-cov/cov.info '*/tests/*' '*/proto/*' --output-file build-cov/cov.info
	@lcov --list build-cov/cov.info

lint: layers ## gcc's warnings as errors, clang-tidy, cppcheck
	@sh tools/deps.sh build lint
	@$(MAKE) --no-print-directory B=build-lint CFLAGS="-O2 -Werror" all
	@sh tools/lint.sh build-lint $(JOBS) $(SRC)

conformance: .venv/ready ## run the ONNX project's test cases, beside ONNX Runtime
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@.venv/bin/python tools/conformance.py --onnxd $(B)/onnxd --cases $(B)/conformance

zoo: .venv/ready ## run every graph of ../shared/zoo against the stored outputs of ONNX Runtime
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@.venv/bin/python tests/zoo/zoo.py --onnxd $(B)/onnxd

docs: all ## write docs/operators.md from the table of operators
	@mkdir -p docs
	@$(B)/onnxd inspect --operators --markdown >docs/operators.md

schemas: .venv/ready ## write engine/schemas.c: what nodes may have, from the onnx package
	@.venv/bin/python tools/make_schemas.py

fmt: ## lay out the code by .clang-format
	clang-format -i $(shell find engine loaders server tests -name '*.[ch]')

JOBS    := $(shell nproc 2>/dev/null || echo 2)
VERSION  = $(shell sed -nE 's/^\#define SRV_VERSION "(.*)"/\1/p' server/cli/cli.h 2>/dev/null)
PREFIX  ?= /usr/local
DEMO    ?= demo
MODELS_FROM ?= ../shared/models

deps: ## install the Debian packages that are missing
	@sh tools/deps.sh build run test lint fuzz cov

# The tools of tests and demonstration models, in an environment of their own.
.venv/ready: tests/requirements.txt
	@sh tools/deps.sh run
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

# The tools that models come from: 2 GB, so apart from the other tests' environment.
.venv-peers/ready: tests/peers/requirements.txt tests/peers/requirements-no-deps.txt
	@sh tools/deps.sh run
	python3 -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r tests/peers/requirements.txt
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/peers/requirements-no-deps.txt
	@touch $@

peers: .venv-peers/ready ## compare answers with those of the tools that models come from (Ultralytics, timm, torchvision, transformers)
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@ONNXD=$(B)/onnxd .venv-peers/bin/python -W ignore -m pytest -q --no-header --disable-warnings --durations=5 tests/peers

models: .venv/ready ## make the demonstration models in demo/
	@.venv/bin/python tools/make_models.py --source $(MODELS_FROM) $(DEMO)

run: ## install what is missing, build, make the models, serve them on 127.0.0.1:8000
	@sh tools/deps.sh build run
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@$(MAKE) --no-print-directory models
	@sh tools/serve_demo.sh $(B)/onnxd $(DEMO)

test: ## install what the tests need, build, run every test
	@sh tools/deps.sh build test
	@$(MAKE) --no-print-directory -j$(JOBS) all tests
	@$(MAKE) --no-print-directory .venv/ready
	@sh tests/run $(B) $(TESTBIN)

bench: .venv/ready ## measure the server with wrk: requests a second, start-up, memory
	@sh tools/deps.sh build bench
	@$(MAKE) --no-print-directory -j$(JOBS) all models
	@.venv/bin/python tests/bench/serving.py --onnxd $(B)/onnxd --models $(DEMO)

answers: .venv/ready ## what the demonstration models say of the photographs, beside their authors' pipelines
	@$(MAKE) --no-print-directory -j$(JOBS) all models
	@.venv/bin/python tests/bench/answers.py --onnxd $(B)/onnxd --models $(DEMO)

bench-load: .venv/ready ## measure the server under four times the work it can do: throughput, goodput, patience, liveness
	@$(MAKE) --no-print-directory -j$(JOBS) all models
	@.venv/bin/python tests/bench/saturation.py --onnxd $(B)/onnxd --model $(DEMO)/EfficientNet-Lite0

soak: .venv/ready ## 100 SIGTERMs and 500 exchanges of a model under load: no request is lost
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@ONNXD=$(B)/onnxd ONNXD_TERMS=100 ONNXD_SWAPS=500 .venv/bin/python -m pytest -q tests/e2e -k "sigterm_under_load or exchanged_under_load"

bench-http: .venv/ready ## measure what the server adds to a bare libmicrohttpd reply
	@sh tools/deps.sh build bench
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@.venv/bin/python tests/bench/http_overhead.py --onnxd $(B)/onnxd

bench-json: $(B)/tests/bench/json_numbers ## tensors' numbers from JSON beside cJSON's tree, by turns
	@$(B)/tests/bench/json_numbers

bench-ort: .venv/ready ## measure the engine beside ONNX Runtime, by turns; writes docs/performance.md
	@sh tools/deps.sh build
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@.venv/bin/python tests/bench/ort.py --onnxd $(B)/onnxd --markdown docs/performance.md --plot docs/performance.svg

# The float kernels for AArch64, which this machine need not be: their tests under emulation.
NEON_SRC = $(filter-out %_avx2.c %_avx512.c,$(filter engine/kernels/kernels%.c engine/kernels/attention%.c engine/kernels/reduce%.c engine/kernels/gemm.c \
           engine/kernels/move.c engine/kernels/transpose_ref.c engine/kernels/winograd.c,$(SRC))) \
           $(wildcard engine/base/*.c)
NEON_TEST = test_kernels test_winograd test_reduce

neon: ## run the tests of the float kernels for AArch64 under qemu
	@sh tools/deps.sh build neon
	@mkdir -p build-neon
	@for t in $(NEON_TEST); do \
		aarch64-linux-gnu-gcc $(CPPFLAGS) -O3 -g $(WARN) -Wno-conversion -fno-math-errno -fno-trapping-math -pthread -static \
			-o build-neon/$$t tests/engine/kernels/$$t.c $(NEON_SRC) -lm || exit 1; \
		echo "$$t on AArch64:"; qemu-aarch64 build-neon/$$t || exit 1; done

bench-kernels: $(B)/tests/bench/kernels ## flop per cycle of the float kernels, shape by shape
	@$(B)/tests/bench/kernels

bench-pictures: $(B)/tests/bench/pictures ## decoding and resizing beside the bare decoder, YOLO's boxes
	@$(B)/tests/bench/pictures $(PICTURE)

image: models ## build the Docker image with buildah, show its size, serve and ask the models in it
	@sh tools/deps.sh image
	@sh tools/try_image.sh $(DEMO) $(PICTURE)

install: all ## copy the program and the systemd unit below PREFIX (/usr/local)
	install -D -m 755 $(B)/onnxd $(DESTDIR)$(PREFIX)/bin/onnxd
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/local|$(PREFIX)|' deploy/systemd/onnxd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/onnxd.service

uninstall: ## remove what install copied
	rm -f $(DESTDIR)$(PREFIX)/bin/onnxd $(DESTDIR)$(PREFIX)/lib/systemd/system/onnxd.service

dist: ## the committed sources as build/onnxd-VERSION.tar.gz
	@mkdir -p $(B)
	git archive --format=tar.gz --prefix=onnxd-$(VERSION)/ -o $(B)/onnxd-$(VERSION).tar.gz HEAD

clean: ## remove everything that was built
	rm -rf $(B) build-asan build-ubsan build-tsan build-fuzz build-cov build-lint build-neon

help: ## this list
	@grep -hE '^[a-z_-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all tests check peers docs conformance zoo layers schemas fmt clean help asan asan-http memcheck ubsan tsan fuzz cov lint deps models run test \
        answers soak bench bench-load bench-http bench-json bench-ort bench-kernels bench-pictures neon image install uninstall dist
