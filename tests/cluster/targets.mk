# Targets of the image, the chart, the local cluster and all that runs on it. Included by the
# Makefile.

IMAGE := $(O)/llmjob-$(VERSION).oci.tar
$(IMAGE): $(PROGRAMS) image/rootfs image/pack
	@rm -rf $(O)/rootfs
	image/rootfs $(O)/rootfs $(PROGRAMS)
	image/pack $@ localhost/llmjob:$(VERSION) $(O)/rootfs /usr/bin/llmjob-agent

# The tests that share one cluster: test_manifests before there is a controller that acts on what it
# makes, test_main_job when little else computes, test_teardown last. Those that need none are run beside it.
e2e_test  = $(1:%=tests/e2e/test_%.sh)
E2E_ALONE   := $(call e2e_test,standalone token_classification sequence_classification masked_lm matching chat convert compression evaluate openai openai_node embeddings support samples search bad_input)
e2e_first   := $(call e2e_test,manifests)
e2e_last    := $(call e2e_test,main_job teardown)
E2E_CLUSTER := $(e2e_first) $(filter-out $(E2E_ALONE) $(e2e_first) $(e2e_last),$(wildcard tests/e2e/test_*.sh)) $(e2e_last)

# The controller that test_controller_crash kills at a request: FAULT=1 changes few files.
FAULTY := $(O)/fault/llmjob-controller
faulty_objects := $(patsubst %.c,$(O)/fault/%.o,$(shell grep -rl --include=*.c LLMJOB_FAULT $(needs_controller)))
$(O)/fault/base/mem.o: ALL_CFLAGS += -DLLMJOB_ALLOW_MALLOC
$(O)/fault/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -DLLMJOB_FAULT=1 -c $< -o $@
$(FAULTY): $(O)/controller/main.o $(faulty_objects) $(call needed_libs,controller)
	$(link) $(LIBS_base) -lm

SBOM := $(O)/llmjob-$(VERSION).cdx.json
$(SBOM): $(IMAGE) image/sbom
	image/sbom $(O)/rootfs $(VERSION) >$@.new && mv $@.new $@

.PHONY: e2e-cluster e2e-alone image sbom chart-crd cluster-binaries cluster-up cluster-down demo sample-data
image: $(IMAGE) ## the container image as an OCI archive, without Docker
sbom: $(SBOM) ## every file of the image with its package and version, as CycloneDX JSON
chart-crd: ## renew the chart's copy of manifests/crd.yaml
	cp manifests/crd.yaml helm/llmjob/files/crd.yaml
cluster-binaries: ## compile the local cluster's programs into ~/.cache/llmjob, once
	@tests/cluster/binaries >/dev/null
cluster-up: ## boot a Kubernetes of three nodes on this machine
	@tests/cluster/up
cluster-down: ## take it down, leaving nothing
	@tests/cluster/down
e2e e2e-cluster whole-e2e: $(IMAGE) $(FAULTY)
e2e: ## end-to-end tests, most of them on the local cluster
	@O=$(O) tests/e2e/with_cluster $(RUN) -g e2e -t 900 $(E2E_ALONE) $(E2E_CLUSTER)
e2e-cluster:
	@O=$(O) tests/e2e/with_cluster $(RUN) -g e2e-cluster -t 900 $(E2E_CLUSTER)
e2e-alone: all
	@O=$(O) $(RUN) -g e2e-alone -t 900 $(E2E_ALONE)
whole-e2e:
	@O=$(O) tests/e2e/with_cluster $(RUN) -g whole-e2e -t 1800 $(call e2e_test,controller_crash main_job token_classification)
sample-data: ## the models and texts that the samples name, in build/sample-data
	@for what in "" names mails movies dialogues preferences support; do tests/e2e/material $(O)/sample-data $$what || exit; done
# A KUBECONFIG of the environment is somebody's work: only one given to make is taken.
demo: native := NATIVE=1
demo: ## train, scale, recover, serve: on this machine, then on a local cluster, or on KUBECONFIG=...
	+@O=$(O) DEMO_MAKE='$(sub) $(jobs)' \
	  DEMO_KUBECONFIG=$(if $(filter command,$(origin KUBECONFIG)),$(KUBECONFIG)) tests/e2e/demo.sh
