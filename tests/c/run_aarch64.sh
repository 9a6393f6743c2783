#!/usr/bin/env bash
# The C tests for aarch64, compiled by a cross compiler and run under qemu's user emulation, with NEON
# and as the baseline. On Debian and Ubuntu: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
set -euo pipefail
cd "$(dirname "$0")"
: "${CC:=aarch64-linux-gnu-gcc}" "${QEMU:=qemu-aarch64}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for test in test_vec.c test_elementwise.c test_attention.c test_kernels.c; do
    [ -e "$test" ] || continue
    for isa in NEON BASELINE; do
        for double in 0 1; do
            echo "== $test $isa FRN_DOUBLE=$double"
            "$CC" -static -std=gnu11 -O3 -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -I../../src \
                "-DFRN_ISA_$isa" "-DFRN_DOUBLE=$double" "$test" -o "$folder/test" -lm -pthread
            "$QEMU" "$folder/test" "$@"
        done
    done
done
echo "== test_pool.c"
# qemu itself fails when the child of a process with threads starts one.
CC="$CC -static" RUN="$QEMU" LEAVE_OUT=fork ./pool.sh
