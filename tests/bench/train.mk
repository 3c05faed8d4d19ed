# Training tokens per second; the model is optional (random weights of the same shape without it).
$(O)/tests/bench/bench_train.o: ALL_CFLAGS += -fopenmp
$(O)/tests/bench/bench_train: $(O)/tests/bench/bench_train.o $(O)/tests/runtime/shapes.o $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm

.PHONY: bench-train
bench-train: $(O)/tests/bench/bench_train ## training tokens per second on two threads
	$< 2 $(BENCH_MODEL)
