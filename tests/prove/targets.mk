# Proofs that take too long for `make test`. A proof is a program that tests/run.sh runs: PROOFS += its path.
# BASE is the commit that the present build is compared with; BITS are flags of bits.sh.
BASE   ?= HEAD^
BITS   ?=
PROOFS += $(addprefix tests/prove/,quick.sh demo_interrupt.sh aarch64.sh isa.sh names_on_cluster.sh corpus.sh llamacpp.sh match.sh preferences.sh ensemble.sh monitor.sh support.sh library.sh recommend.sh elastic_on_cluster.sh samples_on_cluster.sh serve_sharded.sh crowd.sh kv_cache.sh edge.sh loras.sh serve_on_cluster.sh serve_replicas.sh search_on_cluster.sh precision.sh communication.sh kill_matrix.sh overlap.sh logits.sh board.sh grammar.sh outside.sh page.sh)

$(O)/tests/prove/logits: $(O)/tests/prove/logits.o $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) -ldl -lm

$(O)/tests/prove/walks: $(O)/tests/prove/walks.o $(O)/tests/runtime/libfixtures.a $(call needed_libs,runtime)
	$(link) $(LIBS_runtime) $(LIBS_kernels) $(LIBS_base) $(LIBS_check) -ldl -lm

.PHONY: bits pace prove
bits: all ## the same to the bit as BASE=HEAD^ : losses, checkpoints, exports, answers, memory
	@O=$(O) tests/prove/against.sh $(BASE) tests/prove/bits.sh $(BITS)
pace: all ## as fast as BASE=HEAD^ in training and serving, on a quiet machine
	@O=$(O) tests/prove/against.sh $(BASE) tests/prove/pace.sh
prove: all $(addprefix $(O)/tests/prove/,logits walks) ## the longer proofs
	@O=$(O) BASE=$(BASE) tests/run.sh -g prove -t 3600 $(PROOFS)
