# What other compiled modules take from it.
from libc.stddef cimport size_t

from fastrnn._products cimport Matrix

# An array in C order.
cdef Matrix flat(object array, str name, bint writable=*) except *

# So many elements as expected.
cdef int has(size_t got, size_t expected, str name) except -1

# kernel(what, first, last) over columns, each of which is summed over all rows in order, on all threads.
cdef int run_columns(void *kernel, const void *what, size_t rows, size_t columns, int itemsize) except -1
