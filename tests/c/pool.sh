#!/bin/sh
# Compiles the pool's driver and runs it: pool.sh [SANITIZERS], e.g. pool.sh thread
# or pool.sh address,undefined. CC names the compiler, RUN what runs the program, if not this
# machine; LEAVE_OUT a word in the names of checks to leave out.
set -eu
cd "$(dirname "$0")/../.."
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
sanitize=${1:+-fsanitize=$1 -fno-sanitize-recover=all}
${CC:-cc} -std=gnu11 -O1 -g -Wall -Wextra -Werror -frounding-math -pthread ${sanitize:-} -Isrc \
    tests/c/test_pool.c src/pool.c src/count.c -lm -o "$built/test_pool"
# The fork tests start threads in a child of a process with threads, that is their point, and such a
# child cannot join its parent's.
TSAN_OPTIONS="die_after_fork=0 report_thread_leaks=0 atexit_sleep_ms=10 ${TSAN_OPTIONS:-}" \
    ${RUN:-} "$built/test_pool" ${LEAVE_OUT:-}
