#!/bin/bash
# against.sh COMMIT PROGRAM [flags...]: builds COMMIT beside the present build and runs PROGRAM [flags...] with both builds'
# folders, COMMIT's first. The present build is the folder O (build). COMMIT is built in a git worktree below it, with
# the compilers of CC and CXX, and removed in the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
O=${O:-build} commit=$1
git rev-parse --quiet --verify "$commit^{commit}" >/dev/null || { echo "SKIP: there is no commit $commit here"; exit 77; }
mkdir -p "$O"
O=$(realpath "$O")
tree=$(mktemp -d "$O/base.XXXX")
end() {
    local status=$?
    trap - EXIT
    git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"
    git worktree prune
    exit $status
}
trap end EXIT
trap 'exit 130' INT TERM HUP
git worktree add --quiet --detach "$tree" "$commit"
# Not a part of the make that called this: that one's flags and folder are its own.
if ! env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS nice make -C "$tree" -j"$(nproc)" O=build all >"$tree/log" 2>&1; then
    tail -n 40 "$tree/log"
    exit 1
fi
"${@:2}" "$tree/build" "$O"
