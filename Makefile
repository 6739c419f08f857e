# dsi: the whole build.  Everything that is made lies under $B.
#
#   make                     programs in build/bin
#   make check               unit, kernel and system tests (sh t/run does the set-up too)
#   make check SANITIZE=address,undefined
#   make lint                formatting, shellcheck, dependencies, headers, man pages
#   make fuzz T=60           each fuzz target for T seconds (clang)
#   make bench               benchmarks
#   make install PREFIX=/usr/local DESTDIR=
#   make plugin MPICC=mpicc.mpich    for another MPI than the one of mpicc

VERSION  := $(shell sed -n 's/^## \([0-9][0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)
PREFIX   ?= /usr/local
BASE_B   ?= build
SANITIZE ?=
comma    := ,
# A sanitized build has its own tree, so that neither spoils the other.
B        ?= $(BASE_B)$(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))

CC       ?= cc
CFLAGS   ?= -O2 -g
WERROR   ?= -Werror
override CFLAGS += -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
    -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
    -Wvla -Wformat=2 -Wno-format-nonliteral -fno-math-errno -fno-common \
    -ffp-contract=off
override CPPFLAGS += -Ilib -Ikernels
override LDLIBS   += -lcrypto -lcjson -lyaml -lpcre2-8 -lpthread -lm
ifneq ($(SANITIZE),)
override CFLAGS  += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
override LDFLAGS += -fsanitize=$(SANITIZE)
endif

ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)

lib_src  := $(wildcard lib/*/*.c)
kern_src := $(wildcard kernels/*.c kernels/ref/*.c)
ifeq ($(ARCH),x86_64)
kern_src += $(wildcard kernels/avx2/*.c kernels/avx512/*.c)
endif
cmd_src  := $(wildcard cmd/*.c)
unit_src := $(wildcard t/unit/*.c)
tkern_src := $(wildcard t/kern/*.c)
help_src := $(wildcard t/helper/*.c)
bench_src := $(wildcard t/bench/*.c)
fuzz_src := $(wildcard t/fuzz/*.c)

obj = $(patsubst %.c,$B/%.o,$1)
bin  := $(patsubst cmd/%.c,$B/bin/%,$(cmd_src))
scripts := $(patsubst cmd/%.sh,$B/bin/%,$(wildcard cmd/*.sh))
unit := $(patsubst t/%.c,$B/t/%,$(unit_src))
tkern := $(patsubst t/%.c,$B/t/%,$(tkern_src))
helper := $(patsubst t/%.c,$B/t/%,$(help_src))
benches := $(patsubst t/%.c,$B/t/%,$(bench_src))
fuzzreg := $(patsubst t/fuzz/%.c,$B/t/fuzz/%,$(fuzz_src))

# MPI comes in at run time, if at all: see lib/comm/comm_plug.h.
MPICC    ?= mpicc
PLUGIN   ?= $B/lib/dsi/dsi-mpi.so
plug_src := plugin/mpi.c $(addprefix lib/base/,err.c mem.c now.c utf8.c)

all: $(bin) $(scripts) plugin
ctests: $(unit) $(tkern) $(fuzzreg)
tests: all ctests $(helper) test-plugins
benches: $(benches)

# Kernels: each instruction set in its own folder, with its own flags.
$B/kernels/avx2/%.o:   override CFLAGS += -mavx2 -mfma -mf16c -O3
$B/kernels/avx512/%.o: override CFLAGS += -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c -O3
$B/kernels/ref/%.o:    override CFLAGS += -O2
$B/lib/base/version.o: override CPPFLAGS += -DDSI_VERSION='"$(VERSION)"'
$B/lib/base/version.o: CHANGELOG.md

$B/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$B/libdsi.a: $(call obj,$(lib_src) $(kern_src))
	@rm -f $@
	$(AR) rcs $@ $^

$(bin): $B/bin/%: $B/cmd/%.o $B/libdsi.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(scripts): $B/bin/%: cmd/%.sh
	@mkdir -p $(@D)
	install -m 755 $< $@

$(unit) $(tkern) $(helper) $(benches): $B/t/%: $B/t/%.o $B/libdsi.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Quietly nothing where there is no mpicc.  The plug-in has its own copies of
# what it needs of base.
ifneq ($(shell command -v '$(MPICC)'),)
plugin: $(PLUGIN)
$(PLUGIN): $(plug_src) $(wildcard lib/base/*.h lib/comm/comm_*.h) $(PLUGIN).cc CHANGELOG.md
	$(MPICC) $(CPPFLAGS) -DDSI_VERSION='"$(VERSION)"' $(CFLAGS) -fPIC -fvisibility=hidden $(LDFLAGS) -shared -o $@ $(plug_src)
$(PLUGIN).cc: always
	@mkdir -p $(@D)
	@echo '$(MPICC)' | cmp -s - $@ || echo '$(MPICC)' >$@
else
plugin:
endif

# For the tests, one for each MPI that there is.
test-plugins:
	@for mpi in openmpi mpich; do \
	    command -v mpicc.$$mpi >/dev/null || continue; \
	    $(MAKE) MPICC=mpicc.$$mpi PLUGIN='$B'/t/$$mpi/dsi-mpi.so plugin || exit; \
	done

# A fuzz target is also a plain program that replays files: no fuzzer needed.
$(fuzzreg): $B/t/fuzz/%: $B/t/fuzz/%.o $B/t/fuzz-main.o $B/libdsi.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$B/t/fuzz-main.o: t/fuzz/main.c.in
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -x c -c -o $@ $<

check: tests
	B='$B' sh t/check
lint: all
	B='$B' sh t/lint/all
fuzz:
	sh t/fuzz/run '$(or $(T),60)' $(TARGETS)
bench: all benches
	B='$B' sh t/bench/all

compile_commands.json: $(lib_src) $(kern_src) $(cmd_src) Makefile
	sh t/lint/compdb '$(CC) $(CPPFLAGS) $(CFLAGS)' $(lib_src) $(kern_src) $(cmd_src) > $@

install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/dsi/demo'
	install -m 755 $(bin) $(scripts) '$(DESTDIR)$(PREFIX)/bin'
	[ ! -e '$(PLUGIN)' ] || install -D -m 755 '$(PLUGIN)' '$(DESTDIR)$(PREFIX)/lib/dsi/dsi-mpi.so'
	install -D -m 644 share/slurm/dsi.sbatch '$(DESTDIR)$(PREFIX)/share/dsi/slurm/dsi.sbatch'
	install -m 644 share/demo/model/* '$(DESTDIR)$(PREFIX)/share/dsi/demo'
	for s in 1 5 7; do for f in man/*.$$s; do [ -e "$$f" ] || continue; \
	    install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/man/man$$s/$${f##*/}"; done; done

clean:
	rm -rf '$B'

-include $(shell find $B -name '*.d' 2>/dev/null)
always:
.PHONY: all always plugin test-plugins ctests tests benches check lint fuzz bench install clean
.DELETE_ON_ERROR:
