# The CUDA plugin compiled for the host (tests/cudasim). Included by the Makefile.
#
# Two libraries of the same sources: "plain" runs fast and is put beside the runtime's tests, where
# dev_open looks; "checked" watches every access of a kernel and is put beside the kernels' tests.
CXX ?= g++
CUDASIM := $(O)/tests/cudasim
cudasim_warnings := -Wall -Wextra -Wno-unknown-pragmas $(if $(filter 1,$(WERROR)),-Werror)
# Never with the program's sanitizers: fibres would confuse them, and the checked library answers
# the calls of -fsanitize itself. Contraction would make results depend on the compiler's mood. Lines of code, and nothing
# of variables, are what a back-trace needs: the rest was a quarter of the time.
cudasim_common := -O2 -g1 -fPIC -ffp-contract=off -Itests/cudasim -I. -D_GNU_SOURCE -DLLMJOB_CUDASIM \
  -DLLMJOB_VERSION='"$(VERSION)"' -MMD -MP
CUDASIM_CXXFLAGS := -std=c++17 -fvisibility=hidden -fno-strict-aliasing $(cudasim_common) $(cudasim_warnings)
CUDASIM_CFLAGS := -std=gnu11 $(cudasim_common) -include base/banned.h $(cudasim_warnings) -Wconversion -Wformat=2 -Wshadow \
  -Wno-sign-conversion -fno-strict-aliasing
# The calls of tsan for each load and store (asan leaves out thread-local variables, which __shared__ arrays are), and
# of ubsan for alignment and for arrays of constant size.
CUDASIM_CHECKS := -fsanitize=thread,alignment,bounds -fno-sanitize-recover=all --param tsan-instrument-func-entry-exit=0

cudasim_kernels := $(wildcard kernels/cuda/*.cu) tests/cudasim/faults.cu
cudasim_host    := $(filter-out kernels/cuda/blas.c,$(wildcard kernels/cuda/*.c)) kernels/dev_type.c $(addprefix base/,err.c utf8.c mem.c clock.c io.c buf.c net.c number.c)
cudasim_own     := $(wildcard tests/cudasim/*.cc)
cudasim_objects := $(cudasim_host:%.c=$(CUDASIM)/host/%.o) $(cudasim_own:%.cc=$(CUDASIM)/host/%.o)

$(CUDASIM)/host/base/mem.o: CUDASIM_CFLAGS += -DLLMJOB_ALLOW_MALLOC
$(CUDASIM)/host/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CUDASIM_CFLAGS) -c $< -o $@
$(CUDASIM)/host/%.o: %.cc
	@mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(CUDASIM_CXXFLAGS) -c $< -o $@
$(CUDASIM)/plain/%.o: %.cu
	@mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(CUDASIM_CXXFLAGS) -x c++ -c $< -o $@
$(CUDASIM)/checked/%.o: %.cu
	@mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(CUDASIM_CXXFLAGS) $(CUDASIM_CHECKS) -x c++ -c $< -o $@

# Symbols of the program must not stand in for those of the library: -Bsymbolic, and a list of two.
define cudasim_library
$(CUDASIM)/$(1)/libllmjob-cuda.so: $(cudasim_kernels:%.cu=$(CUDASIM)/$(1)/%.o) $(cudasim_objects) tests/cudasim/plugin.map
	$$(Q)$(CXX) -shared -o $$@ $$(filter %.o,$$^) -Wl,--version-script=tests/cudasim/plugin.map -Wl,-Bsymbolic \
	  -Wl,--no-undefined -Wl,-z,now -lrt -ldl -lm -pthread
endef
$(eval $(call cudasim_library,plain))
$(eval $(call cudasim_library,checked))
# Whoever opens "cuda" needs it beside himself: kernels' tests the checked one, others the plain.
cudasim_users := $(call needing,cuda)
define cudasim_beside
$(filter $(1)%,$(cudasim_users)): $(1)libllmjob-cuda.so
$(1)libllmjob-cuda.so: $(CUDASIM)/$(if $(filter %/kernels/,$(1)),checked,plain)/libllmjob-cuda.so
	@mkdir -p $$(@D) && ln -f $$< $$@
endef
$(foreach d,$(sort $(dir $(cudasim_users))),$(eval $(call cudasim_beside,$(d))))
# Those that run on a GPU as well ask which it is.
$(call needing,gpu): $(O)/tests/gpu/gpu.o

.PHONY: cudasim
cudasim: $(addsuffix libllmjob-cuda.so,$(sort $(dir $(cudasim_users)))) ## the CUDA plugin for the host
