"""Forward and backward over one layer in one or two directions, by the kernels.

Time is walked in regions of a few milliseconds. Within a region the threads share the work in one
of two ways. By sequences: tasks own some and walk alone, so that nobody waits for anybody. By units:
all threads walk all sequences side by side, each computing its share of the units, and meet after
every stage; a weight is then read by one core only, which pays where there are few rows for many
weights. Neither shows in any bit of the result.
"""

from libc.stdint cimport int64_t

from fastrnn._kernels cimport frn_barrier, frn_kernels, frn_now_ns, frn_part, frn_pass
from fastrnn._memory cimport Block, FreeList
from fastrnn._native cimport by_units, calm, check_signals, parallel, region_ended, region_operations, team
from fastrnn._products cimport threads_for
from fastrnn._walk cimport Walk, take


cdef enum:
    CACHED_BYTES = 1 << 19  # weights that stay in L2 beside a task's rows
    FAR_BYTES = 1 << 24  # weights that come from memory
    TASKS_PER_THREAD = 4
    LATE_NS = 200 * 1000  # by which tasks of equal work do not differ unless a core was taken away
    MOST_WALKS = 2
    MOST_SHARE = 128  # threads that one direction is split for
    MOST_TASKS = MOST_WALKS * MOST_SHARE * TASKS_PER_THREAD


cdef struct Whole:
    const frn_kernels *kernels
    const frn_pass *p


cdef struct Task:
    Whole *whole
    size_t first, last  # sequences
    int64_t ended  # when


cdef struct Region:
    Whole walks[MOST_WALKS]
    frn_barrier barriers[MOST_WALKS]
    size_t n_walks
    Task tasks[MOST_TASKS]  # by sequences
    size_t n_tasks
    size_t start, stop  # steps
    bint backward
    char *scratch
    size_t scratch_bytes  # per worker


cdef void walk(const Region *region, const Whole *whole, frn_part *part, int worker) noexcept nogil:
    cdef void *scratch = region.scratch + worker * region.scratch_bytes
    part.start, part.stop, part.turn = region.start, region.stop, 0
    if region.backward:
        whole.kernels.backward(whole.p, part, scratch)
    else:
        whole.kernels.forward(whole.p, part, scratch)


cdef void walk_rows(void *ctx, size_t index, int worker) noexcept nogil:
    cdef Region *region = <Region *>ctx
    cdef Task *task = &region.tasks[index]
    cdef frn_part part
    part.first, part.last = task.first, task.last
    part.member, part.members = 0, 1
    walk(region, task.whole, &part, worker)
    task.ended = frn_now_ns()


cdef void walk_units(void *ctx, int member, int members) noexcept nogil:
    """The members are dealt out to the walks; one that is alone takes all."""
    cdef Region *region = <Region *>ctx
    cdef frn_part part
    cdef int i, first, last, n = <int>region.n_walks
    for i in range(n):
        first, last = 0, 1
        if members >= n:
            first, last = i * members // n, (i + 1) * members // n
        if member < first or member >= last:
            continue
        part.first, part.last = 0, region.walks[i].p.n
        part.member, part.members, part.barrier = member - first, last - first, &region.barriers[i]
        walk(region, &region.walks[i], &part, member)


cdef double step_operations(list walks) except -1:
    """Of one step of one sequence, all directions."""
    cdef double operations = 0
    cdef Walk walk
    for walk in walks:
        operations += 2.0 * walk.info.slots * walk.p.units * (walk.p.inputs + walk.p.width)
    return operations


cdef size_t recurrent_bytes(Walk walk) noexcept:
    return walk.p.units * walk.p.width * walk.info.slots * walk.kernels.itemsize


cdef double least_operations(Walk walk, int n_threads, bint backward) noexcept:
    """Of a region.  Where weights come from memory, it has several steps, whose inputs are multiplied together."""
    cdef double least = region_operations()
    if not backward and recurrent_bytes(walk) > FAR_BYTES:
        least = max(least, 2e9)
    return n_threads * least


cdef size_t tasks_of(Walk walk, size_t alive, size_t share) noexcept:
    """How many tasks to make of a walk's sequences, with a share of so many threads.

    One per thread reads the weights least often. Where they stay in L2 anyway, and tiles stay high,
    there are more, so that a slowed core does less; and wherever one is slowed.
    """
    cdef size_t tasks = min(share, alive, <size_t>MOST_SHARE), pieces = 1
    cdef size_t rows = 2 * walk.kernels.tile_rows  # of a task, at least
    if share > 1 and not calm():
        pieces = TASKS_PER_THREAD
        rows = (rows + 2) // 3
    elif share > 1 and recurrent_bytes(walk) <= CACHED_BYTES:
        pieces = TASKS_PER_THREAD
    while pieces > 1 and alive < tasks * pieces * rows:
        pieces //= 2
    return tasks * pieces


