# Collectives, and figures of the whole on the local cluster. `make bench` measures one thing after another, on a
# machine that does nothing else meanwhile.

$(O)/tests/bench/bench_coll: $(O)/tests/bench/bench_coll.o $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm

.PHONY: bench-coll bench-allreduce bench-cluster bench-controlplane
bench:
	@+$(sub) -j1 bench-coll bench-train bench-cluster bench-controlplane
bench-coll: $(O)/tests/bench/bench_coll ## all-reduce rates between two processes
	$<
bench-allreduce: $(O)/tests/bench/bench_coll ## all-reduce beside MPICH, Open MPI and Gloo, 1 KB to 128 MB
	@tests/bench/allreduce.sh $(O)
bench-controlplane: $(O)/llmjob-controller ## what the operator costs, beside batch/v1 on the same API server
	@O=$(O) tests/bench/controlplane.sh
bench-cluster: $(IMAGE) ## seconds to train and to recover, and the controller's memory, on the local cluster
	@O=$(O) tests/bench/cluster.sh
