# Training tokens per second. CASES: of bench_train.sh; all.
$(O)/tests/bench/bench_train.o: ALL_CFLAGS += -fopenmp
$(O)/tests/bench/bench_train: $(O)/tests/bench/bench_train.o $(O)/tests/runtime/shapes.o $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm

.PHONY: bench-train bench-axes
bench-axes: all ## training by two ranks on each axis beside torch's data parallel: tokens per second, twenty minutes
	@O=$(O) tests/bench/axes.sh
bench-train: $(O)/tests/bench/bench_train ## training beside torch: tokens per second and peak memory, half an hour
	@tests/bench/bench_train.sh $(O) $(CASES)
