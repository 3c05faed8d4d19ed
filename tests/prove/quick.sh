#!/bin/sh
# quick.sh: the present build computes what the commit BASE does: bits.sh -q as a program that tests/run.sh runs.
cd "$(dirname "$0")" && exec ./against.sh "${BASE:-HEAD^}" ./tests/prove/bits.sh -q
