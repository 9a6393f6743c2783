"""Weights of a recurrence in the form that the kernels multiply with.

Packing costs a pass over the weights; a snapshot is kept and made again only when a hash of the
weights' bytes says that they have changed. After an optimizer's step they are packed without a look:
the step's number takes the hash's place, and fits none that the next call finds.
"""

cimport cython
from libc.limits cimport INT_MAX
from libc.string cimport memset

from fastrnn._kernels cimport FRN_SLOTS, frn_axis
from fastrnn._memory cimport FreeList
from fastrnn._native cimport kernels as kernels_of
from fastrnn._products cimport as_matrix, blas_engine, hash_matrix, pack, simple_axis

# In the order of frn_cell.
CELLS = ("lstm", "lstm_projected", "gru", "gru_after", "rnn_tanh", "rnn_relu", "rnn_sigmoid")


cdef inline size_t padded_to(size_t n, size_t lanes) noexcept nogil:
    return (n + lanes - 1) // lanes * lanes


cdef frn_axis gate_axis(const frn_cell_info *info, int first, int slots, size_t units, size_t columns,
                        size_t lanes) noexcept nogil:
    """Units of the gates of some slots: rows of a weight (G, columns)."""
    cdef frn_axis axis = simple_axis(units, columns)
    cdef int i
    axis.blocks = slots
    axis.padded = padded_to(units, lanes)
    for i in range(slots):
        axis.offset[i] = info.gate_of[first + i] * units * columns
    return axis


cdef void add_bias(const char *source, int gate, size_t units, int itemsize, char *to) noexcept nogil:
    cdef size_t i
    for i in range(units):
        if itemsize == 4:
            (<float *>to)[i] += (<const float *>source)[gate * units + i]
        else:
            (<double *>to)[i] += (<const double *>source)[gate * units + i]


@cython.final
cdef class Snapshot:
    pass


