"""One step after another: a stack of layers in one direction, with everything in place.

A call that carries its state checks a shape, and runs. The state lives here, in rows of whole
vectors, until it is asked for. Bits are those of a whole call: the kernels are the same.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

import numpy as np

from fastrnn._kernels cimport frn_barrier, frn_cell_info, frn_kernels, frn_part, frn_pass
from fastrnn._memory cimport Block, FreeList
from fastrnn._native cimport by_units, calm, kernels, parallel, team
from fastrnn._products cimport Matrix, as_matrix, blas_engine, threads_for
from fastrnn._walk cimport take
from fastrnn._weights cimport Snapshot, Weights


cdef enum:
    MEETINGS = 16  # that take as long as forming a team does


# Pointers to the rows of a layer, by index.
cdef enum:
    X
    STEP
    Y
    STATE_H
    STATE_C
    ROWS


cdef bint plain_matrix(object array, size_t rows, size_t columns, int itemsize, bint writable, Matrix *m):
    """Whether the kernels can address an array (rows, columns) as it is, and where it lies."""
    cdef Py_buffer buffer
    cdef bint fits
    try:
        PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    except (BufferError, TypeError, ValueError):
        return False
    fits = (
        buffer.ndim == 2 and buffer.itemsize == itemsize
        and buffer.format[0] == (c"f" if itemsize == 4 else c"d") and buffer.format[1] == 0
        and <size_t>buffer.shape[0] == rows and <size_t>buffer.shape[1] == columns
        and (columns < 2 or buffer.strides[1] == itemsize)
        and buffer.strides[0] % itemsize == 0 and <size_t>buffer.buf % itemsize == 0
    )
    m.data = <char *>buffer.buf
    m.lead = buffer.strides[0] // itemsize if fits else 0
    PyBuffer_Release(&buffer)
    return fits


cdef struct Run:
    const frn_kernels *kernels
    frn_pass *passes
    frn_barrier barrier
    size_t n_layers, n, per_task
    size_t turn  # steps so far
    char *scratch
    size_t scratch_bytes


cdef void run_layers(Run *run, frn_part *part, int worker) noexcept nogil:
    cdef size_t layer
    part.start, part.stop, part.turn = 0, 1, run.turn
    for layer in range(run.n_layers):
        run.kernels.forward(&run.passes[layer], part, run.scratch + worker * run.scratch_bytes)


cdef void run_rows(void *ctx, size_t index, int worker) noexcept nogil:
    """All layers for some of the sequences: no other waits for them."""
    cdef Run *run = <Run *>ctx
    cdef frn_part part
    part.first = index * run.per_task
    part.last = min(part.first + run.per_task, run.n)
    part.member, part.members = 0, 1
    run_layers(run, &part, worker)


cdef void run_units(void *ctx, int member, int members) noexcept nogil:
    """All layers for all sequences, a share of the units; the members meet after each layer."""
    cdef Run *run = <Run *>ctx
    cdef frn_part part
    part.first, part.last = 0, run.n
    part.member, part.members, part.barrier = member, members, &run.barrier
    run_layers(run, &part, member)


@cython.final
cdef class Steps:
    """One step after another of N sequences.

    Parameters
    ----------
    weights : list of Weights
        Of each layer; packed now, and not looked at again.
    state : tuple of ndarray
        (L, N, S), and (L, N, H) for an LSTM.
    """

    cdef Run run
    cdef list snapshots
    cdef FreeList free
    cdef Block passes, arena, scratch
    cdef size_t inputs_width, width
    cdef size_t layer_bytes, rows_at  # of a layer's part of the arena, and where its pointers begin in it
    cdef bint has_c
    cdef double operations
    cdef size_t nbytes  # of the weights of a layer
    cdef object dtype, shape
    cdef int64_t sizes[1]
    cdef int64_t base[2]

    def __init__(self, list weights not None, tuple state not None):
        cdef Weights first = weights[0], one
        cdef const frn_kernels *table = kernels(first.itemsize)
        cdef const frn_cell_info *info = &table.cells[<int>first.cell]
        cdef size_t L = len(weights), n = state[0].shape[1], layer, i
        cdef int size = table.itemsize
        cdef size_t h_row = (first.width + table.lanes - 1) // table.lanes * table.lanes * size
        cdef size_t c_row = (first.units + table.lanes - 1) // table.lanes * table.lanes * size
        cdef frn_pass *p
        cdef Snapshot snapshot
        cdef char *memory
        self.free = FreeList()
        self.snapshots = []
        self.has_c = info.has_c
        self.dtype = np.dtype(np.float32 if size == 4 else np.float64)
        self.width = first.width
        self.inputs_width = first.inputs
        self.shape = (n, first.width)
        self.sizes[0] = self.base[1] = n
        self.base[0] = 0
        self.passes = take(self.free, int(L) * sizeof(frn_pass), True)
        # A layer's part: rows of h before and after the step, of c, and kept ones; then pointers to rows.
        self.rows_at = n * 2 * (h_row + c_row)
        self.layer_bytes = (self.rows_at + ROWS * n * sizeof(void *) + 63) // 64 * 64
        self.arena = take(self.free, int(L) * int(self.layer_bytes), True)
        self.run.kernels = table
        self.run.passes = p = <frn_pass *>self.passes.ptr
        self.run.n_layers = L
        self.run.n = n
        for layer in range(L):
            one = weights[layer]
            snapshot = one.snapshot(table, blas_engine(size))
            self.snapshots.append(snapshot)
            memory = self.arena.ptr + layer * self.layer_bytes
            p.cell = one.cell
            p.n, p.steps, p.inputs, p.units, p.width = n, 1, one.inputs, one.units, one.width
            p.lead = info.slots * c_row // size
            p.sizes, p.base = self.sizes, self.base
            p.blas = snapshot.blas
            p.x.start, p.y.start = self.rows(layer, X), self.rows(layer, Y)
            p.x.step = p.y.step = <ptrdiff_t *>self.rows(layer, STEP)  # zero: there is no second one
            p.h0, p.c0 = self.rows(layer, STATE_H), self.rows(layer, STATE_C)
            p.bias = snapshot.bias
            p.w_x = snapshot.x
            p.w_h[0], p.w_h[1] = snapshot.h[0], snapshot.h[1]
            for i in range(n):
                self.rows(layer, STATE_H)[i] = memory + i * h_row
                self.rows(layer, Y)[i] = memory + (n + i) * h_row
                self.rows(layer, STATE_C)[i] = memory + 2 * n * h_row + i * c_row
                if layer:
                    self.rows(layer, X)[i] = self.rows(layer - 1, Y)[i]
            p.c = memory + 2 * n * h_row if info.has_c else NULL
            p.kept = memory + 2 * n * h_row + n * c_row if info.stages == 2 else NULL
            self.nbytes = max(self.nbytes, info.slots * one.units * (one.inputs + one.width) * size)
            self.operations += 2.0 * info.slots * one.units * (one.inputs + one.width) * n
            self.run.scratch_bytes = max(self.run.scratch_bytes, table.walk_bytes(p, n))
            p += 1
        self.run.scratch_bytes = (self.run.scratch_bytes + 63) // 64 * 64
        self.copy_state(state, True)

    cdef void run_threads(self, int n_threads) noexcept nogil:
        cdef Run *run = &self.run
        # A step is a region of its own.
        cdef bint units = run.passes.blas == NULL and by_units(
            run.n, self.nbytes // MEETINGS, n_threads, run.kernels, run.passes.cell
        )
        if units and calm():
            team(run_units, run, &run.barrier, 1, n_threads, self.operations)
            return
        run.per_task = max(<size_t>1, (run.n + n_threads - 1) // n_threads)
        parallel(run_rows, run, (run.n + run.per_task - 1) // run.per_task, n_threads)

    cdef void **rows(self, size_t layer, int which) noexcept nogil:
        return <void **>(self.arena.ptr + layer * self.layer_bytes + self.rows_at) + which * self.run.n

    cdef int copy_state(self, tuple state, bint inward) except -1:
        """Between arrays (L, N, units) and the rows here."""
        cdef size_t layer, i, which, width, states = 1 + self.has_c
        cdef Matrix m
        cdef void **rows
        cdef char *outside
        cdef int size = self.run.kernels.itemsize
        for which in range(states):
            width = self.run.passes[0].units if which else self.width
            for layer in range(self.run.n_layers):
                m = as_matrix(state[which][layer], "state", not inward)
                rows = self.rows(layer, STATE_C if which else STATE_H)
                for i in range(self.run.n):
                    outside = m.data + <ptrdiff_t>i * m.lead * size
                    if inward:
                        memcpy(rows[i], outside, width * size)
                    else:
                        memcpy(outside, rows[i], width * size)
        return 0

    def state(self):
        """The state after the last step, as arrays of their own."""
        shape = (self.run.n_layers, self.run.n)
        h = np.empty((*shape, self.width), self.dtype)
        state = (h, np.empty((*shape, self.run.passes[0].units), self.dtype)) if self.has_c else (h,)
        self.copy_state(state, False)
        return state

    def step(self, x, out):
        """h after one step, in `out` or a new array; None if an array is not one the kernels can address.

        Parameters
        ----------
        x : ndarray (N, D)
        out : ndarray (N, S) or None
            May be x itself, or overlap it.
        """
        cdef Matrix a, b
        cdef int n_threads, size = self.run.kernels.itemsize
        cdef size_t i, layer
        cdef frn_pass *p = self.run.passes
        cdef frn_pass *last = p + self.run.n_layers - 1
        if not plain_matrix(x, self.run.n, self.inputs_width, size, False, &a):
            return None
        if out is None:
            out = np.empty(self.shape, self.dtype)
        if not plain_matrix(out, self.run.n, self.width, size, True, &b):
            return None
        for i in range(self.run.n):
            self.rows(0, X)[i] = a.data + <ptrdiff_t>i * a.lead * size
        n_threads = threads_for(self.operations, p.blas)
        if self.scratch is None or self.scratch.nbytes < n_threads * self.run.scratch_bytes:
            self.scratch = take(self.free, int(n_threads) * self.run.scratch_bytes)
            self.run.scratch = self.scratch.ptr
        with nogil:
            self.run_threads(n_threads)
            self.run.turn += 1
            for i in range(self.run.n):
                memcpy(b.data + <ptrdiff_t>i * b.lead * size, last.y.start[i], self.width * size)
                for layer in range(self.run.n_layers):
                    memcpy(p[layer].h0[i], p[layer].y.start[i], self.width * size)
        return out
