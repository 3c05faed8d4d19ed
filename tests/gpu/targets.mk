# Proofs and figures on a real GPU, with the plugin that nvcc compiles. Included by the Makefile.
GPU_PROGRAMS := $(O)/tests/gpu/gpu_ops $(O)/tests/gpu/bench_gpu
$(O)/tests/gpu/%.o: ALL_CFLAGS += -fopenmp
$(O)/tests/gpu/gpu_ops: $(O)/tests/gpu/gpu_ops.o $(O)/tests/kernels/op_cases.o $(O)/tests/kernels/parity.o $(call lib,kernels) $(call lib,base)
	$(link) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm
$(O)/tests/gpu/bench_gpu: $(O)/tests/gpu/bench_gpu.o $(call lib,runtime) $(call lib,kernels) $(call lib,base)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm
$(O)/tests/gpu/libllmjob-cuda.so: $(CUDA_PLUGIN)
	@ln -sf ../../libllmjob-cuda.so $@

.PHONY: gpu-check gpu-bench gpu-programs
gpu-programs: $(GPU_PROGRAMS)
gpu-check: $(GPU_PROGRAMS) $(O)/tests/gpu/libllmjob-cuda.so ## every operation on this machine's GPU against the reference
	@$(RUN) -v -g gpu $<
gpu-bench: $(GPU_PROGRAMS) $(O)/tests/gpu/libllmjob-cuda.so ## training on this machine's GPU beside PyTorch
	@tests/gpu/bench.sh $(O)/tests/gpu
