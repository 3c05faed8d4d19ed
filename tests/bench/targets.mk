# Benchmarks: `make bench` runs them all; each author's file <name>.mk adds a program and its bench-<name> target.
$(O)/tests/bench/%.o: ALL_CFLAGS += -fopenmp
$(O)/tests/bench/bench_ops: $(O)/tests/bench/bench_ops.o $(call needed_libs,kernels)
	$(link) $(LIBS_kernels) $(LIBS_base) -ldl -lm

.PHONY: bench bench-ops
bench: bench-ops ## print the speed of operations, collectives and training
bench-ops: $(O)/tests/bench/bench_ops ## rates of the device operations
	$<

include $(filter-out tests/bench/targets.mk,$(wildcard tests/bench/*.mk))
