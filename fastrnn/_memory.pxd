# Memory that comes back, for the other compiled modules.
from libc.stdint cimport uint64_t

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass

cdef enum:
    MOST_PIECES = 64  # that a FreeList keeps

cdef struct Piece:
    char *memory
    size_t nbytes
    uint64_t given_at

cdef class FreeList:
    cdef pthread_mutex_t lock
    cdef Piece pieces[MOST_PIECES]
    cdef int n_pieces
    cdef size_t in_use, retained  # bytes in living blocks, and in pieces
    cdef size_t peak, peak_before  # most bytes in use in this window of takes and the one before
    cdef uint64_t clock

    cpdef Block take(self, size_t nbytes)
    cdef char *_reuse(self, size_t *nbytes) noexcept nogil
    cdef void _give(self, char *memory, size_t nbytes) noexcept nogil
    cdef int _oldest(self) noexcept nogil
    cdef void _drop(self, int index) noexcept nogil

cdef class Block:
    cdef FreeList owner
    cdef char *ptr
    cdef readonly size_t nbytes
    cdef size_t capacity  # what ptr has, at least nbytes
