# llmjob: one Makefile, everything it makes goes to $(O). `make help` lists the targets.
# Switches: ASAN=1 TSAN=1 FAULT=1 (each has its own output folder), WERROR=0, V=1 (show commands), O=<folder>,
# NATIVE=1 (kernels for this machine alone, its best instruction sets only: in a third of the time).

V_NAME   := $(if $(ASAN),-asan)$(if $(TSAN),-tsan)$(if $(FAULT),-fault)
O        ?= build$(V_NAME)
CC       ?= cc
WERROR   ?= 1
VERSION  := $(shell cat VERSION 2>/dev/null || echo 0.1.0)

ARCH := $(shell uname -m)
# Of what is built to be run at once a trace has its lines; variables would be a third of what assembler and linker read.
CFLAGS_COMMON := -std=gnu11 -g$(if $(NATIVE)$(ASAN)$(TSAN),1) -I. -D_GNU_SOURCE -DLLMJOB_VERSION='"$(VERSION)"' -include base/banned.h \
  -Wall -Wextra -Wconversion -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-sign-conversion \
  -fno-strict-aliasing -fstack-protector-strong -fPIE $(if $(filter 1,$(WERROR)),-Werror)
OPT      := -O3 $(if $(ASAN)$(TSAN),,-D_FORTIFY_SOURCE=2)
LDFLAGS_COMMON := -pie -Wl,-z,relro,-z,now -Wl,--as-needed -pthread
ifdef ASAN
  # A pointer that has run over points to nothing: its use is seen, and so is that of one that is NULL or beyond its object.
  # To look for these themselves is a quarter of all code.
  OPT := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize=pointer-overflow,null,object-size \
    -fno-sanitize-recover=undefined
endif
ifdef TSAN
  OPT := -O1 -fno-omit-frame-pointer -fsanitize=thread
endif
ifneq ($(ASAN)$(TSAN),)
  # Both warnings guess wrongly in instrumented code; where variables live costs a third of compiling it.
  OPT += -Wno-format-truncation -Wno-maybe-uninitialized -fno-var-tracking
endif
ifdef FAULT
  OPT += -DLLMJOB_FAULT=1
endif
CFLAGS  ?=
ALL_CFLAGS = $(CFLAGS_COMMON) $(OPT) $(CFLAGS) -MMD -MP

ROOMS := base api kernels runtime agent controller cli
# The CUDA plugin's files that need its toolkit are kernels/cuda/targets.mk's.
src    = $(filter-out $(addprefix kernels/cuda/,driver.c blas.c nccl.c),$(wildcard $(1)/*.c $(1)/*/*.c))
obj    = $(patsubst %.c,$(O)/%.o,$(call src,$(1)))
mains := agent/main.c controller/main.c cli/main.c runtime/main.c
lib    = $(O)/lib$(1).a

# What a room is made of, in the order of linking.
needs_base       := base
needs_api        := api base
needs_kernels    := kernels base
needs_runtime    := runtime kernels api base
needs_agent      := agent api base
needs_controller := controller api base
needs_cli        := cli api base
needed_libs = $(foreach l,$(needs_$(1)),$(call lib,$(l)))

LIBS_base       := -lcurl -lwebsockets -lcjson -lyaml -lcrypto
LIBS_kernels    := -ldnnl -fopenmp
LIBS_runtime    := -lpcre2-8 -lutf8proc -lxxhash -lcrypto -lz -lzstd
PROGRAMS := $(O)/llmjob-rank $(O)/llmjob-agent $(O)/llmjob-controller $(O)/llmjob

.PHONY: all help deps
all: $(PROGRAMS) ## build the four programs

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(filter-out %.d,$(MAKEFILE_LIST)) | \
	  sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 20
	@sed -n '2,3p' Makefile | cut -c 3-

deps: ## install the Debian packages that build and tests need
	@tests/deps.sh