@cython.final
cdef class Weights:
    """What the native engine keeps of one direction of one layer.

    Parameters
    ----------
    cell : str
        One of `CELLS`.
    params, grads : dict of str to ndarray
        By local name, C-contiguous; they stay where they are.
    """

    def __init__(self, str cell, params, grads):
        self.cell = <frn_cell><int>CELLS.index(cell)
        self.params = params
        self.grads = grads
        self.memory = FreeList()
        cdef const frn_cell_info *info = &kernels_of(4).cells[<int>self.cell]
        cdef Matrix x = as_matrix(params["weight_ih"], "weight_ih"), h = as_matrix(params["weight_hh"], "weight_hh")
        self.itemsize = x.itemsize
        self.inputs = x.columns
        self.units = x.rows // info.gates
        self.width = h.columns
        for name in params:
            h = self.matrix(name)

    def __reduce__(self):
        # A copy belongs to other arrays: it is made anew when it is needed.
        return type(None), ()

    cdef Matrix matrix(self, str name, bint gradient=False) except *:
        cdef Matrix m = as_matrix((self.grads if gradient else self.params)[name], name, gradient)
        if m.itemsize != self.itemsize or (m.rows > 1 and m.lead != <ptrdiff_t>m.columns):
            raise ValueError(f"{name}: expected a C-contiguous array of the layer's dtype, got another")
        return m

    def freeze(self):
        """Pack now, and trust from now on that the parameters do not change."""
        cdef const frn_kernels *table = kernels_of(self.itemsize)
        self.frozen = False
        self.snapshot(table, blas_engine(self.itemsize))
        self.frozen = True

    def stepped(self):
        """Hear that the parameters have changed, all of them: the next call packs without a hash."""
        self.steps += 1
        self.changed = True

    cdef Snapshot snapshot(self, const frn_kernels *kernels, const frn_blas *blas):
        """The weights packed for the forward loop; may be used by many calls at once."""
        # Nothing is locked while weights are packed: at worst two calls that come first both pack.
        cdef Snapshot held
        cdef uint64_t hash = 0
        with cython.critical_section(self):
            held = self.forward
        if self.changed and not self.frozen:
            self.changed = False
            hash = self.steps
        elif not self.frozen:
            hash = self.hash()
        elif held is not None:
            hash = held.hash
        if held is None or held.kernels != kernels or held.blas != blas or held.hash != hash:
            held = None
            with cython.critical_section(self):
                self.forward = None  # its memory serves again, unless a call still needs it
            held = self.pack(kernels, blas, False, hash or self.hash())
            with cython.critical_section(self):
                self.forward = held
        return held

    cdef Snapshot backward_of(self, Snapshot forward):
        """The same weights packed for the backward loop: they have not changed since `forward` was made or found."""
        cdef Snapshot held
        with cython.critical_section(self):
            held = self.backward
        if held is None or held.kernels != forward.kernels or held.blas != forward.blas or held.hash != forward.hash:
            held = None
            with cython.critical_section(self):
                self.backward = None
            held = self.pack(forward.kernels, forward.blas, True, forward.hash)
            with cython.critical_section(self):
                self.backward = held
        return held

    cdef uint64_t hash(self) except? 0:
        cdef uint64_t value = 0
        cdef Matrix m
        for name in self.params:
            m = self.matrix(name)
            value = hash_matrix(&m, value, self.memory)
        return value

    cdef Snapshot pack(self, const frn_kernels *kernels, const frn_blas *blas, bint backward, uint64_t hash):
        cdef const frn_cell_info *info = &kernels.cells[<int>self.cell]
        cdef size_t H = self.units, S = self.width, D = self.inputs, lanes = kernels.lanes
        cdef Snapshot made = Snapshot.__new__(Snapshot)
        if blas != NULL and max(D, padded_to(H, lanes) * info.slots, S) > INT_MAX:
            raise ValueError(f"hidden_size: expected G and D below 2**31 for the BLAS engine, got H = {H}, D = {D}")
        # Axes: [0] the input product, [1 + stage] the recurrent ones.
        cdef frn_axis k[3]
        cdef frn_axis units[3]
        cdef int vectors[3]
        cdef const void *source[3]
        cdef int stage, i
        cdef bint projects
        for i in range(info.stages + 1):
            stage = i - 1
            projects = info.projected and stage == 1
            if i == 0:
                units[0] = gate_axis(info, 0, info.x_slots, H, D, lanes)
                k[0] = simple_axis(D, 1)
                vectors[0] = FRN_SLOTS // info.x_slots
                source[0] = self.matrix("weight_ih").data
            elif projects:
                units[i] = simple_axis(S, H)
                k[i] = simple_axis(H, 1)
                vectors[i] = FRN_SLOTS
                source[i] = self.matrix("weight_hr").data
            else:
                units[i] = gate_axis(info, info.stage[stage].first, info.stage[stage].slots, H, S, lanes)
                k[i] = simple_axis(S, 1)
                vectors[i] = FRN_SLOTS // info.stage[stage].tile_slots
                source[i] = self.matrix("weight_hh").data
            if backward:
                k[i], units[i] = units[i], k[i]
                if projects:
                    k[i].padded = k[i].n  # its operand is the gradient of h: P columns
                vectors[i] = FRN_SLOTS
        cdef size_t offset[3]
        cdef size_t total = 0
        for i in range(info.stages + 1):
            offset[i] = total
            total += padded_to(kernels.packed_bytes(&k[i], &units[i], vectors[i]), 64)
        cdef size_t bias = total, bias_bytes = info.slots * padded_to(H, lanes) * kernels.itemsize
        made.memory = self.memory.take(total + bias_bytes)
        made.kernels = kernels
        made.blas = blas
        made.hash = hash
        cdef frn_packed packed
        for i in range(info.stages + 1):
            with nogil:
                packed = pack(kernels, blas != NULL, source[i], &k[i], &units[i], vectors[i], made.memory.ptr + offset[i])
            if i == 0:
                made.x = packed
            else:
                made.h[i - 1] = packed
        made.bias = made.memory.ptr + bias
        memset(made.bias, 0, bias_bytes)
        if "bias_ih" in self.params:
            self.sum_biases(info, <char *>made.bias, padded_to(H, lanes) * kernels.itemsize)
        return made

    cdef int sum_biases(self, const frn_cell_info *info, char *to, size_t slot_bytes) except -1:
        """Where the sum of each slot starts: b_ih, b_hh, or b_ih + b_hh, as products reach it."""
        cdef Matrix b_ih = self.matrix("bias_ih"), b_hh = self.matrix("bias_hh")
        cdef int slot, stage
        for slot in range(info.x_slots):
            add_bias(b_ih.data, info.gate_of[slot], self.units, self.itemsize, to + slot * slot_bytes)
        for stage in range(info.stages):
            if info.projected and stage == 1:
                break
            for slot in range(info.stage[stage].first, info.stage[stage].first + info.stage[stage].slots):
                add_bias(b_hh.data, info.gate_of[slot], self.units, self.itemsize, to + slot * slot_bytes)
        return 0
