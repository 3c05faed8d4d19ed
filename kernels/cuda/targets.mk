# Targets of the CUDA plugin, libllmjob-cuda.so. Included by the Makefile. `make CUDA=1` adds it to what `make` builds.
#
# The toolkit is looked for when a target needs it, once a run of make: an installed one, or the pinned
# wheels of `make cuda-toolchain` (kernels/cuda/toolchain.sh says how). The kernels are compiled by nvcc
# through a cache, the rest by $(CC). The CUDA runtime is linked in; cuBLASLt and NCCL are found beside the
# plugin (the image) or where they were when it was linked; the driver's libraries at run time.
cuda_paths = $(eval cuda_paths := $(shell kernels/cuda/toolchain.sh || echo none none))$(cuda_paths)
cuda_home  = $(word 1,$(cuda_paths))
nccl_home  = $(word 2,$(cuda_paths))
comma      := ,
space      := $(subst ,, )
cuda_libs  = $(cuda_home)/lib64 $(cuda_home)/lib $(nccl_home)/lib $(nccl_home)/lib64 $(nccl_home)/lib/$(ARCH)-linux-gnu

# GPUs of 8.0 and 9.0 by machine code of their own, 8.6 and 8.9 by 8.0's (with smaller tiles: they have less shared
# memory), 10.0, 12.0 and later ones by what the driver makes of 8.0's PTX. No kernel uses an instruction newer than 8.0's.
CUDA_ARCH ?= -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a
# No C++ runtime: static variables of functions need no lock, nothing throws.
NVCCFLAGS := -std=c++17 -O3 -lineinfo $(CUDA_ARCH) --Werror all-warnings -I. \
  -Xcompiler -fPIC,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-fvisibility=hidden \
  -Xcompiler -fstack-protector-strong,-Wall,-Wextra

CUDA_PLUGIN  := $(O)/libllmjob-cuda.so
CUDA_KERNELS := $(patsubst %.cu,$(O)/%.cu.o,$(wildcard kernels/cuda/*.cu))
# Its own copies of what it needs of the house, position-independent.
CUDA_HOST    := $(patsubst %.c,$(O)/cuda/%.o,$(wildcard kernels/cuda/*.c) kernels/dev_type.c \
  base/err.c base/utf8.c base/mem.c base/clock.c base/buf.c base/io.c base/net.c base/number.c)

$(O)/kernels/cuda/%.cu.o: kernels/cuda/%.cu kernels/cuda/compile.sh kernels/cuda/targets.mk
	$(Q)kernels/cuda/compile.sh $(cuda_home)/bin/nvcc $< $@ $(NVCCFLAGS)
$(O)/cuda/base/mem.o: ALL_CFLAGS += -DLLMJOB_ALLOW_MALLOC
$(O)/cuda/%.o: %.c kernels/cuda/targets.mk
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fPIE,$(ALL_CFLAGS)) -fPIC -fvisibility=hidden \
	  -isystem $(cuda_home)/include -isystem $(nccl_home)/include -c $< -o $@
cuda_link = $(Q)$(CC) $(OPT) $(CFLAGS) -shared -o $@ $(filter %.o,$^) $(filter-out -pie,$(LDFLAGS_COMMON)) \
  -Wl,-z,defs -Wl,--exclude-libs,ALL -Wl,--enable-new-dtags -Wl,-rpath,'$$ORIGIN' \
  $(patsubst %,-L%,$(wildcard $(cuda_libs))) -l:libcudart_static.a -lcublasLt -lnccl -static-libgcc -lrt -ldl -lm
$(CUDA_PLUGIN): $(CUDA_HOST) $(CUDA_KERNELS)
	$(cuda_link) $(patsubst %,-Wl$(comma)-rpath$(comma)%,$(wildcard $(cuda_libs)))

ifneq ($(CUDA),)
all: $(CUDA_PLUGIN)
endif

# Beside the plugin that was just linked, as a rank is.
CUDA_TEST := $(O)/tests/cuda/test_plugin
$(CUDA_TEST): $(O)/tests/cuda/test_plugin.o $(call lib,kernels) $(call lib,base) $(CUDA_PLUGIN)
	$(link) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm
	@ln -sf ../../libllmjob-cuda.so $(@D)/libllmjob-cuda.so

# blas.c as it goes into the plugin, above a library on the host.
CUDA_BLAS_TEST := $(O)/tests/cuda/test_blas
$(O)/tests/cuda/test_blas.o $(O)/tests/cuda/fake_cublaslt.o: ALL_CFLAGS += -isystem $(cuda_home)/include
$(CUDA_BLAS_TEST): $(O)/tests/cuda/test_blas.o $(O)/tests/cuda/fake_cublaslt.o $(O)/cuda/kernels/cuda/blas.o \
  $(call lib,kernels) $(call lib,base)
	$(link) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm

# What these take for the driver's library.
$(addprefix $(O)/tests/kernels/,test_nvml test_cuda_nccl): | $(O)/tests/kernels/fake/libnvidia-ml.so.1
$(O)/tests/kernels/fake/libnvidia-ml.so.1: tests/cuda/fake_nvml.c
	@mkdir -p $(@D)
	$(Q)$(CC) -g -shared -fPIC -fvisibility=hidden -Wall -Wextra -Werror -Wl,-soname,libnvidia-ml.so.1 $< -o $@

.PHONY: cuda cuda-toolchain cuda-kernels image-cuda sbom-cuda
# Elsewhere than on x86_64 only with an installed toolkit.
cuda_possible = $(or $(filter x86_64,$(ARCH)),$(shell kernels/cuda/toolchain.sh -n))
cuda_tests = $(if $(cuda_possible),$(CUDA_TEST) $(CUDA_BLAS_TEST),tests/cuda/no_toolkit.sh)
cuda: $(cuda_tests) ## compile and link the CUDA plugin, load it, and test its use of cuBLASLt
	@$(RUN) -g cuda $(cuda_tests)
cuda-toolchain: ## fetch the pinned CUDA compiler and libraries, unless a toolkit is installed
	@kernels/cuda/toolchain.sh
cuda-kernels: $(CUDA_KERNELS)

CUDA_IMAGE := $(O)/llmjob-$(VERSION)-cuda.oci.tar
image-cuda: $(CUDA_IMAGE) ## the container image for ranks on NVIDIA GPUs
# Without the folders of this machine, which the image's bytes must not depend on.
$(O)/image/libllmjob-cuda.so: $(CUDA_HOST) $(CUDA_KERNELS)
	@mkdir -p $(@D)
	$(cuda_link)
$(CUDA_IMAGE): $(PROGRAMS) $(O)/image/libllmjob-cuda.so image/rootfs image/pack
	@rm -rf $(O)/rootfs-cuda
	LD_LIBRARY_PATH=$(subst $(space),:,$(wildcard $(cuda_libs))) \
	  image/rootfs $(O)/rootfs-cuda $(PROGRAMS) $(O)/image/libllmjob-cuda.so
	image/pack $@ localhost/llmjob:$(VERSION)-cuda $(O)/rootfs-cuda /usr/bin/llmjob-agent
CUDA_SBOM := $(O)/llmjob-$(VERSION)-cuda.cdx.json
sbom-cuda: $(CUDA_SBOM) ## the same of the image for NVIDIA GPUs
$(CUDA_SBOM): $(CUDA_IMAGE) image/sbom
	image/sbom $(O)/rootfs-cuda $(VERSION) $(abspath $(cuda_home)/../..) >$@.new && mv $@.new $@
