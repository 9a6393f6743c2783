"""Forward and backward over one layer in one or two directions, by the kernels.

Time is walked in regions of a few milliseconds; within a region, tasks own sequences and walk
alone. How the sequences are split shows in no bit of the result.
"""

from fastrnn._kernels cimport frn_kernels, frn_pass
from fastrnn._memory cimport Block
from fastrnn._native cimport check_signals, parallel
from fastrnn._products cimport threads_for
from fastrnn._walk cimport Walk, take


cdef double REGION_OPERATIONS = 5e8  # per thread: a few milliseconds
cdef enum:
    CACHED_BYTES = 1 << 19  # weights that stay in L2 beside a task's rows
    TASKS_PER_THREAD = 4
    MOST_SHARE = 128  # threads that one direction is split for
    MOST_PARTS = 2 * MOST_SHARE * TASKS_PER_THREAD


cdef struct Part:
    const frn_kernels *kernels
    const frn_pass *p
    size_t first, last  # sequences


cdef struct Region:
    Part parts[MOST_PARTS]
    size_t n_parts
    size_t start, stop  # steps
    bint backward
    char *scratch
    size_t scratch_bytes  # per worker


cdef void walk_task(void *ctx, size_t index, int worker) noexcept nogil:
    cdef Region *region = <Region *>ctx
    cdef Part *part = &region.parts[index]
    cdef void *scratch = region.scratch + worker * region.scratch_bytes
    if region.backward:
        part.kernels.backward(part.p, part.first, part.last, region.start, region.stop, scratch)
    else:
        part.kernels.forward(part.p, part.first, part.last, region.start, region.stop, scratch)


cdef double step_operations(list walks) except -1:
    """Of one step of one sequence, all directions."""
    cdef double operations = 0
    cdef Walk walk
    for walk in walks:
        operations += 2.0 * walk.info.slots * walk.p.units * (walk.p.inputs + walk.p.width)
    return operations


cdef size_t tasks_of(Walk walk, size_t share) noexcept:
    """How many tasks to make of a walk that has a share of so many threads.

    One per thread reads the weights least often. Where they stay in L2 anyway, and tiles stay high,
    there are more, so that a slowed core does less.
    """
    cdef size_t weights = walk.p.units * walk.p.width * walk.info.slots * walk.kernels.itemsize
    cdef size_t tasks = min(share, walk.p.n, <size_t>MOST_SHARE)
    cdef size_t pieces = TASKS_PER_THREAD if share > 1 and weights <= CACHED_BYTES else 1
    while pieces > 1 and walk.p.n < tasks * pieces * 2 * walk.kernels.tile_rows:
        pieces //= 2
    return tasks * pieces


cdef int split(list walks, Region *region, int n_threads) except -1:
    """Sequences into tasks of about equal work."""
    cdef Walk walk
    cdef size_t tasks, task, first, last, nbytes, n_walks = len(walks)
    cdef double done
    region.n_parts = region.scratch_bytes = 0
    for walk in walks:
        tasks = tasks_of(walk, (n_threads + n_walks - 1) // n_walks)
        first = 0
        done = 0
        for task in range(tasks):
            last = first
            while last < walk.p.n and (task == tasks - 1 or done < <double>walk.total * (task + 1) / tasks):
                done += walk.lengths[walk.order[last]]
                last += 1
            region.parts[region.n_parts] = Part(walk.kernels, &walk.p, first, last)
            region.n_parts += last > first
            nbytes = walk.kernels.walk_bytes(&walk.p, last - first)
            region.scratch_bytes = max(region.scratch_bytes, (nbytes + 63) // 64 * 64)
            first = last
    return 0


cdef int run(list walks, bint backward) except -1:
    cdef Walk first = walks[0]
    if first.total == 0:
        return 0
    cdef double operations = step_operations(walks)
    cdef int n_threads = threads_for(operations * first.total, first.p.blas)
    cdef double limit = REGION_OPERATIONS * n_threads, done = 0
    cdef size_t step, steps = first.p.steps
    cdef Region region
    split(walks, &region, n_threads)
    n_threads = min(n_threads, <int>region.n_parts)  # scratch is for those that find a task
    region.backward = backward
    cdef Block scratch = take(first.weights.memory, int(region.scratch_bytes) * n_threads)
    region.scratch = scratch.ptr
    region.start = region.stop = steps if backward else 0
    with nogil:
        for step in range(steps):
            done += operations * first.p.sizes[steps - 1 - step if backward else step]
            if backward:
                region.start -= 1
            else:
                region.stop += 1
            if done >= limit or step == steps - 1:
                parallel(walk_task, &region, region.n_parts, n_threads)
                check_signals()
                region.start = region.stop = region.start if backward else region.stop
                done = 0
    return 0


def forward(list walks not None):
    """Fill every walk's y; walks are of one batch."""
    run(walks, False)


def backward(list walks not None, list dy not None, list dstate not None, dx):
    """Add the gradients of the weights, fill dx, and return the gradients of the initial states.

    Parameters
    ----------
    walks : list of Walk
        Of one batch; used up by this.
    dy : list of container or None, one per walk
    dstate : list of (tuple of (ndarray or None) or None), one per walk
    dx : container or None
    """
    cdef Walk walk
    cdef size_t i
    for i, walk in enumerate(walks):
        walk.begin_backward(dy[i], dstate[i])
    run(walks, True)
    for i, walk in enumerate(walks):
        walk.weight_gradients()
        if dx is not None:
            walk.input_gradient(dx, i > 0)
    return [(<Walk>walk).initial_gradient() for walk in walks]
