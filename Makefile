# onnxd. `make help` lists the targets.
B        ?= build
CC       ?= gcc
PKGS     := libmicrohttpd libcjson libprotobuf-c libturbojpeg libjpeg libpng
CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wconversion
CPPFLAGS += -std=c11 -D_GNU_SOURCE -I. -I$(B)
ALL_C     = $(CPPFLAGS) $(CFLAGS) $(EXTRA) $(WARN) -fno-math-errno -fno-trapping-math -pthread
LIBS      = $(shell pkg-config --libs $(PKGS)) -lm -pthread

SRC      := $(sort $(shell find engine loaders server -name '*.c'))
MAIN     := server/cli/main.c
OBJ      := $(patsubst %.c,$(B)/%.o,$(filter-out $(MAIN),$(SRC))) $(B)/proto/onnx.pb-c.o
TESTS    := $(sort $(shell find tests -name 'test_*.c'))
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

$(B)/%.o: %.c | $(B)/proto/onnx.pb-c.h
	@mkdir -p $(@D)
	$(CC) $(ALL_C) -MMD -MP -c -o $@ $<

$(B)/engine/kernels/%.o:        EXTRA += -O3
$(B)/engine/kernels/%_avx2.o:   EXTRA += -mavx2 -mfma -mf16c
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

fmt: ## lay out the code by .clang-format
	clang-format -i $(shell find engine loaders server tests -name '*.[ch]')

clean:
	rm -rf $(B)

help: ## this list
	@grep -hE '^[a-z_-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all tests check layers fmt clean help
