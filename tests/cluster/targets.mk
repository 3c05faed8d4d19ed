# Targets of the image, the chart, the local cluster and all that runs on it. Included by the
# Makefile.

IMAGE := $(O)/llmjob-$(VERSION).oci.tar
$(IMAGE): $(PROGRAMS) image/rootfs image/pack
	@rm -rf $(O)/rootfs
	image/rootfs $(O)/rootfs $(PROGRAMS)
	image/pack $@ localhost/llmjob:$(VERSION) $(O)/rootfs /usr/bin/llmjob-agent

# The tests that share one cluster: test_manifests before there is a controller that acts on what it
# makes, test_teardown last.
e2e_first := tests/e2e/test_manifests.sh
e2e_last  := tests/e2e/test_teardown.sh
e2e_all   := $(wildcard tests/e2e/test_*.sh)
E2E_TESTS := $(e2e_first) $(filter-out $(e2e_first) $(e2e_last),$(e2e_all)) $(e2e_last)

SBOM := $(O)/llmjob-$(VERSION).cdx.json
$(SBOM): $(IMAGE) image/sbom
	image/sbom $(O)/rootfs $(VERSION) >$@.new && mv $@.new $@

.PHONY: image sbom chart-crd cluster-binaries cluster-up cluster-down demo sample-data
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
e2e: $(IMAGE) ## end-to-end tests on the local cluster
	@O=$(O) tests/e2e/with_cluster $(RUN) -g e2e -t 900 $(E2E_TESTS)
sample-data: ## the model and the text that the samples name, in build/sample-data
	@tests/e2e/material $(O)/sample-data
# A KUBECONFIG of the environment is somebody's work: only one given to make is taken.
demo: ## train, scale, recover, serve: on the local cluster, or on KUBECONFIG=...
	@tests/deps.sh
	@$(sub) $(jobs) image $(O)/llmjob
	@O=$(O) DEMO_KUBECONFIG=$(if $(filter command,$(origin KUBECONFIG)),$(KUBECONFIG)) \
	  tests/e2e/demo.sh
