#!/bin/bash
# Stands for test_plugin where there is neither a CUDA toolkit nor wheels of one to fetch.
echo "SKIP: no CUDA toolkit (set CUDA_HOME and NCCL_HOME), and NVIDIA's wheels are for x86_64 only"
exit 77
