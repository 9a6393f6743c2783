"""Products of rows with a weight, outside time: x W' + b, and its gradients, by the chosen engine."""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.limits cimport INT_MAX
from libc.string cimport memcpy, memset

from fastrnn._kernels cimport FRN_SLOTS
from fastrnn._memory cimport Block, FreeList
from fastrnn._native cimport brief_threads, check_signals, gemm_is_blas, hash_bytes, kernels, num_threads, parallel, region_operations


cdef enum:
    GROUP_ROWS = 96  # rows that one task multiplies at most: a panel is read once for all of them
    OUTER_ROWS = 768  # rows of a block of a sum of outer products at most: panels of x stay in L2


cdef double TASK_OPERATIONS = 3e7  # a tenth of a millisecond: little enough to be claimed evenly
cdef double BRIEF_OPERATIONS = 3e8  # a millisecond on one thread
cdef double THREAD_OPERATIONS = 2e5  # a second thread gains less than it costs below
cdef size_t THREAD_BYTES = 1 << 18  # the same for a hash
cdef size_t HASH_BYTES = 1 << 17  # that one task hashes, about: fixes the hash


cdef Matrix as_matrix(object array, str name, bint writable=False) except *:
    cdef Py_buffer buffer
    cdef Matrix m
    PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    try:
        if buffer.ndim not in (1, 2):
            raise ValueError(f"{name}: expected 1 or 2 dimensions, got {buffer.ndim}")
        if buffer.format[0] not in (c"f", c"d") or buffer.format[1] != 0:
            raise TypeError(f"{name}: expected native float32 or float64, got format {buffer.format.decode()!r}")
        m.data = <char *>buffer.buf
        m.itemsize = <int>buffer.itemsize
        m.columns = buffer.shape[buffer.ndim - 1]
        m.rows = buffer.shape[0] if buffer.ndim == 2 else 1
        m.lead = buffer.strides[0] // m.itemsize if buffer.ndim == 2 else m.columns
        if m.columns > 1 and buffer.strides[buffer.ndim - 1] != m.itemsize:
            raise ValueError(f"{name}: expected unit stride on the last axis, got {buffer.strides[buffer.ndim - 1]} bytes")
        return m
    finally:
        PyBuffer_Release(&buffer)


cdef const frn_blas *blas_engine(int itemsize) except? NULL:
    if not gemm_is_blas():
        return NULL
    from fastrnn import _blas

    return <const frn_blas *>PyCapsule_GetPointer(_blas.engines[itemsize], NULL)


cdef frn_axis simple_axis(size_t n, ptrdiff_t stride) noexcept nogil:
    cdef frn_axis axis
    memset(&axis, 0, sizeof(axis))
    axis.blocks = 1
    axis.n = axis.padded = n
    axis.stride = stride
    return axis


cdef int threads_for(double operations, const frn_blas *blas) noexcept nogil:
    # Two pools on the same cores wait for each other: what BLAS splits itself is left to its threads.
    if blas != NULL and (blas.thread_count == NULL or blas.thread_count() != 1):
        return 1
    if operations < THREAD_OPERATIONS:
        return 1
    return num_threads() if operations >= BRIEF_OPERATIONS else brief_threads()


# ---- whether weights have changed ----

cdef struct HashTask:
    const Matrix *m
    size_t rows  # of a task
    uint64_t *hashes


cdef void hash_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef HashTask *t = <HashTask *>ctx
    cdef const Matrix *m = t.m
    cdef size_t first = index * t.rows, last = min(first + t.rows, m.rows), row_bytes = m.columns * m.itemsize, i
    cdef uint64_t value = index
    if m.lead == <ptrdiff_t>m.columns:
        value = hash_bytes(m.data + first * row_bytes, (last - first) * row_bytes, value)
    else:
        for i in range(first, last):
            value = hash_bytes(m.data + <ptrdiff_t>i * m.lead * m.itemsize, row_bytes, value)
    t.hashes[index] = value


