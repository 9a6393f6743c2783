/* The cells' formulas: what one step computes of the sums of one row's units.
 *
 * This is the source for processors and GPUs alike; whoever includes it says what the words mean:
 *
 *   V                          units of one row: a vector on a processor, one number on a GPU
 *   fma(a, b, c)               a * b + c, rounded once where the machine has that
 *   vset1(x) vzero()           a V of a number
 *   vsigmoid vtanh vrelu vstep of a V; vstep is the derivative of vrelu
 *   FORMULA                    what a formula is declared as
 *   FRN_SLOTS                  the most sums that a row has for a unit
 *
 * and + - * work on V.  Where a function waits for the result of another, the forward formula has a
 * second part, its output: a processor looks too few rows ahead to fill both waits, but fills each
 * if the first part is done for several rows and then the second.
 *
 * Slots of a row of sums:  LSTM i f g o.  GRU r z n.  GRU with the reset after: n r z m, where n is
 * the input's half of the candidate and m = W_hn h + b_hn the state's.  RNN: its one sum.
 * What is kept for the way back stands in the same slots: gates after their nonlinearity, and m.
 */
#ifndef FRN_FORMULAS_H
#define FRN_FORMULAS_H

/* Forward: sums in s become gates; states go from *_prev to h and c. */
typedef struct {
    V s[FRN_SLOTS];
    V h_prev, c_prev; /* what the previous step left */
    V gate;           /* a gate that the stage before has computed */
    V h, c;
} forward_unit;

/* Backward: gates in s become gradients of their sums.  dh comes in as the gradient of h; what
 * leaves in dh is the part that reaches the previous h without passing a product. */
typedef struct {
    V s[FRN_SLOTS];
    V h, h_prev, c, c_prev;
    V dh, dc;
} backward_unit;

typedef void forward_formula(forward_unit *u);
typedef void backward_formula(backward_unit *u);

/* What is to be done around a formula, beside reading its sums and writing h. */
enum {
    H_PREV = 1,   /* reads the previous h */
    CELL = 2,     /* reads and writes c */
    GATE = 4,     /* reads a gate of the stage before */
    H = 8,        /* backward: reads h */
    ENTRY = 16,   /* backward: where dh is made, from the product, what was carried, and dy */
    ONWARD = 32,  /* backward: adds its dh to the carry instead of replacing it */
    PROJECT = 64, /* backward: stores dh as the projection's operand, not as sums of gates */
};

/* Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000:
 * c = f c' + i g,  h = o tanh(c) */
FORMULA lstm_formula(forward_unit *u)
{
    u->s[0] = vsigmoid(u->s[0]);
    u->s[1] = vsigmoid(u->s[1]);
    u->s[2] = vtanh(u->s[2]);
    u->s[3] = vsigmoid(u->s[3]);
    u->c = fma(u->s[1], u->c_prev, u->s[0] * u->s[2]);
}

FORMULA lstm_output(forward_unit *u)
{
    u->h = u->s[3] * vtanh(u->c);
}

FORMULA lstm_back(backward_unit *u)
{
    const V one = vset1(1), i = u->s[0], f = u->s[1], g = u->s[2], o = u->s[3];
    const V t = vtanh(u->c);
    const V dc = fma(u->dh * o, one - t * t, u->dc);
    u->s[0] = dc * g * (i * (one - i));
    u->s[1] = dc * u->c_prev * (f * (one - f));
    u->s[2] = dc * i * (one - g * g);
    u->s[3] = u->dh * t * (o * (one - o));
    u->dc = dc * f;
    u->dh = vzero();
}

/* LSTM with projection (Sak et al. 2014), second stage: h = W_hr m */
FORMULA projection_formula(forward_unit *u)
{
    u->h = u->s[0];
}

/* Cho et al. 2014, the reset gate before the product: n = tanh(W_in x + W_hn (r h') + b),
 * h = z h' + (1 - z) n.  First stage: the gates, and r h' for the second. */
FORMULA gru_gates_formula(forward_unit *u)
{
    u->s[0] = vsigmoid(u->s[0]);
    u->s[1] = vsigmoid(u->s[1]);
    u->h = u->s[0] * u->h_prev;
}

FORMULA gru_formula(forward_unit *u)
{
    const V z = u->gate;
    u->s[0] = vtanh(u->s[0]);
    u->h = fma(z, u->h_prev, (vset1(1) - z) * u->s[0]);
}

FORMULA gru_back(backward_unit *u)
{
    const V one = vset1(1), z = u->s[0], n = u->s[1];
    u->s[0] = u->dh * (u->h_prev - n) * (z * (one - z));
    u->s[1] = u->dh * (one - z) * (one - n * n);
    u->dh = u->dh * z;
}

/* dh comes in as the gradient of r h' */
FORMULA gru_gates_back(backward_unit *u)
{
    const V r = u->s[0];
    u->s[0] = u->dh * u->h_prev * (r * (vset1(1) - r));
    u->dh = u->dh * r;
}

/* The reset gate after the product, as in cuDNN: n = tanh(W_in x + b_in + r (W_hn h' + b_hn)) */
FORMULA gru_after_formula(forward_unit *u)
{
    u->s[1] = vsigmoid(u->s[1]);
    u->s[2] = vsigmoid(u->s[2]);
    u->s[0] = fma(u->s[1], u->s[3], u->s[0]);
}

FORMULA gru_after_output(forward_unit *u)
{
    const V z = u->s[2], n = vtanh(u->s[0]);
    u->s[0] = n;
    u->h = fma(z, u->h_prev, (vset1(1) - z) * n);
}

FORMULA gru_after_back(backward_unit *u)
{
    const V one = vset1(1), n = u->s[0], r = u->s[1], z = u->s[2], m = u->s[3];
    const V dn = u->dh * (one - z) * (one - n * n);
    u->s[0] = dn;
    u->s[1] = dn * m * (r * (one - r));
    u->s[2] = u->dh * (u->h_prev - n) * (z * (one - z));
    u->s[3] = dn * r;
    u->dh = u->dh * z;
}

/* Elman 1990: h = f(W x + U h' + b) */
FORMULA rnn_tanh_formula(forward_unit *u)
{
    u->h = vtanh(u->s[0]);
}
FORMULA rnn_relu_formula(forward_unit *u)
{
    u->h = vrelu(u->s[0]);
}
FORMULA rnn_sigmoid_formula(forward_unit *u)
{
    u->h = vsigmoid(u->s[0]);
}

FORMULA rnn_tanh_back(backward_unit *u)
{
    u->s[0] = u->dh * (vset1(1) - u->h * u->h);
    u->dh = vzero();
}

FORMULA rnn_relu_back(backward_unit *u)
{
    u->s[0] = u->dh * vstep(u->h);
    u->dh = vzero();
}

FORMULA rnn_sigmoid_back(backward_unit *u)
{
    u->s[0] = u->dh * (u->h * (vset1(1) - u->h));
    u->dh = vzero();
}

/* A gradient that only travels on: the projected h, and the initial state */
FORMULA carry_back(backward_unit *u)
{
    (void)u;
}

#endif
