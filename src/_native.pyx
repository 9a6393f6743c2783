"""The native base: dispatch and the thread pool.

What stands above uses it from Cython through ``fastrnn/_native.pxd``; what Python sees here is
private, except for what ``fastrnn`` exports.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint64_t

import os

import numpy as np


cdef extern from "pool.h" nogil:
    int frn_pool_run(task_fn task, void *ctx, size_t n_tasks, int n_threads) noexcept
    int frn_pool_team(member_fn member, void *ctx, int n_threads, int64_t patience_ns) noexcept
    void frn_pool_region_ended(bint disturbed) noexcept
    int frn_pool_calm() noexcept
    int frn_pool_size() noexcept
    int frn_pool_stop() noexcept

cdef extern from "barrier.h" nogil:
    void frn_barrier_init(frn_barrier *b) noexcept
    bint frn_barrier_late(frn_barrier *b) noexcept

cdef extern from "spin.h" nogil:
    int64_t frn_now_ns() noexcept

cdef extern from "count.h" nogil:
    int frn_affinity_count() noexcept
    int frn_capacity() noexcept
    int frn_num_threads() noexcept
    ctypedef enum frn_source:
        pass
    int frn_num_threads_from(frn_source *source) noexcept
    int frn_set_thread_limit(int n) noexcept
    int frn_set_process_threads(int n) noexcept
    int frn_set_environment_threads(int n) noexcept
    int frn_set_quota(int n) noexcept

cdef extern from "dispatch.h":
    ctypedef struct frn_isa:
        const char *name
        bint tuned
        int (*usable)() noexcept nogil
        const frn_kernels *table[2]
    const frn_isa frn_isas[]
    const char frn_compiler[]

cdef extern from "hash.h" nogil:
    uint64_t frn_hash(const void *data, size_t nbytes, uint64_t seed) noexcept

cdef extern from *:
    """
    #include "spin.h"

    #ifdef FRN_DEBUG
    #define FRN_IS_DEBUG 1
    #else
    #define FRN_IS_DEBUG 0
    #endif

    /* Whether this thread last looked for signals longer ago than `patience`; if so, it now has. */
    static int frn_time_to_look(int64_t patience) {
        static _Thread_local int64_t looked_at;
        int64_t now = frn_now_ns();
        if (looked_at && now - looked_at < patience) return 0;
        looked_at = now;
        return 1;
    }
    """
    bint FRN_IS_DEBUG
    int frn_time_to_look(long long patience) noexcept nogil


# Dispatch

cdef int chosen = -1  # index in frn_isas, or -1 before the first use
cdef int gemm = -1  # 0 packed, 1 blas, -1 as the environment or the ISA says

GEMMS = ("packed", "blas")
DEBUG = FRN_IS_DEBUG  # built with FASTRNN_DEBUG


def built_isas():
    """Names of the instruction sets that kernels were compiled for, best first."""
    names = []
    cdef int i = 0
    while frn_isas[i].name != NULL:
        names.append(frn_isas[i].name.decode())
        i += 1
    return names


def isas():
    """Names of the instruction sets that native code can use here, best first.

    The first is used unless the environment variable ``FASTRNN_ISA`` names another.

    Returns
    -------
    list of str
        Some of ``"avx512"``, ``"avx2"``, ``"neon"`` and, always, ``"baseline"``.
    """
    return [name for i, name in enumerate(built_isas()) if frn_isas[i].usable()]


cdef int _index(str argument, str name) except -1:
    """The place of a usable ISA in frn_isas; `argument` names its source in messages."""
    usable = isas()
    built = built_isas()
    if name in usable:
        return built.index(name)
    choices = ", ".join(repr(choice) for choice in usable)
    if name in built:
        raise ValueError(
            f"{argument}: expected an instruction set that this processor has, one of {choices}, got {name!r}"
        )
    raise ValueError(f"{argument}: expected one of {choices}, got {name!r}")


cdef int _choice() except -1:
    global chosen
    if chosen < 0:
        name = os.environ.get("FASTRNN_ISA")
        chosen = _index("FASTRNN_ISA", name) if name else _index("isa", isas()[0])
    return chosen


cdef const frn_kernels *kernels(int itemsize) except NULL:
    if itemsize != 4 and itemsize != 8:
        raise ValueError(f"itemsize: expected 4 or 8, got {itemsize}")
    return frn_isas[chosen if chosen >= 0 else _choice()].table[itemsize // 8]


def lanes(int itemsize):
    """How many numbers of `itemsize` bytes a vector of the instruction set in use holds."""
    return kernels(itemsize).lanes


def chosen_isa():
    """Name of the instruction set in use.

    Raises
    ------
    ValueError
        If ``FASTRNN_ISA`` names none that can run here.
    """
    return frn_isas[_choice()].name.decode()


class force_isa:
    """Make native code use the instruction set `name` at once; None: choose anew.

    As a context manager it goes back to the one before at the end. For tests: it acts on the whole
    process, and what was packed for one instruction set is of no use to another.
    """

    def __init__(self, name):
        global chosen
        self._before = chosen
        chosen = -1 if name is None else _index("name", name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        global chosen
        chosen = self._before


cdef bint gemm_is_blas() except -1:
    if gemm >= 0:
        return gemm
    name = os.environ.get("FASTRNN_GEMM")
    if name:
        return _gemm("FASTRNN_GEMM", name)
    return not frn_isas[_choice()].tuned


cdef int _gemm(str argument, object name) except -1:
    if not isinstance(name, str) or name not in GEMMS:  # comparing an array gives an array
        raise ValueError(f"{argument}: expected one of 'packed', 'blas', got {name!r:.80}")
    return GEMMS.index(name)


def set_gemm(name):
    """Choose the engine that multiplies matrices, for the whole process.

    Parameters
    ----------
    name : {"packed", "blas"} or None
        ``"packed"`` is fastrnn's own product, whose results have the same bits for any batch and
        any number of threads. ``"blas"`` is the BLAS that SciPy brings, which promises neither.
        None goes back to the default: what the environment variable ``FASTRNN_GEMM`` says, else
        ``"packed"`` where it is tuned for the instruction set in use (AVX2 and AVX-512), else
        ``"blas"``.

    Raises
    ------
    ValueError
        If `name` is another.
    """
    global gemm
    gemm = -1 if name is None else _gemm("name", name)


def get_gemm():
    """The engine that multiplies matrices: ``"packed"`` or ``"blas"``.

    Raises
    ------
    ValueError
        If ``FASTRNN_GEMM`` or ``FASTRNN_ISA`` decides and names none that exists.
    """
    return GEMMS[gemm_is_blas()]


def gemm_reason():
    """What decides on the engine that `get_gemm` names."""
    if gemm >= 0:
        return "set_gemm"
    if os.environ.get("FASTRNN_GEMM"):
        return "FASTRNN_GEMM"
    return f"{'' if frn_isas[_choice()].tuned else 'not '}tuned for {chosen_isa()}"


def compiler():
    """The name and version of the compiler that built the kernels."""
    return (<bytes>frn_compiler).decode()


# Threads

cdef int num_threads() noexcept nogil:
    return frn_num_threads()


cdef int brief_threads() noexcept nogil:
    return frn_num_threads() if frn_pool_calm() else 1


cdef void parallel(task_fn fn, void *ctx, size_t n_tasks, int n_threads) noexcept nogil:
    frn_pool_run(fn, ctx, n_tasks, n_threads)


# How long a team waits for its members: a quarter of the time that the work takes one of them, and
# not much longer than a parked thread needs to wake.
cdef double PATIENCE = 0.25 / 100  # nanoseconds per operation
cdef double MOST_PATIENCE_NS = 100_000


cdef bint team(member_fn fn, void *ctx, frn_barrier *barriers, size_t n_barriers, int n_threads,
               double operations) noexcept nogil:
    cdef size_t i
    cdef bint late = False
    for i in range(n_barriers):
        frn_barrier_init(&barriers[i])
    if frn_pool_team(fn, ctx, n_threads, <int64_t>min(operations * PATIENCE, MOST_PATIENCE_NS)) < 2:
        return True  # it waited for nobody, which says nothing about neighbors
    for i in range(n_barriers):
        late |= frn_barrier_late(&barriers[i])
    region_ended(late)
    return not late


cdef void region_ended(bint disturbed) noexcept nogil:
    frn_pool_region_ended(disturbed)


cdef bint calm() noexcept nogil:
    return frn_pool_calm()


cdef enum:
    MEETING_BYTES = 1 << 16  # weights whose reading takes longer than meeting does
    SHARED_CACHE_BYTES = 1 << 24

SPLITS = ("rows", "units")
cdef int forced_split = -1  # index in SPLITS, or -1: as suits the size


cdef bint by_units(size_t n, size_t nbytes, size_t share, const frn_kernels *table, frn_cell cell) noexcept nogil:
    if share < 2:
        return False
    if forced_split >= 0:
        return forced_split
    if nbytes < MEETING_BYTES:
        return False
    # One tile of all rows reads the weights once, each member its share; but after each stage they meet.
    cdef size_t one_tile = table.tall_rows if table.cells[<int>cell].stages == 1 else table.tile_rows
    return n <= max(one_tile, share * (table.tile_rows + 1) // 2) or nbytes > SHARED_CACHE_BYTES


def force_split(name):
    """Share recurrent work by "rows" or by "units", or None: as suits its size. For tests; returns the one before."""
    global forced_split
    before = SPLITS[forced_split] if forced_split >= 0 else None
    forced_split = -1 if name is None else SPLITS.index(name)
    return before


cdef double region_operations() noexcept nogil:
    # Some milliseconds; while there is a neighbor, more than some of the turns it takes on a core.
    return 5e8 if frn_pool_calm() else 2e9


cdef uint64_t hash_bytes(const void *data, size_t nbytes, uint64_t seed) noexcept nogil:
    return frn_hash(data, nbytes, seed)


cdef int check_signals() except -1 nogil:
    # Not after every region: whoever takes the GIL from a thread that runs Python waits up to 5 ms.
    if frn_time_to_look(20 * 1000 * 1000):
        with gil:
            return PyErr_CheckSignals()
    return 0


def get_num_threads():
    """How many threads a native call made by this thread uses at most."""
    return frn_num_threads()


def thread_source():
    """What `get_num_threads` comes from: "thread", "process", "environment", "quota" or "affinity"."""
    cdef frn_source source
    frn_num_threads_from(&source)
    return ("thread", "process", "environment", "quota", "affinity")[<int>source]


def affinity_count():
    """How many processors this thread may run on."""
    return frn_affinity_count()


def capacity():
    """The smaller of `affinity_count` and the quota."""
    return frn_capacity()


def set_thread_limit(int n):
    """Set the calling thread's limit, 0 for none; returns the one before."""
    return frn_set_thread_limit(n)