# ---- objects and libraries -------------------------------------------------------------------------------------
$(O)/base/mem.o: ALL_CFLAGS += -DLLMJOB_ALLOW_MALLOC
# Tests are compiled more often than they run. (Without -O2 both warnings guess wrongly.)
$(foreach r,$(ROOMS),$(O)/tests/$(r)/%.o): ALL_CFLAGS += -O1 -fno-var-tracking -Wno-format-truncation -Wno-maybe-uninitialized
# Of what tests do themselves wrong addresses are of interest: undefined behaviour is looked for in what they test.
$(if $(ASAN),$(foreach r,$(ROOMS),$(O)/tests/$(r)/%.o): ALL_CFLAGS += -fno-sanitize=undefined)
# Instrumented, what computes little itself takes less than half the time where nothing is optimised.
$(if $(ASAN)$(TSAN),$(foreach r,$(filter-out kernels,$(ROOMS)),$(O)/$(r)/%.o $(O)/tests/$(r)/%.o): ALL_CFLAGS += -O0)
$(if $(ASAN)$(TSAN),$(patsubst %,$(O)/%/%.o,base runtime/coll runtime/grammar runtime/text): ALL_CFLAGS += -O1) # which do
# Of a build's time these four are half; what a debugger would say of their variables is a third of that, and for the
# slowest, which no AVX2 machine runs, so is the choice of induction variables.
$(O)/kernels/cpu/isa_%.o: ALL_CFLAGS += -fno-var-tracking
# How vectors that it has no registers for are passed concerns nobody: all such functions are inlined.
$(O)/kernels/cpu/isa_base.o: ALL_CFLAGS += -fno-ivopts -Wno-psabi
# Where checks stand between all accesses, registers are given out function by function, not loop by loop: a seventh less.
$(if $(ASAN),$(addprefix $(O)/kernels/cpu/,isa_base.o isa_avx2.o): ALL_CFLAGS += -fira-region=one)
# Where sets are left out, their files are empty: what this machine has not, and what it can do better. AddressSanitizer's
# build has the base, in which undefined behaviour is looked for.
flags := $(if $(NATIVE),$(shell grep -m 1 '^flags' /proc/cpuinfo))
without := $(strip $(if $(NATIVE),$(if $(filter avx512f,$(flags)),,-DLLMJOB_WITHOUT_AVX512) \
  $(if $(ASAN),,$(if $(filter 4,$(words $(filter avx2 bmi2 f16c fma,$(flags)))),-DLLMJOB_WITHOUT_BASE))))
isa_plain := $(addprefix kernels/cpu/,isa_avx512.o isa_avx512bf16.o)
isa_left_out := $(addprefix $(O)/,kernels/cpu/table.o kernels/cpu/isa_base.o $(isa_plain))
$(isa_left_out): ALL_CFLAGS += $(without)
$(isa_left_out): $(O)/kernels/cpu/without
# Renewed only where it says another thing: what waits for a recipe is compiled last of all, and isa_base.o takes long.
ifneq ($(without),$(shell cat $(O)/kernels/cpu/without 2>/dev/null))
$(O)/kernels/cpu/without: FORCE
endif
$(O)/kernels/cpu/without:
	@mkdir -p $(@D) && echo "$(without)" >$@
.PHONY: FORCE front
# Of what is left out, at least what the compiler has to say of the text.
front: $(if $(findstring AVX512,$(without)),$(isa_plain:%.o=%.c))
	$(if $^,@$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) -fopenmp -fsyntax-only $^)
# Instrumented, each takes half a minute. Under AddressSanitizer two of the four are, which are of the same text; what
# ThreadSanitizer looks for is between threads, not inside these loops.
uninstrumented := $(if $(TSAN),isa_base isa_avx2) $(if $(ASAN)$(TSAN),isa_avx512 isa_avx512bf16)
$(uninstrumented:%=$(O)/kernels/cpu/%.o): ALL_CFLAGS += -fno-sanitize=all
# Those for AVX-512 are the plain build's in the groups of tests: nothing in them is instrumented.
ifdef PLAIN # its folder
$(addprefix $(O)/,$(isa_plain)): $(O)/%: $(PLAIN)/%
	@mkdir -p $(@D) && ln -sf $(abspath $<) $@
