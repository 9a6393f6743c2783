/* For test_kernels.c: every cell, one sequence and one unit at a time, in double. */
#ifndef TEST_KERNELS_REFERENCE_H
#define TEST_KERNELS_REFERENCE_H

#include "kernels_common.h"

enum { W_IH, W_HH, W_HR, B_IH, B_HH, X, H0, C0, TENSORS };
static const char *const tensor_name[TENSORS] = {"weight_ih", "weight_hh", "weight_hr", "bias_ih",
                                                 "bias_hh",   "x",         "h0",        "c0"};

/* One direction of one layer over one batch, and a loss: sums of what comes out, weighted. */
typedef struct {
    frn_cell cell;
    size_t gates, N, T, D, H, S;
    size_t *lengths;        /* (N,) longest first */
    double *value[TENSORS]; /* x is (N, T, D) in the order of walking; absent biases are zero */
    size_t count[TENSORS];
    double *mask;         /* (N, S) or NULL */
    double *dy, *dh, *dc; /* weights of y (N, T, S) and the final states (N, S), (N, H), or NULL */
    double *y, *h, *c;    /* results, of those shapes */
    double *work;
} model;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* One step of a sequence: h and c are replaced; answers how near a rectifier came to its kink. */
static double model_step(const model *m, const double *x, const double *mask, double *h, double *c)
{
    const size_t H = m->H, S = m->S, G = m->gates * H;
    double *seen = m->work, *in = seen + S, *rec = in + G, *out = rec + G, near = INFINITY;
    for (size_t j = 0; j < S; j++) seen[j] = mask ? h[j] * mask[j] : h[j];
    for (size_t j = 0; j < G; j++) {
        in[j] = m->value[B_IH][j] + dot(m->value[W_IH] + j * m->D, x, m->D);
        rec[j] = m->value[B_HH][j] + dot(m->value[W_HH] + j * S, seen, S);
    }
    if (m->cell == FRN_GRU) { /* the candidate's product sees the reset state */
        for (size_t j = 0; j < H; j++) out[j] = seen[j] * sigmoid(in[j] + rec[j]);
        for (size_t j = 2 * H; j < G; j++)
            rec[j] = m->value[B_HH][j] + dot(m->value[W_HH] + j * S, out, S);
    }
    for (size_t j = 0; j < H; j++) {
        const double a = in[j] + rec[j];
        double z, n;
        switch (m->cell) {
        case FRN_LSTM:
        case FRN_LSTM_PROJECTED:
            c[j] = sigmoid(in[H + j] + rec[H + j]) * c[j] +
                   sigmoid(a) * tanh(in[2 * H + j] + rec[2 * H + j]);
            out[j] = sigmoid(in[3 * H + j] + rec[3 * H + j]) * tanh(c[j]);
            break;
        case FRN_GRU:
        case FRN_GRU_AFTER:
            z = sigmoid(in[H + j] + rec[H + j]);
            n = m->cell == FRN_GRU ? rec[2 * H + j] : sigmoid(a) * rec[2 * H + j];
            out[j] = z * h[j] + (1 - z) * tanh(in[2 * H + j] + n);
            break;
        case FRN_RNN_TANH:
            out[j] = tanh(a);
            break;
        case FRN_RNN_RELU:
            out[j] = a > 0 ? a : 0;
            near = fmin(near, fabs(a));
            break;
        default:
            out[j] = sigmoid(a);
        }
    }
    for (size_t j = 0; j < S; j++)
        h[j] = m->cell == FRN_LSTM_PROJECTED ? dot(m->value[W_HR] + j * H, out, H) : out[j];
    return near;
}

/* Fills y, h and c, and answers how near a rectifier came to its kink. */
static double run_model(model *m)
{
    double near = INFINITY;
    memcpy(m->h, m->value[H0], m->count[H0] * sizeof(double));
    memcpy(m->c, m->value[C0], m->count[C0] * sizeof(double));
    for (size_t i = 0; i < m->N; i++)
        for (size_t t = 0; t < m->lengths[i]; t++) {
            double *h = m->h + i * m->S;
            near = fmin(near, model_step(m, m->value[X] + (i * m->T + t) * m->D,
                                         m->mask ? m->mask + i * m->S : NULL, h, m->c + i * m->H));
            memcpy(m->y + (i * m->T + t) * m->S, h, m->S * sizeof(double));
        }
    return near;
}

static double loss(model *m)
{
    double sum = 0;
    run_model(m);
    for (size_t i = 0; i < m->N && m->dy; i++)
        sum += dot(m->dy + i * m->T * m->S, m->y + i * m->T * m->S, m->lengths[i] * m->S);
    if (m->dh) sum += dot(m->dh, m->h, m->N * m->S);
    if (m->dc) sum += dot(m->dc, m->c, m->count[C0]);
    return sum;
}

/* The derivative of the loss along a direction of one tensor, by central differences of two steps:
 * twenty steps of time bend the loss too much for one. */
static double slope(model *m, int tensor, const double *direction)
{
    /* The rectifier's loss is a polynomial between kinks; a smaller step stays between them. */
    const double step = m->cell == FRN_RNN_RELU ? 1e-7 : 1e-4;
    const int moves[4] = {-2, -1, 1, 2}, weights[4] = {1, -8, 8, -1};
    const size_t n = m->count[tensor];
    double *saved = malloc((n + 1) * sizeof(double)), *at = m->value[tensor], sum = 0;
    if (!saved) return NAN;
    memcpy(saved, at, n * sizeof(double));
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < n; i++) at[i] = saved[i] + moves[k] * step * direction[i];
        sum += weights[k] * loss(m);
    }
    memcpy(at, saved, n * sizeof(double));
    free(saved);
    return sum / (12 * step);
}

#endif
