# llmjob: one Makefile, everything it makes goes to $(O). `make help` lists the targets.
# Switches: CUDA=1 ASAN=1 TSAN=1 FAULT=1 (each has its own output folder), WERROR=0, O=<folder>.

V_NAME   := $(if $(ASAN),-asan)$(if $(TSAN),-tsan)$(if $(FAULT),-fault)
O        ?= build$(V_NAME)
CC       ?= cc
WERROR   ?= 1
VERSION  := $(shell cat VERSION 2>/dev/null || echo 0.1.0)

ARCH := $(shell uname -m)
CFLAGS_COMMON := -std=gnu11 -g -I. -D_GNU_SOURCE -DLLMJOB_VERSION='"$(VERSION)"' -include base/banned.h \
  -Wall -Wextra -Wconversion -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-sign-conversion \
  -fno-strict-aliasing -fstack-protector-strong -fPIE $(if $(filter 1,$(WERROR)),-Werror)
OPT      := -O3 $(if $(ASAN)$(TSAN),,-D_FORTIFY_SOURCE=2)
LDFLAGS_COMMON := -pie -Wl,-z,relro,-z,now -Wl,--as-needed -pthread
ifdef ASAN
  OPT := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
ifdef TSAN
  OPT := -O1 -fno-omit-frame-pointer -fsanitize=thread
endif
ifdef FAULT
  OPT += -DLLMJOB_FAULT=1
endif
CFLAGS  ?=
ALL_CFLAGS = $(CFLAGS_COMMON) $(OPT) $(CFLAGS) -MMD -MP

ROOMS := base kernels runtime agent controller cli
src    = $(wildcard $(1)/*.c $(1)/*/*.c)
obj    = $(patsubst %.c,$(O)/%.o,$(call src,$(1)))
mains := agent/main.c controller/main.c cli/main.c runtime/main.c
lib    = $(O)/lib$(1).a

LIBS_base       := -lcurl -lwebsockets -lcjson -lyaml -lcrypto
LIBS_kernels    := -ldnnl -fopenmp
LIBS_runtime    := -lpcre2-8 -lxxhash -lcrypto
PROGRAMS := $(O)/llmjob-rank $(O)/llmjob-agent $(O)/llmjob-controller $(O)/llmjob

.PHONY: all help
all: $(PROGRAMS) ## build the four programs

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 20

# ---- objects and libraries -------------------------------------------------------------------------------------
$(O)/base/mem.o: ALL_CFLAGS += -DLLMJOB_ALLOW_MALLOC
# OpenMP only where ranks compute.
$(O)/kernels/%.o $(O)/runtime/%.o $(O)/tests/kernels/%.o $(O)/tests/runtime/%.o: ALL_CFLAGS += -fopenmp
$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c $< -o $@

define room_library
$(call lib,$(1)): $(filter-out $(patsubst %.c,$(O)/%.o,$(mains)),$(call obj,$(1)))
	@rm -f $$@ && mkdir -p $$(@D) && ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_library,$(r))))

link = $(CC) $(OPT) $(CFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS_COMMON)
$(O)/llmjob-rank: $(O)/runtime/main.o $(call lib,runtime) $(call lib,kernels) $(call lib,base)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm
$(O)/llmjob-agent: $(O)/agent/main.o $(call lib,agent) $(call lib,base)
	$(link) $(LIBS_base) -lm
$(O)/llmjob-controller: $(O)/controller/main.o $(call lib,controller) $(call lib,base)
	$(link) $(LIBS_base) -lm
$(O)/llmjob: $(O)/cli/main.o $(call lib,cli) $(call lib,base)
	$(link) $(LIBS_base) -lm
	@ln -sf llmjob $(O)/kubectl-llmjob

# ---- unit tests: one program a file, tests/<room>/test_x.c ------------------------------------------------------
unit_tests = $(patsubst tests/%.c,$(O)/tests/%,$(wildcard tests/$(1)/test_*.c))
LIBS_check := -lcheck -lsubunit -lrt
$(O)/tests/base/%: $(O)/tests/base/%.o $(call lib,base)
	$(link) $(LIBS_base) $(LIBS_check) -lm
$(O)/tests/kernels/%: $(O)/tests/kernels/%.o $(call lib,kernels) $(call lib,base)
	$(link) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm
$(O)/tests/runtime/%: $(O)/tests/runtime/%.o $(call lib,runtime) $(call lib,kernels) $(call lib,base)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm
$(O)/tests/agent/%: $(O)/tests/agent/%.o $(call lib,agent) $(call lib,base)
	$(link) $(LIBS_base) $(LIBS_check) -lm
$(O)/tests/controller/%: $(O)/tests/controller/%.o $(call lib,controller) $(call lib,base)
	$(link) $(LIBS_base) $(LIBS_check) -lm
$(O)/tests/cli/%: $(O)/tests/cli/%.o $(call lib,cli) $(call lib,base)
	$(link) $(LIBS_base) $(LIBS_check) -lm

UNIT_TESTS := $(foreach r,$(ROOMS),$(call unit_tests,$(r)))
.PHONY: unit-programs $(addprefix unit-,$(ROOMS)) clean format
unit-programs: $(UNIT_TESTS)
$(addprefix unit-,$(ROOMS)): unit-%: ; @$(MAKE) --no-print-directory O=$(O) $(call unit_tests,$*) && tests/run.sh $(call unit_tests,$*)

clean: ## remove what the build made
	rm -rf build build-asan build-tsan build-fault
format: ## clang-format every source file
	clang-format -i $(foreach r,$(ROOMS) tests,$(wildcard $(r)/*.[ch] $(r)/*/*.[ch]))

-include $(shell find $(O) -name '*.d' 2>/dev/null)
.PRECIOUS: $(O)/%.o
