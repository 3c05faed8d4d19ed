#!/bin/sh
# Goal: what `make test` tries a sample of holds whole. Method: the same programs with LLMJOB_SAMPLE=1: operations, CUDA
# kernels and trainings, these and gradients under AddressSanitizer as well, collectives under ThreadSanitizer, a
# controller killed at every request, the samples' own job, names learnt by all of a model's layers.
# Each group prints its total.
cd "$(dirname "$0")/../.." || exit 1
exec env -u MAKEFLAGS -u MAKELEVEL LLMJOB_SAMPLE=1 make -k --no-print-directory O="${O:-build}" whole-unit whole-asan whole-tsan whole-e2e
