/* One step of every cell on a GPU: a thread for each unit of each row.
 *
 * The formulas are the processor's own (formulas.h); here is what epilogues.h is there: which rows
 * a kernel reads and writes.  No thread waits for another, so that the same kernels run on a
 * processor, one number after the other, where tests compare both.
 *
 * Rows lie one after the other: of a state, `units` numbers; of z, as many for each slot.  A
 * pointer that a cell does not need is NULL.  FRN_DOUBLE (0 or 1) gives the type of the numbers.
 */
#if FRN_DOUBLE
typedef double V;
#else
typedef float V;
#endif

#define INLINE  static __device__ __forceinline__
#define FORMULA INLINE void

enum { FRN_SLOTS = 4 };

INLINE V vset1(int x)
{
    return (V)x;
}
INLINE V vzero()
{
    return (V)0;
}
INLINE V vsigmoid(V x)
{
    return (V)1 / ((V)1 + exp(-x));
}
INLINE V vtanh(V x)
{
    return tanh(x);
}
INLINE V vrelu(V x)
{
    return x <= (V)0 ? (V)0 : x; /* NaN stays NaN, here and in vstep */
}
INLINE V vstep(V x)
{
    return x > (V)0 ? (V)1 : vrelu(x);
}

#include "formulas.h"

typedef long long count;

FORMULA no_output(forward_unit *u)
{
    (void)u;
}

/* z: the sums of the step's rows, the recurrent product among them; bias: what is still to be added
 * to them, slot by slot.  masked: the rows of the next step, whose sequences go on, times mask. */
#define FORWARD_ARGUMENTS                                                                       \
    count rows, count units, V *z, const V *bias, const V *h_prev, const V *c_prev, V *c, V *h, \
        const V *mask, V *masked, count masked_rows

template <int all, int first, int slots, int gate, int flags, forward_formula *formula,
          forward_formula *output>
INLINE void forward_body(FORWARD_ARGUMENTS)
{
    const count k = (count)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= rows * units) return;
    const count row = k / units, unit = k - row * units;
    V *const sums = z + (row * all + first) * units + unit;
    forward_unit u;
#pragma unroll
    for (int s = 0; s < slots; s++)
        u.s[s] = sums[s * units] + (bias ? bias[(first + s) * units + unit] : vzero());
    if (flags & H_PREV) u.h_prev = h_prev[k];
    if (flags & CELL) u.c_prev = c_prev[k];
    if (flags & GATE) u.gate = z[(row * all + gate) * units + unit];
    formula(&u);
    output(&u);
    if (flags & CELL) c[k] = u.c;
    h[k] = u.h;
    if (masked && row < masked_rows) masked[k] = u.h * mask[k];
#pragma unroll
    for (int s = 0; s < slots; s++) sums[s * units] = u.s[s];
}

/* z: gates, which become the gradients of their sums.  product: what the step after, or the stage
 * after, sends back through its weights; rows from product_rows on have none. */
#define BACKWARD_ARGUMENTS                                                              \
    count rows, count units, V *z, const V *product, count product_rows, const V *mask, \
        const V *dy, const V *h, const V *h_prev, const V *c, const V *c_prev, V *dh, V *dc, V *dp

template <int all, int first, int slots, int flags, backward_formula *formula>
INLINE void backward_body(BACKWARD_ARGUMENTS)
{
    const count k = (count)blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= rows * units) return;
    const count row = k / units, unit = k - row * units;
    V *const sums = z + (row * all + first) * units + unit;
    const V seen = mask ? mask[k] : vset1(1);
    backward_unit u;
    u.dh = row < product_rows ? product[k] : vzero();
    if (flags & ENTRY) {
        u.dh = fma(u.dh, seen, dh[k]);
        if (dy) u.dh = u.dh + dy[k];
    }
#pragma unroll
    for (int s = 0; s < slots; s++) u.s[s] = sums[s * units];
    if (flags & H) u.h = h[k];
    if (flags & H_PREV) u.h_prev = h_prev[k];
    if (flags & CELL) {
        u.c = c[k];
        u.c_prev = c_prev[k];
        u.dc = dc[k];
    }
    formula(&u);
#pragma unroll
    for (int s = 0; s < slots; s++) sums[s * units] = u.s[s];
    if (flags & CELL) dc[k] = u.dc;
    if (flags & PROJECT) dp[k] = u.dh, u.dh = vzero();
    if (flags & ONWARD)
        dh[k] = fma(u.dh, seen, dh[k]);
    else if (flags & ENTRY)
        dh[k] = u.dh;
}

#define FORWARD(name, all, first, slots, gate, flags, formula, output)              \
    extern "C" __global__ void name(FORWARD_ARGUMENTS)                              \
    {                                                                               \
        forward_body<all, first, slots, gate, flags, formula, output>(              \
            rows, units, z, bias, h_prev, c_prev, c, h, mask, masked, masked_rows); \
    }
#define BACKWARD(name, all, first, slots, flags, formula)                                       \
    extern "C" __global__ void name(BACKWARD_ARGUMENTS)                                         \
    {                                                                                           \
        backward_body<all, first, slots, flags, formula>(                                       \
            rows, units, z, product, product_rows, mask, dy, h, h_prev, c, c_prev, dh, dc, dp); \
    }

FORWARD(lstm_forward, 4, 0, 4, 0, CELL, lstm_formula, lstm_output)
FORWARD(projection_forward, 1, 0, 1, 0, 0, projection_formula, no_output)
FORWARD(gru_gates_forward, 3, 0, 2, 0, H_PREV, gru_gates_formula, no_output)
FORWARD(gru_forward, 3, 2, 1, 1, H_PREV | GATE, gru_formula, no_output)
FORWARD(gru_after_forward, 4, 0, 4, 0, H_PREV, gru_after_formula, gru_after_output)
FORWARD(rnn_tanh_forward, 1, 0, 1, 0, 0, rnn_tanh_formula, no_output)
FORWARD(rnn_relu_forward, 1, 0, 1, 0, 0, rnn_relu_formula, no_output)
FORWARD(rnn_sigmoid_forward, 1, 0, 1, 0, 0, rnn_sigmoid_formula, no_output)

BACKWARD(lstm_backward, 4, 0, 4, ENTRY | CELL, lstm_back)
BACKWARD(projected_lstm_backward, 4, 0, 4, CELL, lstm_back)
BACKWARD(projection_backward, 0, 0, 0, ENTRY | PROJECT, carry_back)
BACKWARD(gru_backward, 3, 1, 2, ENTRY | H_PREV, gru_back)
BACKWARD(gru_gates_backward, 3, 0, 1, ONWARD | H_PREV, gru_gates_back)
BACKWARD(gru_after_backward, 4, 0, 4, ENTRY | H_PREV, gru_after_back)
BACKWARD(rnn_tanh_backward, 1, 0, 1, ENTRY | H, rnn_tanh_back)
BACKWARD(rnn_relu_backward, 1, 0, 1, ENTRY | H, rnn_relu_back)
BACKWARD(rnn_sigmoid_backward, 1, 0, 1, ENTRY | H, rnn_sigmoid_back)
BACKWARD(state_backward, 0, 0, 0, ENTRY, carry_back)
