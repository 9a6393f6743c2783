"""Memory for activations: it comes back when its last user dies, and the next call takes it again."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport SIZE_MAX
from libc.stdlib cimport free

import numpy as np


cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t nbytes) noexcept

cdef extern from "pthread.h" nogil:
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes) noexcept
    int pthread_mutex_destroy(pthread_mutex_t *mutex) noexcept
    int pthread_mutex_lock(pthread_mutex_t *mutex) noexcept
    int pthread_mutex_unlock(pthread_mutex_t *mutex) noexcept

cdef extern from *:
    """
    #include <string.h>

    #ifdef FRN_DEBUG
    #define frn_fill(memory, nbytes) memset(memory, 0xFF, nbytes) /* NaN in every dtype */
    #else
    #define frn_fill(memory, nbytes) ((void)(memory), (void)(nbytes))
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

    #ifdef __linux__
    #include <sys/mman.h>
    #endif
    #ifdef MADV_HUGEPAGE /* advice only: where it is not taken, all works as without */
    #define frn_advise_huge(memory, nbytes) ((void)madvise(memory, nbytes, MADV_HUGEPAGE))
    #else
    #define frn_advise_huge(memory, nbytes) ((void)(memory), (void)(nbytes))
    #endif
    """
    void frn_fill(void *memory, size_t nbytes) noexcept nogil
    void frn_forbid(void *memory, size_t nbytes) noexcept nogil
    void frn_allow(void *memory, size_t nbytes) noexcept nogil
    void frn_advise_huge(void *memory, size_t nbytes) noexcept nogil


cdef enum:
    ALIGNMENT = 64  # a cache line, and the widest vector
    HUGE_PAGE = 1 << 21
    SPARE = 8  # the part of the peak that may be kept beyond it
    WINDOW = 64  # takes after which the peak is forgotten, twice over


cdef int allocate(void **memory, size_t nbytes) noexcept nogil:
    """Memory for a piece; not 0 where there is none.

    A large one in large pages: kernels read rows that lie further apart than a page, and where no two
    accesses are to the same one, looking pages up costs as much as the products.
    """
    cdef bint large = nbytes >= 2 * HUGE_PAGE
    if posix_memalign(memory, HUGE_PAGE if large else ALIGNMENT, nbytes):
        return -1
    if large:
        frn_advise_huge(memory[0], nbytes)
    return 0


@cython.final
@cython.no_gc
cdef class FreeList:
    """Memory that comes back: blocks taken from it return to it when they die.

    Fresh memory costs a page fault for every 4 KiB, so what a training step used is kept for the
    next. It keeps no more than was lately in use at one time, and an eighth: of a step's scratch, one
    piece has often died when the next is taken, and neither fits the other. Any thread may take, and
    blocks may die in any thread. A copy, and what is unpickled, is a new, empty list.
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
        if memory == NULL and allocate(&memory, capacity):
            self.clear()
            if allocate(&memory, capacity):
                pthread_mutex_lock(&self.lock)
                self.in_use -= capacity
                pthread_mutex_unlock(&self.lock)
                raise MemoryError(f"expected to get {nbytes} bytes of memory, which are not there")
        frn_allow(memory, capacity)
        frn_fill(memory, capacity)
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
        cdef size_t most
        frn_forbid(memory, nbytes)
        pthread_mutex_lock(&self.lock)
        self.in_use -= nbytes
        if self.n_pieces == MOST_PIECES:
            self._drop(self._oldest())
        self.pieces[self.n_pieces] = Piece(memory, nbytes, self.clock)
        self.n_pieces += 1
        self.retained += nbytes
        most = max(self.peak, self.peak_before)
        while self.n_pieces and self.in_use + self.retained > most + most // SPARE:
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