cdef uint64_t hash_matrix(const Matrix *m, uint64_t seed, FreeList memory) except? 0:
    cdef size_t row_bytes = max(<size_t>1, m.columns * m.itemsize)
    cdef HashTask task = HashTask(m, max(<size_t>1, HASH_BYTES // row_bytes), NULL)
    cdef size_t tasks = (m.rows + task.rows - 1) // task.rows
    cdef Block hashes = memory.take(tasks * sizeof(uint64_t))
    task.hashes = <uint64_t *>hashes.ptr
    with nogil:
        parallel(hash_task, &task, tasks, brief_threads() if m.rows * row_bytes >= THREAD_BYTES else 1)
        return hash_bytes(hashes.ptr, tasks * sizeof(uint64_t), seed)


# ---- packing ----

cdef struct PackTask:
    const frn_kernels *kernels
    const void *source
    const frn_axis *k
    const frn_axis *units
    int vectors
    bint plain
    void *dst


cdef void pack_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef PackTask *t = <PackTask *>ctx
    t.kernels.pack(t.dst, t.source, t.k, t.units, t.vectors, t.plain, index)


cdef frn_packed pack(const frn_kernels *kernels, bint plain, const void *source, const frn_axis *k,
                     const frn_axis *units, int vectors, void *dst) noexcept nogil:
    cdef PackTask task = PackTask(kernels, source, k, units, vectors, plain, dst)
    cdef double moved = <double>k.blocks * k.n * units.blocks * units.n
    parallel(pack_task, &task, kernels.pack_tasks(units, vectors), threads_for(moved, NULL))
    cdef frn_packed packed
    packed.data = dst
    packed.k = k.blocks * k.padded
    packed.units = units.n
    packed.slots = units.blocks
    packed.vectors = vectors
    return packed


# ---- rows times a packed weight ----

cdef struct ProductTask:
    const frn_kernels *kernels
    const frn_product *product
    size_t rows, units  # of a task
    size_t down, across  # tasks along the rows, and along the units
    bint rows_first  # groups of rows follow each other, not panels
    size_t first  # task of this region
    char *scratch
    size_t scratch_bytes  # per worker


cdef void product_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef ProductTask *t = <ProductTask *>ctx
    cdef const frn_product *p = t.product
    # The larger operand comes from farther, and is read once: panels are met by all rows before the
    # next ones are, or rows by all panels.
    cdef size_t task = t.first + index, row = task % t.down * t.rows, unit = task // t.down * t.units
    if t.rows_first:
        row, unit = task // t.across * t.rows, task % t.across * t.units
    t.kernels.product(p, row, min(row + t.rows, p.rows), unit, min(unit + t.units, p.w.units),
                      t.scratch + worker * t.scratch_bytes)


cdef int run_product(const frn_kernels *kernels, const frn_product *p, FreeList memory) except -1:
    cdef double per_element = 2.0 * max(<size_t>1, p.w.k)
    cdef int n_threads = threads_for(per_element * p.rows * p.w.units, p.blas)
    cdef size_t panel = kernels.lanes * FRN_SLOTS, panels = (p.w.units + panel - 1) // panel
    cdef size_t tasks, region, n, groups = (p.rows + GROUP_ROWS - 1) // GROUP_ROWS
    cdef ProductTask task = ProductTask(kernels, p, 0, 0, 0, 0, False, 0, NULL, 0)
    if not p.rows or not panels:
        return 0
    # Groups of even height, whole tiles, as many for each thread.
    groups = (groups + n_threads - 1) // n_threads * n_threads
    task.rows = ((p.rows + groups - 1) // groups + kernels.tile_rows - 1) // kernels.tile_rows * kernels.tile_rows
    task.down = (p.rows + task.rows - 1) // task.rows
    task.units = max(<size_t>1, <size_t>(TASK_OPERATIONS / (per_element * task.rows * panel)))
    if task.down < <size_t>n_threads:
        task.units = min(task.units, (panels + n_threads - 1) // n_threads)
    task.units = panels * panel if p.blas != NULL else min(task.units, panels) * panel
    task.across = (p.w.units + task.units - 1) // task.units
    task.rows_first = p.rows >= 2 * p.w.units
    tasks = task.down * task.across
    # Scratch is for those that find a task, however many threads were asked for.
    n_threads = <int>min(<size_t>n_threads, tasks)
    region = max(<size_t>n_threads, <size_t>(n_threads * region_operations() / (per_element * task.rows * task.units)))
    task.scratch_bytes = (kernels.product_bytes(p, task.rows) + 63) // 64 * 64
    cdef Block scratch = memory.take(task.scratch_bytes * n_threads)
    task.scratch = scratch.ptr
    with nogil:
        while task.first < tasks:
            n = min(region, tasks - task.first)
            parallel(product_task, &task, n, n_threads)
            task.first += n
            check_signals()
    return 0


# ---- sums of outer products ----

cdef struct OuterTask:
    const frn_kernels *kernels
    frn_outer outer
    size_t first  # of this region


cdef void outer_pack_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef OuterTask *t = <OuterTask *>ctx
    t.kernels.outer_pack(&t.outer, index)


cdef void outer_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef OuterTask *t = <OuterTask *>ctx
    t.kernels.outer(&t.outer, t.first + index)


cdef int run_outer(const frn_kernels *kernels, const frn_outer *p, FreeList memory) except -1:
    cdef OuterTask task = OuterTask(kernels, p[0], 0)
    # Blocks of even size, by the number of rows alone: they fix the order of the sums.
    cdef size_t blocks = (p.rows + OUTER_ROWS - 1) // OUTER_ROWS
    cdef size_t most = (p.rows + blocks - 1) // blocks if blocks else 0
    cdef size_t row = 0, tasks, region, n
    task.outer.rows = most
    cdef Block packed_x = memory.take(kernels.outer_bytes(&task.outer))
    task.outer.packed_x = packed_x.ptr
    cdef int n_threads = threads_for(2.0 * p.rows * p.blocks * p.n * p.columns, p.blas)
    with nogil:
        while row < p.rows:
            task.outer.rows = min(p.rows - row, most)
            task.outer.d = <const char *>p.d + row * p.ldd * kernels.itemsize
            task.outer.x = p.x + row
            parallel(outer_pack_task, &task, kernels.outer_pack_tasks(&task.outer), min(n_threads, brief_threads()))
            tasks = kernels.outer_tasks(&task.outer)
            # Long ones, since threads wait for each other at the end of each, for a part of a task.
            region = max(<size_t>n_threads, <size_t>(
                4 * n_threads * region_operations() * tasks / (2.0 * task.outer.rows * p.blocks * p.n * p.columns + 1)))
            task.first = 0
            while task.first < tasks:
                n = min(region, tasks - task.first)
                parallel(outer_task, &task, n, n_threads)
                task.first += n
                check_signals()
            row += task.outer.rows
    return 0


cdef int check_blas(str name, Matrix m) except -1:
    """Refuse a weight, or its gradient, whose dimensions do not fit the integers of BLAS."""
    if m.rows > INT_MAX or m.columns > INT_MAX:
        raise ValueError(
            f"{name}: expected dimensions below 2**31 for the BLAS engine, got ({m.rows}, {m.columns})")
    return 0


# ---- what Python calls ----

@cython.final
cdef class _Packed:
    """One packing of a weight: valid for one engine, one set of kernels and one content."""

    cdef Block block
    cdef Block bias
    cdef frn_packed packed
    cdef const frn_kernels *kernels
    cdef const frn_blas *blas
    cdef uint64_t hash, bias_hash


cdef FreeList _memory = FreeList()


class Snapshots:
    """What is kept of one weight between calls: its packings for the forward and the backward product.

    Copies and pickles are empty: the next call packs anew.
    """

    __slots__ = ("backward", "changed", "forward", "steps")

    def __init__(self):
        self.forward = None
        self.backward = None
        self.steps = 0  # of an optimizer
        self.changed = False  # by one, after the last call

    def stepped(self):
        """Hear that the weight has changed: the next call packs it without a hash, as number `steps`."""
        self.steps += 1
        self.changed = True

    def __reduce__(self):
        return Snapshots, ()


class Call:
    """The same for one call and its backward, between which the weight does not change.

    Parameters
    ----------
    snapshots : Snapshots
        What is kept between calls.
    """

    __slots__ = ("backward", "forward", "snapshots")

    def __init__(self, snapshots):
        self.snapshots = snapshots
        self.forward = None
        self.backward = None


cdef bint is_for(_Packed held, const frn_kernels *table, const frn_blas *blas) noexcept:
    return held is not None and held.kernels == table and held.blas == blas


cdef _Packed _pack(object snapshots, Matrix w, object bias, bint transposed):
    """The weight (M, D) packed for x W' (inner dimension D) or, transposed, for dy W (inner M)."""
    cdef const frn_kernels *table = kernels(w.itemsize)
    cdef const frn_blas *blas = blas_engine(w.itemsize)
    if blas != NULL:
        check_blas("weight", w)
    cdef Matrix b
    cdef _Packed held = None, other = None
    call = snapshots if isinstance(snapshots, Call) else None
    if call is not None:
        held = call.backward if transposed else call.forward
        if is_for(held, table, blas):
            return held
        other = call.forward if transposed else call.backward
        snapshots = call.snapshots
    cdef uint64_t hash, bias_hash = 0
    if other is not None:
        hash = other.hash
    elif snapshots is not None and snapshots.changed:
        snapshots.changed = False
        hash = snapshots.steps
    else:
        hash = hash_matrix(&w, 0, _memory)
    if bias is not None:
        b = as_matrix(bias, "bias")
        bias_hash = hash_bytes(b.data, b.columns * b.itemsize, 1)
    if snapshots is not None:
        held = snapshots.backward if transposed else snapshots.forward
    if not is_for(held, table, blas) or held.hash != hash or held.bias_hash != bias_hash:
        held = None
        if snapshots is not None:
            setattr(snapshots, "backward" if transposed else "forward", None)  # its memory serves again
        held = _pack_anew(w, bias, transposed, table, blas)
        held.hash, held.bias_hash = hash, bias_hash
    for keeper in (snapshots, call):
        if keeper is not None:
            setattr(keeper, "backward" if transposed else "forward", held)
    return held


cdef _Packed _pack_anew(Matrix w, object bias, bint transposed, const frn_kernels *table, const frn_blas *blas):
    cdef Matrix b
    cdef frn_axis rows = simple_axis(w.rows, w.lead), columns = simple_axis(w.columns, 1)
    cdef frn_axis *k = &rows if transposed else &columns
    cdef frn_axis *units = &columns if transposed else &rows
    cdef _Packed made = _Packed.__new__(_Packed)
    made.block = _memory.take(table.packed_bytes(k, units, FRN_SLOTS))
    made.kernels = table
    made.blas = blas
    with nogil:
        made.packed = pack(table, blas != NULL, w.data, k, units, FRN_SLOTS, made.block.ptr)
    cdef size_t padded
    if bias is not None:
        b = as_matrix(bias, "bias")
        padded = (w.rows + table.lanes - 1) // table.lanes * table.lanes * w.itemsize
        made.bias = _memory.take(padded)
        memset(made.bias.ptr, 0, padded)
        memcpy(made.bias.ptr, b.data, b.columns * b.itemsize)
    return made


cdef int _multiply(Matrix a, Matrix out, _Packed w) except -1:
    cdef frn_product p
    cdef Block pointers = _memory.take(2 * a.rows * sizeof(void *))
    cdef void **at = <void **>pointers.ptr
    cdef size_t i
    for i in range(a.rows):
        at[i] = a.data + <ptrdiff_t>i * a.lead * a.itemsize
        at[a.rows + i] = out.data + <ptrdiff_t>i * out.lead * out.itemsize
    p.rows = a.rows
    p.a = <const void **>at
    p.out = at + a.rows
    p.w = w.packed
    p.bias = w.bias.ptr if w.bias is not None else NULL
    p.accumulate = False
    p.blas = w.blas
    return run_product(w.kernels, &p, _memory)


def linear(x, weight, bias, snapshots, out):
    """out = x W' + b: x (rows, D), weight (M, D), bias (M,) or None, out (rows, M)."""
    cdef Matrix w = as_matrix(weight, "weight")
    _multiply(as_matrix(x, "x"), as_matrix(out, "out", True), _pack(snapshots, w, bias, False))


def linear_backward(dy, weight, snapshots, out):
    """out = dy W: dy (rows, M), weight (M, D), out (rows, D)."""
    cdef Matrix w = as_matrix(weight, "weight")
    _multiply(as_matrix(dy, "dy"), as_matrix(out, "out", True), _pack(snapshots, w, None, True))


cdef Block gather(Matrix *m):
    """Let `m` be a copy of itself whose rows lie one directly after the other."""
    cdef size_t row_bytes = m.columns * m.itemsize, i
    cdef Block copy = _memory.take(m.rows * row_bytes)
    for i in range(m.rows):
        memcpy(copy.ptr + i * row_bytes, m.data + <ptrdiff_t>i * m.lead * m.itemsize, row_bytes)
    m.data = copy.ptr
    m.lead = m.columns
    return copy


def accumulate(dy, x, dweight, dbias):
    """dweight += dy' x and dbias += the sum of dy's rows; dy (rows, M), x (rows, D), dweight (M, D)."""
    cdef Matrix d = as_matrix(dy, "dy"), a = as_matrix(x, "x"), dw = as_matrix(dweight, "dweight", True), db
    cdef frn_outer p
    memset(&p, 0, sizeof(p))
    p.blas = blas_engine(d.itemsize)
    cdef Block gathered
    if p.blas != NULL:
        check_blas("dweight", dw)
        # To BLAS rows lie in order and apart; those of dy[::-1] or of a broadcast row do not.
        if d.rows > 1 and not <ptrdiff_t>d.columns <= d.lead <= INT_MAX:
            gathered = gather(&d)
    cdef Block pointers = _memory.take(a.rows * sizeof(void *))
    cdef void **at = <void **>pointers.ptr
    cdef size_t i
    for i in range(a.rows):
        at[i] = a.data + <ptrdiff_t>i * a.lead * a.itemsize
    p.rows = d.rows
    p.d = d.data
    p.ldd = d.lead
    p.x = <const void **>at
    p.columns = a.columns
    p.blocks = 1
    p.n = d.columns
    p.dw = dw.data
    if dbias is not None:
        db = as_matrix(dbias, "dbias", True)
        p.db = db.data
    run_outer(kernels(d.itemsize), &p, _memory)
