# What other compiled modules take from it.

# kernel(what, first, last) over columns, each of which is summed over all rows in order, on all threads.
cdef int run_columns(void *kernel, const void *what, size_t rows, size_t columns, int itemsize) except -1