cdef int split(list walks, Region *region, int n_threads) except -1:
    """The region's rows into tasks of about equal work, of neighboring sequences.

    The longest come first, so those that are alive at any of its steps are the first of all.
    """
    cdef Walk walk
    cdef size_t i, tasks, task, first, last, alive, rows, done
    region.n_tasks = 0
    for i, walk in enumerate(walks):
        alive = walk.p.sizes[region.start]
        rows = walk.p.base[region.stop] - walk.p.base[region.start]
        tasks = tasks_of(walk, alive, (n_threads + region.n_walks - 1) // region.n_walks)
        first = done = 0
        for task in range(tasks):
            last = first
            while last < alive and (task == tasks - 1 or done * tasks < rows * (task + 1)):
                done += min(<size_t>walk.lengths[walk.order[last]], region.stop) - region.start
                last += 1
            region.tasks[region.n_tasks] = Task(&region.walks[i], first, last, 0)
            region.n_tasks += last > first
            first = last
    return 0


cdef size_t most_scratch(const Region *region, bint units) noexcept:
    """Bytes that a worker needs at most, a whole number of cache lines."""
    cdef size_t i, nbytes = 0
    cdef const Task *task
    cdef const Whole *whole
    if units:
        for i in range(region.n_walks):
            whole = &region.walks[i]
            nbytes = max(nbytes, whole.kernels.walk_bytes(whole.p, whole.p.n))
    else:
        for i in range(region.n_tasks):
            task = &region.tasks[i]
            nbytes = max(nbytes, task.whole.kernels.walk_bytes(task.whole.p, task.last - task.first))
    return (nbytes + 63) // 64 * 64


cdef void walk_apart(Region *region, int n_threads, int workers) noexcept nogil:
    """Walk the region by sequences; tasks of equal work, one for each, should end together."""
    cdef int64_t start = frn_now_ns(), first, last
    cdef size_t i
    parallel(walk_rows, region, region.n_tasks, workers)
    if n_threads == 1 or region.n_tasks != <size_t>n_threads:
        return
    first = last = region.tasks[0].ended
    for i in range(1, region.n_tasks):
        first = min(first, region.tasks[i].ended)
        last = max(last, region.tasks[i].ended)
    region_ended(last - first > max((first - start) // 4, <int64_t>LATE_NS))


cdef int run(list walks, bint backward) except -1:
    cdef Walk walk = walks[0]
    if walk.total == 0:
        return 0
    cdef const int64_t *sizes = walk.p.sizes
    cdef double operations = step_operations(walks), limit, done = 0
    cdef int workers, n_threads = threads_for(operations * walk.total, walk.p.blas)
    cdef size_t i, step, steps = walk.p.steps
    cdef bint together, units = walk.p.blas == NULL and by_units(
        walk.p.n, recurrent_bytes(walk), n_threads // len(walks), walk.kernels, walk.p.cell
    )
    cdef Region region
    cdef FreeList memory = walk.weights.memory
    cdef Block scratch
    region.n_walks = len(walks)
    region.backward = backward
    for i, walk in enumerate(walks):
        region.walks[i].kernels, region.walks[i].p = walk.kernels, &walk.p
    region.start = region.stop = steps if backward else 0
    limit = least_operations(walk, n_threads, backward)
    for step in range(steps):
        done += operations * sizes[steps - 1 - step if backward else step]
        if backward:
            region.start -= 1
        else:
            region.stop += 1
        if done < limit and step < steps - 1:
            continue
        together = units and calm()
        workers = n_threads
        if not together:
            split(walks, &region, n_threads)
            workers = min(n_threads, <int>region.n_tasks)
        region.scratch_bytes = most_scratch(&region, together)
        scratch = None  # that of the last region may serve again
        scratch = take(memory, int(region.scratch_bytes) * workers)
        region.scratch = scratch.ptr
        with nogil:
            if together:
                units = team(walk_units, &region, region.barriers, region.n_walks, n_threads, done)
            else:
                walk_apart(&region, n_threads, workers)
        check_signals()
        region.start = region.stop = region.start if backward else region.stop
        limit = least_operations(walk, n_threads, backward)
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
