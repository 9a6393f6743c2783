"""One direction of one layer over one batch: where rows lie, what BPTT needs, and what follows from it.

Time is walked by ``_recurrence``; what comes before and after stands here.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy, memset

import numpy as np

from fastrnn._elementwise cimport run_columns
from fastrnn._kernels cimport frn_product, frn_table
from fastrnn._native cimport check_signals, kernels, parallel
from fastrnn._products cimport Matrix, as_matrix, blas_engine, run_outer, run_product, threads_for


cdef enum:
    FEW_SETS = 1024  # bytes: a column of rows so far apart would share a few sets of lines of L1
    TABLE_ROWS = 96  # of a table of symbols that one task fills


cdef Block take(FreeList memory, object nbytes, bint zero=False):
    """Memory of a size computed in Python's integers, which do not overflow."""
    if nbytes >= 1 << 62:
        raise MemoryError(f"expected to get {nbytes} bytes of memory, more than there can be")
    cdef Block block = memory.take(nbytes)
    if zero:
        memset(block.ptr, 0, block.nbytes)
    return block


cdef struct TableTask:
    const frn_kernels *kernels
    const frn_pass *p
    size_t n, rows  # of all, of a task
    char *scratch
    size_t scratch_bytes  # per worker


cdef void table_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef TableTask *t = <TableTask *>ctx
    cdef size_t first = index * t.rows
    t.kernels.table(t.p, first, min(first + t.rows, t.n), t.scratch + worker * t.scratch_bytes)