endif
# Of one text: in what most tests run wrong addresses are looked for, in the other undefined behaviour, half as fast.
$(O)/kernels/cpu/isa_avx2.o: ALL_CFLAGS += $(if $(ASAN),-fno-sanitize=undefined)
$(O)/kernels/cpu/isa_base.o: ALL_CFLAGS += $(if $(ASAN),-fno-sanitize=address)
# The page of a served model is a part of the agent, as it is and compressed.
page_files := $(notdir $(wildcard agent/page/*))
$(O)/agent/page.o: ALL_CFLAGS += -DPAGE_PACKED='"$(O)/agent/page"'
$(O)/agent/page.o: $(page_files:%=agent/page/%) $(page_files:%=$(O)/agent/page/%.gz)
$(O)/agent/page/%.gz: agent/page/%
	@mkdir -p $(@D) && gzip -9nc $< >$@
# The API server's rules are checked by us, too, from the same text.
$(O)/api/rules.o: ALL_CFLAGS += -DRULES_TABLE='"$(O)/api/rules.inc"'
$(O)/api/rules.o: $(O)/api/rules.inc
$(O)/api/rules.inc: api/rules.awk manifests/crd.yaml
	@mkdir -p $(@D) && awk -f $^ >$@.new && mv $@.new $@
# OpenMP only where ranks compute.
$(O)/kernels/%.o $(O)/runtime/%.o $(O)/tests/kernels/%.o $(O)/tests/runtime/%.o: ALL_CFLAGS += -fopenmp
# One word a file, or the whole command with V=1.
Q = $(if $(V),,@echo "  $(if $(filter %.o,$@),compile,link   ) $(@:$(O)/%=%)";)
$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

# With these no test is linked that starts threads: the build for ThreadSanitizer goes without, half of the runtime.
unthreaded := $(if $(TSAN),$(patsubst %.c,$(O)/%.o,$(filter-out %/data/masked.c %/text/tok_normal.c \
  $(addprefix %/train/,balance.c choose.c cost.c planner.c speed.c world.c), \
  $(wildcard $(addprefix runtime/,convert/*.c data/*.c evaluate/*.c text/tok*.c train/*.c)))))
define room_library
$(call lib,$(1)): $(filter-out $(patsubst %.c,$(O)/%.o,$(mains)) $(unthreaded),$(call obj,$(1)))
	@rm -f $$@ && mkdir -p $$(@D) && ar rcs $$@ $$^
endef
$(foreach r,$(if $(KERNELS),$(filter-out kernels,$(ROOMS)),$(ROOMS)),$(eval $(call room_library,$(r))))
ifdef KERNELS # of another build
$(call lib,kernels): $(KERNELS)
	@mkdir -p $(@D) && ln -sf $(abspath $<) $@
endif

link = $(Q)$(CC) $(OPT) $(CFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS_COMMON)
$(O)/llmjob-rank: $(O)/runtime/main.o $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm
$(O)/llmjob-agent: $(O)/agent/main.o $(call needed_libs,agent)
	$(link) $(LIBS_base) -lm
$(O)/llmjob-controller: $(O)/controller/main.o $(call needed_libs,controller)
	$(link) $(LIBS_base) -lm
$(O)/llmjob: $(O)/cli/main.o $(call needed_libs,cli)
	$(link) $(LIBS_base) -lm
	@ln -sf llmjob $(O)/kubectl-llmjob

# ---- tests: one program a file, tests/<room>/test_x.c or fuzz_x.c, folders as in the room ------------------------
# Other files of tests/<room>/ are fixtures: no main, an archive that the room's tests are linked with.
LIBS_check := -lcheck -lsubunit -lrt
# There are hundreds of them: where the faster linker is installed, it links them.
$(O)/tests/%: LDFLAGS_COMMON += $(gold)
gold := $(if $(shell command -v ld.gold),-fuse-ld=gold)
test_files  = $(wildcard tests/$(1)/$(2)*.c tests/$(1)/*/$(2)*.c)
programs_of = $(patsubst tests/%.c,$(O)/tests/%,$(call test_files,$(1),$(2)_))
room_tests  = $(call programs_of,$(1),test)
room_fuzzers = $(call programs_of,$(1),fuzz)
fixtures    = $(patsubst %.c,$(O)/%.o,$(filter-out $(call test_files,$(1),test_) $(call test_files,$(1),fuzz_),$(call test_files,$(1),)))
fixture_lib = $(if $(call fixtures,$(1)),$(O)/tests/$(1)/libfixtures.a)
define room_test
$(O)/tests/$(1)/libfixtures.a: $(call fixtures,$(1))
	@rm -f $$@ && ar rcs $$@ $$^
$(call room_tests,$(1)): %: %.o $(call fixture_lib,$(1)) $(call needed_libs,$(1))
	$$(link) $(foreach l,$(needs_$(1)),$(LIBS_$(l))) $(LIBS_check) -ldl -lm
$(call room_fuzzers,$(1)): %: %.o $(O)/tests/fuzz_main.o $(call fixture_lib,$(1)) $(call needed_libs,$(1))
	$$(link) $(foreach l,$(needs_$(1)),$(LIBS_$(l))) -ldl -lm
endef
$(foreach r,$(ROOMS),$(eval $(call room_test,$(r))))
TIDY := $(addprefix $(O)/tests/,tidy tidy_names)
$(TIDY:%=%.o): ALL_CFLAGS += -DLLMJOB_ALLOW_MALLOC # of no room
$(TIDY): %: %.o
	$(link)

# A test says what it needs in its comment: "needs: cuda faults gpu sample threads", any of them.
needing = $(patsubst tests/%.c,$(O)/tests/%,$(shell grep -lE '^( \*|/\*) needs:.* $(1)\b' $(wildcard tests/*/test_*.c tests/*/*/test_*.c) /dev/null))
UNIT_TESTS  := $(foreach r,$(ROOMS),$(call room_tests,$(r)))
# An assertion that holds costs nothing, in a test nor in a fixture.
asserting := $(shell grep -l 'ck_assert' $(foreach r,$(ROOMS),$(filter-out $(call test_files,$(r),test_),$(call test_files,$(r),))))
$(UNIT_TESTS:%=%.o) $(asserting:%.c=$(O)/%.o): ALL_CFLAGS += -include tests/marks.h
TSAN_TESTS  := $(call needing,threads)
FAULT_TESTS := $(call needing,faults)
FUZZERS     := $(foreach r,$(ROOMS),$(call room_fuzzers,$(r)))

# A size that no machine has is NULL under the sanitizers as in any other build. What was freed stays poisoned until so
# much more was: 256 MiB, as it is by itself, is a tenth of a test's time, spent by the kernel; thirty
# frames for each block, where ten tell whose it is, are a twentieth.
export ASAN_OPTIONS ?= allocator_may_return_null=1:quarantine_size_mb=32:malloc_context_size=10
export TSAN_OPTIONS ?= allocator_may_return_null=1

# Of what takes long one in LLMJOB_SAMPLE is tried, chosen by LLMJOB_SEED (tests/sample.h); `make prove` tries all.
export LLMJOB_SAMPLE ?= 4
ifndef LLMJOB_SEED
LLMJOB_SEED := $(shell date +%s)
endif
export LLMJOB_SEED

# A program's counts go to the file R when it is set, else the group prints its own total.
R   ?=
RUN := tests/run.sh $(if $(R),-r $(R))
# Those that compute long, the longest first: three on two cores, and their threads sleep at barriers. All others wait
# more than they compute, and run beside them.
PARALLEL := -j $(shell echo $$((($$(nproc) * 3 + 1) / 2)))
LONG := $(addprefix %/test_,cuda infer ops cuda_model optim pass parallel engine batcher copies zero layouts objective_match outer resume weights tok \
  cuda_train train powercut save exchange ckpt world dev model objective_tokens nccl coll jobspec generate distill \
  killed objective_dpo sched shard scale saver evaluate finished sparsity choose rebalance)
long_first = $(foreach l,$(LONG),$(filter $(l),$(1))) -- $(filter-out $(LONG),$(1))
run-asan run-asan-calm run-asan-rest run-tsan run-whole-tsan unit computing: export OMP_WAIT_POLICY := passive
sub = $(MAKE) --no-print-directory R=$(R) $(native)
# All cores, unless the caller said how many.
jobs = $(if $(findstring jobserver,$(MAKEFLAGS))$(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
# Shell commands that run a group for the results of all; one that leaves no counts has failed.
start = $(sub) $(jobs) $(1) R=$(O)/results
told  = grep -q "^$(1) " $(O)/results || { echo "$(1) did not run"; echo "$(1) lost 0 1 0 0 0" >>$(O)/results; };
group = $(start); $(told)
groups = $(foreach g,$(1),$(call group,$(g)))
begin = mkdir -p $(O) && tests/run.sh -b $(O)/results
seed = echo "LLMJOB_SAMPLE=$(LLMJOB_SAMPLE) LLMJOB_SEED=$(LLMJOB_SEED)"
built = $(sub) $(jobs) $(1) || { echo "build lost 0 1 0 0 0" >>$(O)/results; tests/run.sh -s $(O)/results; exit 1; }

.PHONY: test check models unit computing computing-programs asan asan-rest tsan fault fuzz sim tidy short e2e bench beside unit-programs clean format \
  $(addprefix unit-,$(ROOMS)) $(addprefix run-,asan asan-calm asan-rest tsan fault fuzz) asan-programs tsan-programs \
  $(addprefix whole-,unit asan tsan e2e) $(addprefix run-whole-,asan tsan)
test: native := NATIVE=1
test: ## everything, in 20 minutes: install, build, house rules, unit tests in three builds, fuzzers, end to end
	@tests/deps.sh
	@$(begin) && $(seed)
	@+$(call built,all computing-programs)
	@+$(call group,models)
	@+$(call start,-k computing tidy gpu); $(call told,computing) $(call told,tidy) $(call told,gpu)
	@+tests/idly $(call start,beside) & idle=$$!; setsid $(call start,e2e-alone) & alone=$$!; \
	  trap "kill -- -$$idle -$$alone" INT TERM; $(call group,e2e-cluster) wait; $(call told,e2e-alone) $(call told,asan-calm)
	@+$(call start,-k asan-rest cuda tsan); $(call told,asan-rest) $(call told,cuda) $(call told,tsan)
	@+$(call group,fuzz)
	@tests/run.sh -s $(O)/results 20
# What runs on the cluster waits for much: beside it the other builds are made, and tests that know no time are run.
beside: front
	@+$(sub) $(asan_build) $(O)-asan/kernels/cpu/without
	@+$(sub) $(asan_build) asan-programs
	@+$(sub) $(tsan_build) tsan-programs
	@+$(sub) $(asan_build) run-asan-calm
check: ## the inner loop, in 4 minutes and the build: house rules, unit tests, a short run of the programs
	@$(begin)
	@+$(call built,all unit-programs)
	@$(begin) && $(seed)
	@+$(call groups,tidy unit short)
	@tests/run.sh -s $(O)/results 4
unit-programs: $(UNIT_TESTS)
unit: $(UNIT_TESTS) ## unit tests
	@$(RUN) -g unit $(PARALLEL) $(call long_first,$(UNIT_TESTS))
# `make test` runs all of them with AddressSanitizer, and as they are only those that compute: at -O3 the instructions, and
# so the numbers, are others. The rest of the optimised code is what the end-to-end tests run.
# What the simulated GPU computes is the same library in every build, and what it is compared with is proven here by others.
COMPUTING := $(filter-out $(call needing,gpu),$(call room_tests,kernels) \
  $(filter $(addprefix $(O)/tests/runtime/,model/% train/%),$(UNIT_TESTS)))
computing-programs: $(COMPUTING)
computing: $(COMPUTING)
	@$(RUN) -g computing $(PARALLEL) $(call long_first,$(COMPUTING))
short: all ## a job trained and served by the four programs, in seconds
	@O=$(O) $(RUN) -g short tests/e2e/short_run.sh
$(addprefix unit-,$(ROOMS)): unit-%:
	@+$(sub) $(call room_tests,$*) && $(RUN) -g unit-$* $(call room_tests,$*)
# The sanitizers' fixed address ranges collide with mappings randomised over more than 28 bits.
# A container may refuse setarch: then it is done without.
tame := $(shell [ "`cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0`" -le 28 ] || \
  { setarch -R true 2>/dev/null && echo setarch -R; })
# With the fault loops in it: what a failed call leaves behind is where leaks and overruns hide.
asan_build = ASAN=1 FAULT=1 O=$(O)-asan CUDASIM=$(CUDASIM) PLAIN=$(O)
asan asan-rest beside fuzz whole-asan: $(addprefix $(O)/,$(isa_plain))
asan: ## unit tests with AddressSanitizer and UndefinedBehaviourSanitizer, fault loops included
	@+$(sub) $(asan_build) run-asan
# The simulated GPU checks its kernels itself; what model/test_pass differentiates runs in test_model and test_train as
# well; and ranks of train/test_rebalance compute with the reference, five times as slow here: a minute and a half less.
ASAN_TESTS := $(filter-out %/test_cuda %/model/test_pass %/train/test_rebalance,$(UNIT_TESTS))
asan-programs: $(ASAN_TESTS) $(FUZZERS)
# They only compute, so it does not matter how long they wait for a processor.
CALM := $(filter $(addprefix $(O)/tests/,api/test_jobspec% controller/plan/% kernels/test_ops kernels/test_quant runtime/family/% runtime/files/% \
  runtime/data/% runtime/text/test_tok% runtime/model/% runtime/convert/% runtime/train/test_optim),$(ASAN_TESTS))
run_asan = OMP_NUM_THREADS=2 $(tame) $(RUN) -g $(1) $(PARALLEL) $(2) $(call long_first,$(3))
run-asan: $(ASAN_TESTS)
	@$(call run_asan,asan,,$(ASAN_TESTS))
run-asan-calm: $(CALM)
	@CK_TIMEOUT_MULTIPLIER=20 $(call run_asan,asan-calm,-t 900,$(CALM))
asan-rest:
	@+$(sub) $(asan_build) run-asan-rest
run-asan-rest: $(filter-out $(CALM),$(ASAN_TESTS))
	@$(call run_asan,asan-rest,,$(filter-out $(CALM),$(ASAN_TESTS)))
# OpenMP's threads are not this sanitizer's affair (it does not know their barriers): kernels as they are.
tsan_build = TSAN=1 O=$(O)-tsan CUDASIM=$(CUDASIM) KERNELS=$(call lib,kernels)
tsan: $(call lib,kernels) ## the tests that start threads, with ThreadSanitizer
	@+$(sub) $(tsan_build) run-tsan
# In `make test` one in LLMJOB_SAMPLE neighbours, those that are alike long, chosen by LLMJOB_SEED; else all.
in_sample = $(shell printf '%s\n' $(1) | awk -v n=$(LLMJOB_SAMPLE) -v seed=$(LLMJOB_SEED) \
  'BEGIN { srand(seed) } (NR - 1) % n == 0 { k = int(rand() * n) } (NR - 1) % n == k')
tsan_taken := $(if $(and $(TSAN),$(R)),$(call in_sample,$(filter-out --,$(call long_first,$(TSAN_TESTS)))),$(TSAN_TESTS))
tsan-programs: $(tsan_taken)
run-tsan: $(tsan_taken)
	@OMP_NUM_THREADS=1 $(tame) $(RUN) -g tsan $(PARALLEL) $(call long_first,$(tsan_taken))
fault: ## the tests that fail the n-th allocation or system call, without sanitizers
	@+$(sub) FAULT=1 O=$(O)-fault CUDASIM=$(CUDASIM) run-fault
run-fault: $(FAULT_TESTS)
	@$(RUN) -g fault $(FAULT_TESTS)
FUZZ_SECONDS ?= $(if $(R),2,60)
fuzz: ## the parsers under mutated input, FUZZ_SECONDS=60 each
	@+$(sub) $(asan_build) FUZZ_SECONDS=$(FUZZ_SECONDS) run-fuzz
run-fuzz: $(FUZZERS)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(tame) $(RUN) -g fuzz $(PARALLEL) -t $$(($(FUZZ_SECONDS) + 60)) $(FUZZERS)
# All of what tests/sample.h takes a part of.
PROOFS  := tests/prove/whole.sh
SAMPLED := $(call needing,sample)
whole-unit: $(filter $(COMPUTING),$(SAMPLED))
	@$(RUN) -g whole-unit -t 1800 $^
whole-asan:
	@+$(sub) $(asan_build) run-whole-asan
run-whole-asan: $(filter-out %/test_cuda,$(SAMPLED))
	@OMP_NUM_THREADS=2 $(tame) $(RUN) -g whole-asan -t 1800 $(PARALLEL) $^
whole-tsan: $(call lib,kernels)
	@+$(sub) $(tsan_build) run-whole-tsan
run-whole-tsan: $(TSAN_TESTS)
	@OMP_NUM_THREADS=1 $(tame) $(RUN) -g whole-tsan -t 1800 $(PARALLEL) $^
SIM_ROUNDS ?= 5000
sim: $(addprefix $(O)/tests/,controller/plan/test_plan_sim agent/test_world agent/test_term) ## random worlds, SIM_ROUNDS=5000, for plan and coordinators
	@CK_FORK=no LLMJOB_SIM_ROUNDS=$(SIM_ROUNDS) $(RUN) -g sim -t 3600 $^
models: ## fetch the models that tests read, once a machine
	@$(RUN) -g models -t 3600 tests/golden/fetch_all.sh
tidy: $(TIDY) ## the house rules, clang-format included
	@$(RUN) -g tidy $(PARALLEL) $(TIDY) tests/format.sh tests/test_run.sh tests/test_downloads.sh

clean: ## remove what the build made
	rm -rf build build-asan build-tsan build-fault
format: ## clang-format every source file
	clang-format -i $(foreach r,$(ROOMS) tests,$(wildcard $(r)/*.[ch] $(r)/*/*.[ch] $(r)/*/*/*.[ch] $(r)/*/*.cc $(r)/*/*.cu $(r)/*/*.cuh))

# Targets of the local cluster (cluster-up, cluster-down, e2e, image, demo) and of the benchmarks (bench).
-include tests/cluster/targets.mk
-include tests/bench/targets.mk
# The CUDA plugin (CUDA=1, cuda, cuda-toolchain), its simulator, and what is to run on a GPU.
include kernels/cuda/targets.mk
include tests/cudasim/targets.mk
include tests/gpu/targets.mk
# This build against another (bits, pace), and the longer proofs (prove).
include tests/prove/targets.mk

-include $(shell find $(O) -name '*.d' 2>/dev/null)
.PRECIOUS: $(O)/%.o
