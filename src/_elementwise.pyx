"""What is done element by element or row by row: cross entropy, optimizer steps, norms, dropout, embedding rows.

The callers have checked values; here are checked sizes, so that no kernel leaves its arrays. Arrays
of one and of two dimensions are taken for the same: one after the other in C order.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from fastrnn._kernels cimport frn_cross_entropy, frn_drop, frn_kernels, frn_layer_norm, frn_rule, frn_table, frn_update
from fastrnn._native cimport check_signals, kernels, num_threads, parallel
from fastrnn._products cimport Matrix, as_matrix

import numpy as np


cdef enum:
    GRAIN = 16384  # elements of one task, and of one block of a sum: fixes the order of the sums
    THREAD_ELEMENTS = 65536  # a second thread gains less than it costs below
    REGION_ELEMENTS = 4194304  # per thread: a few milliseconds


# What all tasks begin with: the range of a region, cut into grains.
cdef struct Range:
    size_t first, last, grain


cdef struct Work:
    Range range
    void (*kernel)(const void *what, size_t first, size_t last) noexcept nogil
    const void *what


cdef void work_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef Work *work = <Work *>ctx
    cdef size_t first = work.range.first + index * work.range.grain
    work.kernel(work.what, first, min(first + work.range.grain, work.range.last))


ctypedef void (*kernel_fn)(const void *what, size_t first, size_t last) noexcept nogil


cdef int run(void *kernel, const void *what, size_t n, size_t elements_each) except -1:
    """kernel(what, first, last) over [0, n), each with so many elements of work, on all threads."""
    cdef Work work
    cdef size_t each = max(<size_t>1, elements_each)
    cdef double total = <double>n * each
    cdef int n_threads = num_threads() if total >= THREAD_ELEMENTS else 1
    cdef size_t region
    work.kernel = <kernel_fn>kernel
    work.what = what
    work.range.grain = max(<size_t>1, GRAIN // each)
    region = max(<size_t>1, REGION_ELEMENTS // each // work.range.grain) * work.range.grain * n_threads
    work.range.first = 0
    with nogil:
        while work.range.first < n:
            work.range.last = min(n, work.range.first + region)
            parallel(work_task, &work, (work.range.last - work.range.first + work.range.grain - 1) // work.range.grain,
                     n_threads)
            work.range.first = work.range.last
            check_signals()
    return 0


cdef Matrix flat(object array, str name, bint writable=False) except *:
    """An array in C order."""
    cdef Matrix m = as_matrix(array, name, writable)
    if m.rows > 1 and m.lead != <ptrdiff_t>m.columns:
        raise ValueError(f"{name}: expected C order, got rows {m.lead} elements apart")
    return m


cdef int same(Matrix a, Matrix b, str name) except -1:
    """b has the size and dtype of a."""
    if a.rows * a.columns != b.rows * b.columns or a.itemsize != b.itemsize:
        raise ValueError(f"{name}: expected {a.rows * a.columns} elements of {a.itemsize} bytes, "
                         f"got {b.rows * b.columns} of {b.itemsize}")
    return 0


cdef int has(size_t got, size_t expected, str name) except -1:
    if got != expected:
        raise ValueError(f"{name}: expected {expected} elements, got {got}")
    return 0


def cross_entropy(logits, const int64_t[::1] targets, weights, double scale, grad, double[::1] loss,
                  double smoothing=0.0):
    """Softmax cross entropy of rows with one class each.

    Parameters
    ----------
    logits : array (rows, K)
    targets : array of int64 (rows,)
        In [0, K).
    weights : array of float64 (rows,) or None
    scale : float
    grad : array (rows, K), or None
        Filled with weight * scale * (softmax - one at the target); may be `logits`.
    loss : array of float64 (rows,)
        Filled with the losses, which know no weights but are 0 where these are.
    smoothing : float
        The share of the one at the target that all classes have alike.
    """
    cdef frn_cross_entropy p
    cdef Matrix z = flat(logits, "logits"), d
    cdef const double[::1] w
    cdef size_t i
    has(targets.shape[0], z.rows, "targets")
    has(loss.shape[0], z.rows, "loss")
    p.weights = NULL
    if weights is not None:
        w = weights
        has(w.shape[0], z.rows, "weights")
        p.weights = &w[0] if z.rows else NULL
    p.grad = NULL
    if grad is not None:
        d = flat(grad, "grad", True)
        same(z, d, "grad")
        p.grad = d.data
    if not z.rows or not z.columns:
        return
    p.columns = z.columns
    p.logits = z.data
    p.targets = &targets[0]
    for i in range(z.rows):
        if not 0 <= targets[i] < <int64_t>z.columns:
            raise ValueError(f"targets: expected classes in [0, {z.columns}), got {targets[i]}")
    p.scale = scale
    p.smoothing = smoothing
    p.loss = &loss[0]
    run(<void *>kernels(z.itemsize).cross_entropy, &p, z.rows, 4 * z.columns)


RULES = {"sgd": frn_rule.FRN_SGD, "momentum": frn_rule.FRN_MOMENTUM, "nesterov": frn_rule.FRN_NESTEROV,
         "adam": frn_rule.FRN_ADAM, "rmsprop": frn_rule.FRN_RMSPROP, "adagrad": frn_rule.FRN_ADAGRAD}


def update(str rule, param, grad, mean, square, *, double rate, double l2=0.0, double shrink=1.0, double epsilon=0.0,
           double keep_mean=0.0, double new_mean=0.0, double keep_square=0.0, double new_square=0.0, double root=1.0):
    """One step of an optimizer, in place; the formulas are in fastrnn.optim.

    Parameters
    ----------
    rule : {"sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad"}
    param, grad : array
    mean, square : array or None
        The running sums that the rule has.
    """
    cdef frn_update u
    cdef Matrix p = flat(param, "param", True), g = flat(grad, "grad"), state
    same(p, g, "grad")
    u.rule = <frn_rule>(<int>RULES[rule])
    u.mean = u.square = NULL
    if rule in ("momentum", "nesterov", "adam"):
        state = flat(mean, "mean", True)
        same(p, state, "mean")
        u.mean = state.data
    if rule in ("adam", "rmsprop", "adagrad"):
        state = flat(square, "square", True)
        same(p, state, "square")
        u.square = state.data
    u.param = p.data
    u.grad = g.data
    u.rate, u.l2, u.shrink, u.epsilon, u.root = rate, l2, shrink, epsilon, root
    u.keep_mean, u.new_mean, u.keep_square, u.new_square = keep_mean, new_mean, keep_square, new_square
    run(<void *>kernels(p.itemsize).update, &u, p.rows * p.columns, 1)


cdef struct Sum:
    const frn_kernels *kernels
    const char *x
    size_t n
    double *sums


cdef void sum_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef Sum *s = <Sum *>ctx
    cdef size_t first = index * GRAIN
    s.sums[index] = s.kernels.sum_of_squares(min(<size_t>GRAIN, s.n - first), s.x + first * s.kernels.itemsize)


def sum_of_squares(x):
    """The sum of x^2 in float64, the same bits for any number of threads: blocks of fixed size, in order."""
    cdef Matrix m = flat(x, "x")
    cdef Sum s
    cdef size_t i, n_blocks
    cdef double total = 0
    cdef double[::1] sums
    s.kernels = kernels(m.itemsize)
    s.x = m.data
    s.n = m.rows * m.columns
    if not s.n:
        return 0.0
    n_blocks = (s.n + GRAIN - 1) // GRAIN
    sums = np.empty(n_blocks)
    s.sums = &sums[0]
    with nogil:
        parallel(sum_task, &s, n_blocks, num_threads() if s.n >= THREAD_ELEMENTS else 1)
        for i in range(n_blocks):
            total += sums[i]
    return total


cdef struct Scaled:
    const frn_kernels *kernels
    char *y
    const char *x
    double factor


cdef void scale_kernel(const void *what, size_t first, size_t last) noexcept nogil:
    cdef const Scaled *s = <const Scaled *>what
    cdef size_t start = first * s.kernels.itemsize
    if s.x == NULL:
        s.kernels.scale(last - first, s.y + start, s.factor)
    else:
        s.kernels.add_scaled(last - first, s.y + start, s.x + start, s.factor)


def scale(y, double factor):
    """y *= factor."""
    cdef Matrix m = flat(y, "y", True)
    cdef Scaled s = Scaled(kernels(m.itemsize), m.data, NULL, factor)
    run(<void *>scale_kernel, &s, m.rows * m.columns, 1)


def add_scaled(y, x, double factor=1.0):
    """y += factor * x."""
    cdef Matrix m = flat(y, "y", True), other = flat(x, "x")
    cdef Scaled s = Scaled(kernels(m.itemsize), m.data, other.data, factor)
    same(m, other, "x")
    run(<void *>scale_kernel, &s, m.rows * m.columns, 1)


cdef void clear_kernel(const void *what, size_t first, size_t last) noexcept nogil:
    cdef const Scaled *s = <const Scaled *>what
    memset(s.y + first * s.kernels.itemsize, 0, (last - first) * s.kernels.itemsize)


def clear(y):
    """y = 0."""
    cdef Matrix m = flat(y, "y", True)
    cdef Scaled s = Scaled(kernels(m.itemsize), m.data, NULL, 0)
    run(<void *>clear_kernel, &s, m.rows * m.columns, 1)


def drop(x, const uint64_t[::1] keys, uint64_t threshold, double scale, out):
    """out = x times 0 where the hash of (key of the row, unit) lies below the threshold, else times scale.

    Parameters
    ----------
    x : array (rows, units) or None
        None stands for ones.
    out : array (rows, units)
        Not `x`.
    keys : array of uint64 (rows,)
    threshold : int
    scale : float
    """
    cdef Matrix m = flat(out, "out", True), given
    cdef frn_drop p
    p.x = NULL
    if x is not None:
        given = flat(x, "x")
        same(m, given, "x")
        p.x = given.data
    has(keys.shape[0], m.rows, "keys")
    if not m.rows:
        return
    p.units = m.columns
    p.out = m.data
    p.keys = &keys[0]
    p.threshold = threshold
    p.scale = scale
    run(<void *>kernels(m.itemsize).drop, &p, m.rows, 2 * m.columns)


cdef frn_table as_table(object table, const int64_t[::1] index, object rows, bint gathering) except *:
    cdef frn_table p
    cdef Matrix t = flat(table, "table", not gathering), r = flat(rows, "rows", gathering)
    cdef size_t i
    if r.itemsize != t.itemsize or r.columns != t.columns:
        raise ValueError(f"rows: expected {t.columns} columns of {t.itemsize} bytes, got {r.columns} of {r.itemsize}")
    has(index.shape[0], r.rows, "index")
    for i in range(r.rows):
        if not 0 <= index[i] < <int64_t>t.rows:
            raise ValueError(f"index: expected values in [0, {t.rows}), got {index[i]}")
    p.n = r.rows
    p.columns = t.columns
    p.index = &index[0] if r.rows else NULL
    p.table = t.data
    p.rows = r.data
    return p


def gather(table, const int64_t[::1] index, rows):
    """rows[i] = table[index[i]]."""
    cdef frn_table p = as_table(table, index, rows, True)
    run(<void *>kernels(rows.itemsize).gather, &p, p.n, p.columns)


cdef int run_columns(void *kernel, const void *what, size_t rows, size_t columns, int itemsize) except -1:
    """kernel(what, first, last) over columns, each of which is summed over all rows in order."""
    cdef Work work
    cdef size_t n_tasks, line = 64 // <size_t>itemsize
    cdef int n_threads = num_threads() if <double>rows * columns >= THREAD_ELEMENTS else 1
    if not rows or not columns:
        return 0
    # Whole cache lines each, and no more tasks than threads: every task walks all rows.
    n_tasks = min(<size_t>n_threads, (columns + line - 1) // line)
    work.range.grain = ((columns + n_tasks - 1) // n_tasks + line - 1) // line * line
    work.range.first, work.range.last = 0, columns
    work.kernel = <kernel_fn>kernel
    work.what = what
    with nogil:
        parallel(work_task, &work, (columns + work.range.grain - 1) // work.range.grain, n_threads)
        check_signals()
    return 0


def scatter_add(table, const int64_t[::1] index, rows):
    """table[index[i]] += rows[i], for one i after the other."""
    cdef frn_table p = as_table(table, index, rows, False)
    run_columns(<void *>kernels(rows.itemsize).scatter_add, &p, p.n, p.columns, rows.itemsize)


cdef frn_layer_norm as_layer_norm(object x, object weight, object mean, object scale, object out) except *:
    cdef frn_layer_norm p
    cdef Matrix rows = flat(x, "x"), to = flat(out, "out", True), w = flat(weight, "weight")
    cdef Matrix m = flat(mean, "mean", True), s = flat(scale, "scale", True)
    same(rows, to, "out")
    same(m, s, "scale")
    if w.itemsize != rows.itemsize or m.itemsize != rows.itemsize:
        raise ValueError(f"weight, mean: expected elements of {rows.itemsize} bytes, got {w.itemsize} and {m.itemsize}")
    has(w.rows * w.columns, rows.columns, "weight")
    has(m.rows * m.columns, rows.rows, "mean")
    p.n = rows.rows
    p.columns = rows.columns
    p.x = rows.data
    p.weight = w.data
    p.mean = m.data
    p.scale = s.data
    p.out = to.data
    p.dy = p.bias = NULL
    p.dweight = p.dbias = NULL
    p.epsilon = 0
    return p


def layer_norm(x, weight, bias, double epsilon, mean, scale, out):
    """Rows of `out` = (x - mean) * scale * weight + bias; fills `mean` and `scale`, one per row.

    Parameters
    ----------
    x, out : array (rows, D)
    weight, bias : array (D,)
    epsilon : float
    mean, scale : array (rows,)
    """
    cdef frn_layer_norm p = as_layer_norm(x, weight, mean, scale, out)
    cdef Matrix w = flat(weight, "weight"), b = flat(bias, "bias")
    same(w, b, "bias")
    p.bias = b.data
    p.epsilon = epsilon
    run(<void *>kernels(w.itemsize).layer_norm, &p, p.n, 2 * p.columns)


def layer_norm_backward(x, weight, mean, scale, dy, dx, dweight, dbias):
    """Fill `dx`, and add to `dweight` and `dbias`; `mean` and `scale` are those of the forward pass."""
    cdef frn_layer_norm p = as_layer_norm(x, weight, mean, scale, dx)
    cdef Matrix w = flat(weight, "weight"), rows = flat(x, "x"), d = flat(dy, "dy")
    cdef Matrix dw = flat(dweight, "dweight", True), db = flat(dbias, "dbias", True)
    same(rows, d, "dy")
    same(w, dw, "dweight")
    same(w, db, "dbias")
    p.dy = d.data
    p.dweight = dw.data
    p.dbias = db.data
    run(<void *>kernels(w.itemsize).layer_norm_back, &p, p.n, 2 * p.columns)
    run_columns(<void *>kernels(w.itemsize).layer_norm_add, &p, p.n, p.columns, w.itemsize)