@cython.final
cdef class Walk:
    """One direction of one layer over one batch, in the order of its rows.

    Parameters
    ----------
    weights : Weights
    x, y : ndarray (N, T, ...) or list of N ndarray (T_i, ...)
        y is filled by `forward`.
    symbols : ndarray (U, D) or None
        With it, x holds indices of its rows, int64: ndarray (N, T) or list of N ndarray (T_i,).
    rows : Rows
    state : tuple of ndarray
        (N, S), and (N, H) for an LSTM, in the caller's order.
    reverse : bool
    mask : ndarray (N, S) or None
    keep : bool
        Keep what `backward` needs.
    """

    def __init__(self, Weights weights not None, x, symbols, y, rows, tuple state, bint reverse, mask, bint keep):
        cdef const int64_t[::1] sizes = rows.sizes, base = rows.base
        cdef frn_pass *p = &self.p
        self.weights = weights
        self.rows = rows
        self.reverse = reverse
        self.order = rows.order
        self.lengths = rows.lengths
        self.total = base[base.shape[0] - 1]
        self.held = [x, symbols, y, rows, state]
        self.kernels = kernels(weights.itemsize)
        self.info = &self.kernels.cells[<int>weights.cell]
        p.blas = blas_engine(weights.itemsize)
        self.snapshot = weights.snapshot(self.kernels, p.blas)
        p.cell = weights.cell
        p.n = self.order.shape[0]
        p.steps = sizes.shape[0]
        p.inputs, p.units, p.width = weights.inputs, weights.units, weights.width
        p.sizes = &sizes[0] if p.steps else NULL
        p.base = &base[0]
        # A mask's products need last step's h beside this one's; both stand apart only where all are kept.
        p.keep = keep or mask is not None
        self.slot_width = self.padded(p.units)
        p.lead = self.info.slots * self.slot_width
        if p.lead * self.kernels.itemsize % FEW_SETS == 0:
            p.lead += self.kernels.lanes
        self.state_width = self.padded(p.width)
        self.pointers = take(weights.memory, 9 * int(p.n) * sizeof(void *), True)
        if symbols is None:
            self.locate(x, "x", p.inputs, False, 0, &p.x)
        else:
            self.locate_symbols(x, symbols)
        self.locate(y, "y", p.width, True, 2, &p.y)
        p.h0 = self.state_rows(state[0], "h", p.width, 4)
        if self.info.has_c:
            p.c0 = self.state_rows(state[1], "c", p.units, 5)
        p.bias = self.snapshot.bias
        p.w_x = self.snapshot.x
        p.w_h[0], p.w_h[1] = self.snapshot.h[0], self.snapshot.h[1]
        self.take_arenas(mask)
        if symbols is not None:
            self.fill_table()

    cdef size_t padded(self, size_t n):
        return (n + self.kernels.lanes - 1) // self.kernels.lanes * self.kernels.lanes

    cdef void **pointer_row(self, int index):
        return <void **>self.pointers.ptr + index * self.p.n

    cdef int locate(self, object container, str name, size_t width, bint writable, int index, frn_rows *rows) except -1:
        """Where sequence i's first row in walking order lies, and how far to the next."""
        cdef void **start = self.pointer_row(index)
        cdef ptrdiff_t *step = <ptrdiff_t *>self.pointer_row(index + 1)
        cdef Py_buffer buffer
        cdef Matrix m
        cdef size_t i
        cdef int64_t length
        cdef char *data
        cdef ptrdiff_t between, lead
        rows.start = start
        rows.step = step
        if isinstance(container, list):
            for i in range(self.p.n):
                m = as_matrix(container[self.order[i]], name, writable)
                length = self.lengths[self.order[i]]
                if <int64_t>m.rows < length or m.columns != width or m.itemsize != self.kernels.itemsize:
                    raise ValueError(f"{name}: expected arrays ({length}, {width}) of the layer's dtype")
                start[i] = m.data
                step[i] = m.lead
        else:
            PyObject_GetBuffer(container, &buffer, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
            try:
                if (
                    buffer.ndim != 3 or <size_t>buffer.shape[0] != self.p.n or <size_t>buffer.shape[1] < self.p.steps
                    or <size_t>buffer.shape[2] != width or buffer.itemsize != self.kernels.itemsize
                ):
                    raise ValueError(f"{name}: expected shape ({self.p.n}, {self.p.steps}, {width}) and the layer's dtype")
                if width > 1 and buffer.strides[2] != buffer.itemsize:
                    raise ValueError(f"{name}: expected unit stride on the last axis")
                data = <char *>buffer.buf
                between, lead = buffer.strides[0], buffer.strides[1] // buffer.itemsize
            finally:
                PyBuffer_Release(&buffer)
            for i in range(self.p.n):
                start[i] = data + self.order[i] * between
                step[i] = lead
        self.turn(rows)
        return 0

    cdef void turn(self, frn_rows *rows) noexcept:
        """Where time is walked backwards, begin at each sequence's end."""
        cdef void **start = <void **>rows.start
        cdef ptrdiff_t *step = <ptrdiff_t *>rows.step
        cdef size_t i
        cdef int64_t length
        for i in range(self.p.n if self.reverse else 0):
            length = self.lengths[self.order[i]]
            if length:
                start[i] = <char *>start[i] + (length - 1) * step[i] * self.kernels.itemsize
            step[i] = -step[i]

    cdef int locate_symbols(self, object container, object symbols) except -1:
        """Where each sequence's indices lie, and the rows that they are of."""
        cdef frn_pass *p = &self.p
        cdef void **start = self.pointer_row(0)
        cdef ptrdiff_t *step = <ptrdiff_t *>self.pointer_row(1)
        cdef Matrix m = as_matrix(symbols, "symbols")
        cdef const int64_t[:] one
        cdef size_t i, t
        if m.columns != p.inputs or m.itemsize != self.kernels.itemsize:
            raise ValueError(f"symbols: expected rows of {p.inputs} numbers of the layer's dtype")
        self.symbols = take(self.weights.memory, int(m.rows) * sizeof(void *))
        cdef void **at = <void **>self.symbols.ptr
        p.symbols = at
        for i in range(m.rows):
            at[i] = m.data + <ptrdiff_t>i * m.lead * m.itemsize
        self.n_symbols = m.rows
        for i in range(p.n):
            one = container[self.order[i]]
            if one.shape[0] < self.lengths[self.order[i]] or (one.shape[0] > 1 and one.strides[0] != sizeof(int64_t)):
                raise ValueError(f"x: expected {self.lengths[self.order[i]]} neighboring indices, got another array")
            for t in range(<size_t>self.lengths[self.order[i]]):
                if not 0 <= one[t] < <int64_t>m.rows:
                    raise ValueError(f"x: expected indices in [0, {m.rows}), got {one[t]}")
            start[i] = <void *>&one[0] if one.shape[0] else NULL
            step[i] = sizeof(int64_t) // self.kernels.itemsize
        p.x.start = start
        p.x.step = step
        self.turn(&p.x)
        return 0

    cdef int fill_table(self) except -1:
        """The input product of every symbol."""
        cdef frn_pass *p = &self.p
        cdef double operations = 2.0 * self.n_symbols * p.inputs * self.info.x_slots * p.units
        cdef int n_threads = threads_for(operations, p.blas)
        cdef TableTask task = TableTask(self.kernels, p, self.n_symbols, 1, NULL, 0)
        self.table = take(self.weights.memory, int(self.n_symbols) * int(p.lead) * self.kernels.itemsize)
        p.table = self.table.ptr
        task.rows = max(<size_t>1, min((self.n_symbols + n_threads - 1) // n_threads, <size_t>TABLE_ROWS))
        cdef size_t tasks = (self.n_symbols + task.rows - 1) // task.rows
        task.scratch_bytes = (self.kernels.walk_bytes(p, task.rows) + 63) // 64 * 64
        cdef Block scratch = take(self.weights.memory, int(task.scratch_bytes) * n_threads)
        task.scratch = scratch.ptr
        with nogil:
            parallel(table_task, &task, tasks, n_threads)
            check_signals()
        return 0

    cdef void **state_rows(self, object state, str name, size_t width, int index) except NULL:
        cdef Matrix m = as_matrix(state, name)
        cdef void **rows = self.pointer_row(index)
        cdef size_t i
        if m.rows != self.p.n or m.columns != width or m.itemsize != self.kernels.itemsize:
            raise ValueError(f"state: expected {name} of shape ({self.p.n}, {width}) and the layer's dtype")
        for i in range(self.p.n):
            rows[i] = m.data + <ptrdiff_t>self.order[i] * m.lead * m.itemsize
        return rows

    cdef int take_arenas(self, object mask) except -1:
        cdef frn_pass *p = &self.p
        cdef FreeList memory = self.weights.memory
        # Python's integers: these may pass what size_t holds
        total, n = int(self.total if p.keep else p.n), int(p.n)
        units, width, size = int(self.slot_width), int(self.state_width), int(self.kernels.itemsize)
        cdef Block masks
        cdef Matrix m
        cdef void **rows
        cdef size_t i
        if p.keep:
            self.z = take(memory, total * int(p.lead) * size)
            p.z = self.z.ptr
        if self.info.has_c:
            self.c = take(memory, total * units * size)
            p.c = self.c.ptr
        if self.info.stages == 2:
            self.kept = take(memory, total * units * size)
            p.kept = self.kept.ptr
        if mask is None:
            return 0
        self.masked = take(memory, total * width * size)
        p.masked = self.masked.ptr
        m = as_matrix(mask, "mask")
        if m.rows != p.n or m.columns != p.width or m.itemsize != self.kernels.itemsize:
            raise ValueError(f"mask: expected shape ({p.n}, {p.width}) and the layer's dtype")
        masks = take(memory, n * width * size, True)
        rows = self.pointer_row(6)
        for i in range(p.n):
            rows[i] = masks.ptr + i * self.state_width * m.itemsize
            memcpy(rows[i], m.data + <ptrdiff_t>self.order[i] * m.lead * m.itemsize, p.width * m.itemsize)
        p.mask = rows
        self.held.append(masks)
        return 0

    cdef char *row_at(self, const frn_rows *rows, size_t t, size_t i) noexcept nogil:
        return <char *>rows.start[i] + <ptrdiff_t>t * rows.step[i] * self.kernels.itemsize

    cdef char *arena_row(self, void *arena, size_t t, size_t i, size_t width) noexcept nogil:
        """Row of a kept arena for step t of sequence i."""
        return <char *>arena + ((<size_t>self.p.base[t] if self.p.keep else 0) + i) * width * self.kernels.itemsize

    def final_state(self):
        """The state at each sequence's own end, in the caller's order; `forward` has run."""
        cdef frn_pass *p = &self.p
        cdef size_t i, at
        cdef int64_t length
        cdef const char *row
        dtype = np.float32 if self.kernels.itemsize == 4 else np.float64
        h = np.empty((p.n, p.width), dtype)
        c = np.empty((p.n, p.units), dtype) if self.info.has_c else None
        cdef Matrix h_out = as_matrix(h, "h", True), c_out = h_out
        if self.info.has_c:
            c_out = as_matrix(c, "c", True)
        for i in range(p.n):
            at = self.order[i]
            length = self.lengths[at]
            row = self.row_at(&p.y, length - 1, i) if length else <char *>p.h0[i]
            memcpy(h_out.data + at * p.width * h_out.itemsize, row, p.width * h_out.itemsize)
            if self.info.has_c:
                row = self.arena_row(p.c, length - 1, i, self.slot_width) if length else <char *>p.c0[i]
                memcpy(c_out.data + at * p.units * h_out.itemsize, row, p.units * h_out.itemsize)
        return (h,) if c is None else (h, c)

    def gates(self):
        """What was kept of every slot: array (rows, slots, H) over the arena, in step order."""
        dtype = np.float32 if self.kernels.itemsize == 4 else np.float64
        rows = np.ndarray((self.total, self.p.lead), dtype, self.z)[:, : self.info.slots * self.slot_width]
        return rows.reshape(self.total, self.info.slots, self.slot_width)[..., : self.p.units]

    def cells(self):
        """c after every step: array (rows, H) over the arena, in step order."""
        dtype = np.float32 if self.kernels.itemsize == 4 else np.float64
        return np.ndarray((self.total, self.slot_width), dtype, self.c)[:, : self.p.units]

    # ---- backward ----

    cdef int begin_backward(self, object dy, object dstate) except -1:
        cdef frn_pass *p = &self.p
        cdef FreeList memory = self.weights.memory
        cdef int size = self.kernels.itemsize
        self.back = self.weights.backward_of(self.snapshot)
        p.w_x_back = self.back.x
        p.w_h_back[0], p.w_h_back[1] = self.back.h[0], self.back.h[1]
        if dy is not None:
            self.locate(dy, "dy", p.width, False, 7, &p.dy)
            self.held.append(dy)
        self.dh = take(memory, int(p.n) * int(self.state_width) * size, True)
        p.dh = self.dh.ptr
        if self.info.has_c:
            self.dc = take(memory, int(p.n) * int(self.slot_width) * size, True)
            p.dc = self.dc.ptr
        if self.info.projected:
            self.dp = take(memory, int(self.total) * int(self.state_width) * size)
            p.dp = self.dp.ptr
        if dstate is not None:
            self.copy_carry(dstate[0], <char *>p.dh, p.width, self.state_width, True)
            if self.info.has_c:
                self.copy_carry(dstate[1], <char *>p.dc, p.units, self.slot_width, True)
        return 0

    cdef int copy_carry(self, object array, char *carry, size_t width, size_t lead, bint inward) except -1:
        """Between an array in the caller's order and carried rows in walking order."""
        if array is None:
            return 0
        cdef Matrix m = as_matrix(array, "dstate", not inward)
        cdef size_t i
        cdef char *outside
        if m.rows != self.p.n or m.columns != width or m.itemsize != self.kernels.itemsize:
            raise ValueError(f"dstate: expected shape ({self.p.n}, {width}) and the layer's dtype")
        for i in range(self.p.n):
            outside = m.data + <ptrdiff_t>self.order[i] * m.lead * m.itemsize
            if inward:
                memcpy(carry + i * lead * m.itemsize, outside, width * m.itemsize)
            else:
                memcpy(outside, carry + i * lead * m.itemsize, width * m.itemsize)
        return 0

    cdef tuple initial_gradient(self):
        cdef frn_pass *p = &self.p
        dtype = np.float32 if self.kernels.itemsize == 4 else np.float64
        dh = np.empty((p.n, p.width), dtype)
        self.copy_carry(dh, <char *>p.dh, p.width, self.state_width, False)
        if not self.info.has_c:
            return (dh,)
        dc = np.empty((p.n, p.units), dtype)
        self.copy_carry(dc, <char *>p.dc, p.units, self.slot_width, False)
        return dh, dc

    cdef void list_rows(self, const frn_rows *rows, void **out) noexcept nogil:
        """Addresses of all rows in step order."""
        cdef size_t t, i
        for t in range(self.p.steps):
            for i in range(<size_t>self.p.sizes[t]):
                out[0] = self.row_at(rows, t, i)
                out += 1

    cdef void list_operands(self, int stage, void **out) noexcept nogil:
        """Addresses of all rows that the recurrent product of a stage has multiplied."""
        cdef size_t t, i
        for t in range(self.p.steps):
            for i in range(<size_t>self.p.sizes[t]):
                if self.info.stage[stage].kept:
                    out[0] = self.arena_row(self.p.kept, t, i, self.slot_width)
                elif self.p.mask != NULL:
                    out[0] = self.arena_row(self.p.masked, t, i, self.state_width)
                else:
                    out[0] = self.row_at(&self.p.y, t - 1, i) if t else self.p.h0[i]
                out += 1

    cdef int sum_symbols(self, void **at) except -1:
        """Sum the gradients of the rows of each symbol, in the rows' order."""
        cdef frn_table sums
        cdef size_t i, columns = self.info.x_slots * self.slot_width
        cdef Block index = take(self.weights.memory, int(self.total) * sizeof(int64_t))
        cdef int64_t *indices = <int64_t *>index.ptr
        self.sums = take(self.weights.memory, self.table.nbytes, True)
        self.list_rows(&self.p.x, at)
        for i in range(self.total):
            indices[i] = (<const int64_t *>at[i])[0]
        sums.n, sums.columns, sums.index = self.total, self.p.lead, indices
        sums.table, sums.rows = self.sums.ptr, self.z.ptr
        return run_columns(<void *>self.kernels.scatter_add, &sums, self.total, columns, self.kernels.itemsize)

    cdef int input_gradient(self, object dx, bint accumulate) except -1:
        cdef size_t n = self.total if self.p.table == NULL else self.n_symbols
        cdef Block pointers = take(self.weights.memory, 2 * int(n) * sizeof(void *))
        cdef frn_rows rows
        cdef frn_product product
        cdef Matrix m
        cdef size_t i, width = self.p.lead * self.kernels.itemsize
        cdef void **d = <void **>pointers.ptr
        cdef char *gradients = self.z.ptr if self.p.table == NULL else self.sums.ptr
        for i in range(n):
            d[i] = gradients + i * width
        if self.p.table == NULL:
            # In the place of x's pointers, which nothing reads after the outer products.
            self.locate(dx, "dx", self.p.inputs, True, 0, &rows)
            self.list_rows(&rows, d + n)
        else:
            m = as_matrix(dx, "dx", True)
            if m.rows != n or m.columns != self.p.inputs or m.itemsize != self.kernels.itemsize:
                raise ValueError(f"dx: expected shape ({n}, {self.p.inputs}) and the layer's dtype")
            for i in range(n):
                d[n + i] = m.data + <ptrdiff_t>i * m.lead * m.itemsize
        product.rows = n
        product.a = <const void **>d
        product.w = self.p.w_x_back
        product.bias = NULL
        product.out = d + n
        product.accumulate = accumulate
        product.blas = self.p.blas
        return run_product(self.kernels, &product, self.weights.memory)

    cdef int weight_gradients(self) except -1:
        cdef Block pointers = take(self.weights.memory, int(self.total) * sizeof(void *))
        cdef void **rows = <void **>pointers.ptr
        cdef frn_outer outer
        cdef bint shared, bias = "bias_ih" in self.weights.params
        cdef int stage
        memset(&outer, 0, sizeof(outer))
        outer.rows = self.total
        outer.x = <const void **>rows
        outer.blas = self.p.blas
        outer.d = self.z.ptr
        outer.ldd = self.p.lead
        outer.n = self.p.units
        outer.columns = self.p.inputs
        if self.p.table == NULL:
            self.list_rows(&self.p.x, rows)
        else:
            self.sum_symbols(rows)
            outer.rows, outer.d, outer.x = self.n_symbols, self.sums.ptr, <const void **>self.p.symbols
        self.set_slots(&outer, 0, self.info.x_slots)
        outer.dw = self.weights.matrix("weight_ih", True).data
        outer.db = self.weights.matrix("bias_ih", True).data if bias else NULL
        # Where input and state reach the same sums, so do both biases.
        shared = self.info.x_slots == self.info.stage[0].slots and not self.info.stage[0].first
        outer.db_too = self.weights.matrix("bias_hh", True).data if bias and shared else NULL
        run_outer(self.kernels, &outer, self.weights.memory)
        outer.rows, outer.d, outer.x = self.total, self.z.ptr, <const void **>rows
        outer.db_too = NULL
        for stage in range(self.info.stages):
            self.list_operands(stage, rows)
            if self.info.projected and stage == 1:
                outer.d = self.dp.ptr
                outer.ldd = self.state_width
                outer.n = self.p.width
                outer.columns = self.p.units
                outer.blocks = 1
                outer.offset[0] = outer.row[0] = 0
                outer.dw = self.weights.matrix("weight_hr", True).data
                outer.db = NULL
            else:
                outer.columns = self.p.width
                self.set_slots(&outer, self.info.stage[stage].first, self.info.stage[stage].slots)
                outer.dw = self.weights.matrix("weight_hh", True).data
                outer.db = self.weights.matrix("bias_hh", True).data if bias and not shared else NULL
            run_outer(self.kernels, &outer, self.weights.memory)
        return 0

    cdef void set_slots(self, frn_outer *outer, int first, int slots) noexcept:
        cdef int i
        outer.blocks = slots
        for i in range(slots):
            outer.offset[i] = (first + i) * self.slot_width
            outer.row[i] = self.info.gate_of[first + i] * self.p.units
