# Proofs and figures on a real GPU, with the plugin that nvcc compiles. Included by the Makefile.
#
# The tests that run on both are the same programs: here they stand, by a second name, beside the real plugin.
GPU := $(O)/tests/gpu
GPU_PROGRAMS := $(GPU)/gpu_ops $(GPU)/bench_gpu
GPU_TESTS    := $(addprefix $(GPU)/,$(notdir $(call needing,gpu)))
$(GPU)/%.o: ALL_CFLAGS += -fopenmp
$(GPU)/gpu_ops: $(GPU)/gpu_ops.o $(GPU)/gpu.o $(O)/tests/kernels/op_cases.o $(O)/tests/kernels/op_cases_optim.o $(O)/tests/kernels/op_cases_cache.o $(O)/tests/kernels/op_cases_experts.o $(O)/tests/kernels/parity.o $(call needed_libs,kernels)
	$(link) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm
$(GPU)/bench_gpu: $(GPU)/bench_gpu.o $(O)/tests/runtime/shapes.o $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm
define gpu_test
$(GPU)/$(notdir $(1)): $(1)
	@mkdir -p $$(@D) && ln -f $$< $$@
endef
$(foreach t,$(call needing,gpu),$(eval $(call gpu_test,$(t))))
$(GPU)/libllmjob-cuda.so: $(CUDA_PLUGIN)
	@ln -sf ../../libllmjob-cuda.so $@

# All that a machine without development packages needs; the real plugin is the image's, which names no folder of this machine.
GPU_BUNDLE := tests/gpu/bundle.sh
gpu_bundled := $(GPU_PROGRAMS) $(GPU_TESTS)
$(O)/gpu.tar.gz: $(GPU_BUNDLE) $(gpu_bundled) $(O)/image/libllmjob-cuda.so $(wildcard tests/gpu/*.sh tests/gpu/*.py)
	@$(GPU_BUNDLE) $(O)/gpu $(O)/image/libllmjob-cuda.so $(gpu_bundled)
	@tar -C $(O) -czf $@ gpu && echo "$@: $$(du -BK $@ | cut -f 1)iB; on the machine: tar xf, gpu/run.sh check|bench"

gpu gpu-check gpu-bench: export OMP_WAIT_POLICY := passive
.PHONY: gpu gpu-check gpu-bench gpu-bundle gpu-programs
gpu-programs: $(GPU_PROGRAMS)
gpu-check: $(GPU_PROGRAMS) $(GPU_TESTS) $(GPU)/libllmjob-cuda.so ## on this machine's GPU: operations, models, training, compute-sanitizer
	@tests/gpu/run.sh check $(GPU)
gpu-bench: $(GPU_PROGRAMS) $(GPU)/libllmjob-cuda.so ## on this machine's GPU: speed beside PyTorch, written to docs/measurements
	@tests/gpu/run.sh bench $(GPU)
gpu-bundle: $(O)/gpu.tar.gz ## the two above for a machine without development packages
gpu: $(gpu_bundled) $(CUDASIM)/plain/libllmjob-cuda.so ## the bundle rehearsed with the simulated GPU
	@$(GPU_BUNDLE) $(O)/gpu-rehearsal $(CUDASIM)/plain/libllmjob-cuda.so $(gpu_bundled)
	@GPU_BUNDLE=$(O)/gpu-rehearsal $(RUN) -g gpu tests/gpu/rehearse.sh
