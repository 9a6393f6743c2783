"""Attention's scores, softmax and contexts, and back; the formulas are in fastrnn.engine.attending.

The callers have checked values; here are checked sizes, so that no kernel leaves its arrays. Rows of
queries and of their results lie one source after the other.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastrnn._elementwise cimport flat, has
from fastrnn._kernels cimport frn_attention, frn_kernels
from fastrnn._memory cimport Block, FreeList
from fastrnn._native cimport check_signals, kernels, parallel, region_operations
from fastrnn._products cimport Matrix, threads_for


cdef FreeList _memory = FreeList()

cdef double UNIT_OPERATIONS = 20  # that a unit of an additive score costs, as operations of a product


cdef struct Task:
    const frn_kernels *kernels
    const frn_attention *attention
    void (*run)(const frn_kernels *kernels, const frn_attention *p, size_t task, void *scratch) noexcept nogil
    size_t first  # of this region
    char *scratch
    size_t scratch_bytes  # per worker


cdef void read_task(const frn_kernels *kernels, const frn_attention *p, size_t task, void *scratch) noexcept nogil:
    kernels.attention_read(p, task, task + 1)


cdef void forward_task(const frn_kernels *kernels, const frn_attention *p, size_t task, void *scratch) noexcept nogil:
    kernels.attention(p, task, scratch)


cdef void scores_task(const frn_kernels *kernels, const frn_attention *p, size_t task, void *scratch) noexcept nogil:
    kernels.attention_scores_back(p, task)


cdef void back_task(const frn_kernels *kernels, const frn_attention *p, size_t task, void *scratch) noexcept nogil:
    kernels.attention_back(p, task, scratch)


cdef void one_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef Task *t = <Task *>ctx
    t.run(t.kernels, t.attention, t.first + index, t.scratch + worker * t.scratch_bytes)


cdef int run(Task *task, size_t tasks, double operations, size_t scratch_bytes) except -1:
    """All tasks, on all threads, in regions of a few milliseconds."""
    cdef int n_threads
    cdef size_t region, n
    if not tasks:
        return 0
    n_threads = <int>min(<size_t>threads_for(operations, NULL), tasks)
    region = max(<size_t>n_threads, <size_t>(n_threads * region_operations() / (operations / tasks + 1)))
    task.scratch_bytes = (scratch_bytes + 63) // 64 * 64
    cdef Block scratch = _memory.take(task.scratch_bytes * n_threads)
    task.scratch = scratch.ptr
    task.first = 0
    with nogil:
        while task.first < tasks:
            n = min(region, tasks - task.first)
            parallel(one_task, task, n, n_threads)
            task.first += n
            check_signals()
    return 0


cdef frn_attention as_attention(const int64_t[::1] base, size_t steps, object projected,
                                unsigned char[::1] wide, int itemsize) except *:
    """The sources, and what they hold for the scores."""
    cdef frn_attention p
    cdef Matrix rows = flat(projected, "projected", True)
    cdef Py_ssize_t i
    memset(&p, 0, sizeof(p))
    if not base.shape[0] or base[0] != 0:
        raise ValueError("base: expected prefix sums that begin with 0")
    p.n = base.shape[0] - 1
    has(wide.shape[0], p.n, "wide")
    for i in range(<Py_ssize_t>p.n):
        if not 0 <= base[i + 1] - base[i] <= <int64_t>steps:
            raise ValueError(f"base: expected lengths in [0, {steps}], got {base[i + 1] - base[i]}")
    if rows.rows != <size_t>base[p.n] or rows.itemsize != itemsize:
        raise ValueError(f"projected: expected {base[p.n]} rows of {itemsize} bytes an element, "
                         f"got {rows.rows} of {rows.itemsize}")
    p.base = &base[0]
    p.wide = &wide[0] if p.n else NULL
    p.steps = steps
    p.units = rows.columns
    p.projected = rows.data
    return p


cdef Matrix sized(object array, str name, size_t rows, size_t columns, int itemsize, bint writable=False) except *:
    """An array (rows, columns) in C order."""
    cdef Matrix m = flat(array, name, writable)
    if m.rows != rows or m.columns != columns or m.itemsize != itemsize:
        raise ValueError(f"{name}: expected ({rows}, {columns}) of {itemsize} bytes, "
                         f"got ({m.rows}, {m.columns}) of {m.itemsize}")
    return m


cdef int ask(frn_attention *p, object query, object score, object keys, object weights, bint forward,
             int itemsize) except -1:
    """Add the queries and the rest of what both passes are given."""
    cdef Matrix q = flat(query, "query"), k = flat(keys, "keys")
    if p.n and q.rows % p.n or q.rows and not p.n:
        raise ValueError(f"query: expected as many rows for each of {p.n} sources, got {q.rows}")
    p.queries = q.rows // p.n if p.n else 0
    p.columns = k.columns
    p.query = sized(query, "query", q.rows, p.units, itemsize).data
    p.keys = sized(keys, "keys", <size_t>p.base[p.n], k.columns, itemsize).data
    p.weights = sized(weights, "weights", q.rows, p.steps, itemsize, forward).data
    if score is not None:
        p.score = sized(score, "score", 1, p.units, itemsize).data
    return 0


cdef double operations_of(const frn_attention *p) noexcept nogil:
    """Of a product, as long as one pass over the scores and one over the keys take."""
    cdef double units = p.units * (UNIT_OPERATIONS if p.score != NULL else 2.0)
    return <double>p.queries * <double>p.base[p.n] * (units + 2.0 * p.columns)


def read(projected, const int64_t[::1] base, unsigned char[::1] wide, size_t steps):
    """Make of what additive scores see of keys, (total, A), what the kernels work with; fills `wide`.

    Parameters
    ----------
    projected : array (total, A)
        Overwritten.
    base : array of int64 (N + 1,)
        The first row of each source.
    wide : array of uint8 (N,)
    steps : int
        At least the longest source's.
    """
    cdef Matrix rows = flat(projected, "projected", True)
    cdef frn_attention p = as_attention(base, steps, projected, wide, rows.itemsize)
    cdef Task task = Task(kernels(rows.itemsize), &p, read_task, 0, NULL, 0)
    run(&task, p.n, UNIT_OPERATIONS * rows.rows * rows.columns, 0)


def attend(query, projected, unsigned char[::1] wide, score, keys, const int64_t[::1] base, context, weights):
    """Fill `context` and `weights`.

    Parameters
    ----------
    query : array (N * Tq, A)
    projected : array (total, A)
        With a score as `read` has left it.
    wide : array of uint8 (N,)
    score : array (A,) or None
    keys : array (total, K)
    base : array of int64 (N + 1,)
    context : array (N * Tq, K)
    weights : array (N * Tq, Ts)
    """
    cdef Matrix w = flat(weights, "weights", True)
    cdef frn_attention p = as_attention(base, w.columns, projected, wide, w.itemsize)
    cdef Task task = Task(kernels(w.itemsize), &p, forward_task, 0, NULL, 0)
    ask(&p, query, score, keys, weights, True, w.itemsize)
    p.context = sized(context, "context", w.rows, p.columns, w.itemsize, True).data
    if w.rows:
        run(&task, task.kernels.attention_tasks(&p), operations_of(&p), task.kernels.attention_bytes(&p))


def attend_backward(dcontext, query, weights, projected, unsigned char[::1] wide, score, keys,
                    const int64_t[::1] base, dquery, dprojected, dkeys, dscore):
    """Fill `dquery`, and add to `dprojected`, `dkeys` and `dscore`; the others as in `attend`.

    Parameters
    ----------
    dcontext : array (N * Tq, K)
    dquery : array (N * Tq, A)
    dprojected : array (total, A)
    dkeys : array (total, K)
        May be `dprojected`.
    dscore : array (N, A) or None
    """
    cdef Matrix w = flat(weights, "weights")
    cdef frn_attention p = as_attention(base, w.columns, projected, wide, w.itemsize)
    cdef Task task = Task(kernels(w.itemsize), &p, scores_task, 0, NULL, 0)
    cdef size_t total = <size_t>p.base[p.n]
    ask(&p, query, score, keys, weights, False, w.itemsize)
    p.dcontext = sized(dcontext, "dcontext", w.rows, p.columns, w.itemsize).data
    p.dquery = sized(dquery, "dquery", w.rows, p.units, w.itemsize, True).data
    p.dprojected = sized(dprojected, "dprojected", total, p.units, w.itemsize, True).data
    p.dkeys = sized(dkeys, "dkeys", total, p.columns, w.itemsize, True).data
    if score is not None:
        p.dscore = sized(dscore, "dscore", p.n, p.units, w.itemsize, True).data
    if not w.rows:
        return
    cdef Block dscores = _memory.take(w.rows * w.columns * w.itemsize)
    p.dscores = dscores.ptr
    run(&task, task.kernels.attention_tasks(&p), 2.0 * p.queries * <double>total * p.columns, 0)
    task.run = back_task
    run(&task, task.kernels.attention_back_tasks(&p), 2 * operations_of(&p), task.kernels.attention_back_bytes(&p))
