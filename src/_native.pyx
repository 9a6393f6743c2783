"""The native base: dispatch, the thread pool, and memory for activations.

What stands above uses it from Cython through ``fastrnn/_native.pxd``; what Python sees here is
private, except for what ``fastrnn`` exports.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport SIZE_MAX, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

import os

import numpy as np


cdef extern from "pool.h" nogil:
    int frn_pool_run(task_fn task, void *ctx, size_t n_tasks, int n_threads) noexcept
    int frn_pool_size() noexcept
    int frn_pool_stop() noexcept

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

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t nbytes) noexcept

cdef extern from "pthread.h" nogil:
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes) noexcept
    int pthread_mutex_destroy(pthread_mutex_t *mutex) noexcept
    int pthread_mutex_lock(pthread_mutex_t *mutex) noexcept
    int pthread_mutex_unlock(pthread_mutex_t *mutex) noexcept

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>

    #ifdef FRN_DEBUG
    #define FRN_IS_DEBUG 1
    #else
    #define FRN_IS_DEBUG 0
    #endif

    /* The end of a piece that is larger than what was asked for is as foreign as what lies beyond. */
    #ifndef __has_feature
    #define __has_feature(name) 0
    #endif
    #if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
    #include <sanitizer/asan_interface.h>
    #define frn_forbid(memory, nbytes) ASAN_POISON_MEMORY_REGION(memory, nbytes)
    #define frn_allow(memory, nbytes) ASAN_UNPOISON_MEMORY_REGION(memory, nbytes)
    #else
    #define frn_forbid(memory, nbytes) ((void)(memory), (void)(nbytes))
    #define frn_allow(memory, nbytes) ((void)(memory), (void)(nbytes))
    #endif

    static int64_t frn_now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }

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
    long long frn_now_ns() noexcept nogil
    int frn_time_to_look(long long patience) noexcept nogil
    void frn_forbid(void *memory, size_t nbytes) noexcept nogil
    void frn_allow(void *memory, size_t nbytes) noexcept nogil


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


cdef void parallel(task_fn fn, void *ctx, size_t n_tasks, int n_threads) noexcept nogil:
    frn_pool_run(fn, ctx, n_tasks, n_threads)


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


# Memory

cdef enum:
    ALIGNMENT = 64  # a cache line, and the widest vector
    WINDOW = 64  # takes after which the peak is forgotten, twice over


@cython.final
@cython.no_gc
cdef class FreeList:
    """Memory that comes back: blocks taken from it return to it when they die.

    Fresh memory costs a page fault for every 4 KiB, so what a training step used is kept for the
    next. It keeps no more than was lately in use at one time. Any thread may take, and blocks may die
    in any thread. A copy, and what is unpickled, is a new, empty list.
    """

    def __cinit__(self):
        pthread_mutex_init(&self.lock, NULL)

    def __dealloc__(self):
        # Blocks hold their list, so none lives here.
        self.clear()
        pthread_mutex_destroy(&self.lock)

    def __reduce__(self):
        return FreeList, ()

    cpdef Block take(self, size_t nbytes):
        """A block of at least `nbytes` bytes, whose contents are undefined.

        Raises
        ------
        MemoryError
            If there is not that much memory.
        """
        if nbytes > SIZE_MAX // 4:
            raise MemoryError(f"expected to get {nbytes} bytes of memory, more than there can be")
        cdef size_t grain = ALIGNMENT
        while grain < nbytes // 16:
            grain *= 2
        # Sizes at most an eighth apart share pieces: batches are rarely of quite the same length.
        cdef size_t capacity = max((nbytes + grain - 1) // grain * grain, <size_t>ALIGNMENT)
        cdef Block block = Block.__new__(Block)  # before the lock: making objects may collect others
        cdef void *memory = self._reuse(&capacity)
        if memory == NULL and posix_memalign(&memory, ALIGNMENT, capacity):
            self.clear()
            if posix_memalign(&memory, ALIGNMENT, capacity):
                pthread_mutex_lock(&self.lock)
                self.in_use -= capacity
                pthread_mutex_unlock(&self.lock)
                raise MemoryError(f"expected to get {nbytes} bytes of memory, which are not there")
        frn_allow(memory, capacity)
        if FRN_IS_DEBUG:
            memset(memory, 0xFF, capacity)  # NaN in every dtype
        frn_forbid(<char *>memory + nbytes, capacity - nbytes)
        block.owner = self
        block.ptr = <char *>memory
        block.nbytes = nbytes
        block.capacity = capacity
        return block

    cdef char *_reuse(self, size_t *nbytes) noexcept nogil:
        """The smallest kept piece that fits, its size put in `nbytes`, or NULL; counts the take."""
        cdef int i, best = -1
        cdef char *memory = NULL
        pthread_mutex_lock(&self.lock)
        for i in range(self.n_pieces):
            if (
                nbytes[0] <= self.pieces[i].nbytes <= 2 * nbytes[0]
                and (best < 0 or self.pieces[i].nbytes < self.pieces[best].nbytes)
            ):
                best = i
        if best >= 0:
            memory = self.pieces[best].memory
            nbytes[0] = self.pieces[best].nbytes
            self.retained -= nbytes[0]
            self.n_pieces -= 1
            self.pieces[best] = self.pieces[self.n_pieces]
        self.in_use += nbytes[0]
        self.clock += 1
        if self.clock % WINDOW == 0:
            self.peak_before = self.peak
            self.peak = 0
        self.peak = max(self.peak, self.in_use)
        pthread_mutex_unlock(&self.lock)
        return memory

    cdef void _give(self, char *memory, size_t nbytes) noexcept nogil:
        frn_forbid(memory, nbytes)
        pthread_mutex_lock(&self.lock)
        self.in_use -= nbytes
        if self.n_pieces == MOST_PIECES:
            self._drop(self._oldest())
        self.pieces[self.n_pieces] = Piece(memory, nbytes, self.clock)
        self.n_pieces += 1
        self.retained += nbytes
        while self.n_pieces and self.in_use + self.retained > max(self.peak, self.peak_before):
            self._drop(self._oldest())
        pthread_mutex_unlock(&self.lock)

    cdef int _oldest(self) noexcept nogil:
        cdef int i, oldest = 0
        for i in range(1, self.n_pieces):
            if self.pieces[i].given_at < self.pieces[oldest].given_at:
                oldest = i
        return oldest

    cdef void _drop(self, int index) noexcept nogil:
        frn_allow(self.pieces[index].memory, self.pieces[index].nbytes)
        free(self.pieces[index].memory)
        self.retained -= self.pieces[index].nbytes
        self.n_pieces -= 1
        self.pieces[index] = self.pieces[self.n_pieces]

    def clear(self):
        """Give all that is kept, and not in use, back to the system."""
        pthread_mutex_lock(&self.lock)
        while self.n_pieces:
            self._drop(self.n_pieces - 1)
        pthread_mutex_unlock(&self.lock)

    @property
    def nbytes_in_use(self):
        """Bytes in blocks that live."""
        return self.in_use

    @property
    def nbytes_retained(self):
        """Bytes kept for blocks to come."""
        return self.retained


@cython.final
@cython.no_gc
cdef class Block:
    """Bytes from a `FreeList`, aligned to 64, writable through the buffer protocol."""

    def __init__(self):
        raise TypeError("a Block comes from FreeList.take")

    def __dealloc__(self):
        if self.ptr != NULL:
            self.owner._give(self.ptr, self.capacity)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.ptr, <Py_ssize_t>self.nbytes, 0, flags)


def empty(FreeList freelist not None, shape, dtype):
    """An uninitialized array, C-ordered, in memory of `freelist`, which it goes back to with the array.

    Parameters
    ----------
    freelist : FreeList
    shape : sequence of int
    dtype : dtype

    Raises
    ------
    MemoryError
        If there is not that much memory, also where its number of bytes has no name in C.
    """
    dtype = np.dtype(dtype)
    nbytes = dtype.itemsize
    for n in shape:
        if n < 0:
            raise ValueError(f"shape: expected no negative size, got {tuple(shape)}")
        nbytes *= n
    if nbytes > SIZE_MAX // 4:
        raise MemoryError(f"expected to get {nbytes} bytes of memory, more than there can be")
    return np.ndarray(shape, dtype, freelist.take(nbytes))