def set_process_threads(int n):
    """Set the number for all threads without a limit, 0 for the default; returns the one before."""
    return frn_set_process_threads(n)


def set_environment_threads(int n):
    """Set the number that the environment asks for, 0 for none; returns the one before."""
    return frn_set_environment_threads(n)


def set_quota(int n):
    """Set how many threads use up the quota of processor time, 0 for none; returns the one before."""
    return frn_set_quota(n)


def pool_size():
    """How many threads the pool has started that still live."""
    return frn_pool_size()


def stop_pool():
    """End the pool's threads; False if a region is running, and they go on."""
    return bool(frn_pool_stop())


cdef struct Probe:
    long long task_ns
    int *workers


cdef void _probe_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef Probe *probe = <Probe *>ctx
    cdef long long end
    if probe.task_ns:
        end = frn_now_ns() + probe.task_ns
        while frn_now_ns() < end:
            pass
    if probe.workers != NULL:
        probe.workers[index] = worker


def probe_region(size_t n_tasks, int n_threads, long long task_ns=0):
    """Run a region of tasks that only pass `task_ns`; returns which worker ran each task."""
    cdef int[::1] workers = np.full(n_tasks, -1, np.int32)
    cdef Probe probe = Probe(task_ns, NULL)
    if n_tasks:
        probe.workers = &workers[0]
    with nogil:
        parallel(_probe_task, &probe, n_tasks, n_threads)
    return np.asarray(workers)


def disturb(bint disturbed):
    """As after a region that a neighbor has disturbed, or has not; for tests."""
    frn_pool_region_ended(disturbed)


def time_regions(size_t n_regions, size_t n_tasks, int n_threads):
    """Nanoseconds per region of tasks that do nothing."""
    cdef Probe probe = Probe(0, NULL)
    cdef size_t i
    cdef long long start
    with nogil:
        start = frn_now_ns()
        for i in range(n_regions):
            parallel(_probe_task, &probe, n_tasks, n_threads)
        start = frn_now_ns() - start
    return start / <double>n_regions if n_regions else 0.0
