/* For test_kernels.c: a walk's gradients as src/_recurrence.pyx gathers them, against differences
 * of the model's loss. */
#ifndef TEST_KERNELS_GRADIENT_H
#define TEST_KERNELS_GRADIENT_H

#include "kernels_walk.h"

enum { OUTER_ROWS = 768, GROUP_ROWS = 96 };

static void run_product(const frn_product *p)
{
    for (size_t first = 0; first < p->rows; first += GROUP_ROWS) {
        const size_t last = first + GROUP_ROWS < p->rows ? first + GROUP_ROWS : p->rows;
        fence *before = fences;
        kernels->product(p, first, last, 0, p->w.units,
                         fenced(up_to(kernels->product_bytes(p, GROUP_ROWS), 64)));
        release(before);
    }
}

static void run_outer(frn_outer o, size_t block)
{
    const fence *before = fences;
    const size_t rows = o.rows;
    o.rows = rows < block ? rows : block;
    o.packed_x = fenced(kernels->outer_bytes(&o));
    for (size_t row = 0; row < rows;
         row += o.rows, o.d = (const real *)o.d + o.rows * o.ldd, o.x += o.rows) {
        o.rows = rows - row < block ? rows - row : block;
        for (size_t task = kernels->outer_pack_tasks(&o); task-- > 0;)
            kernels->outer_pack(&o, task);
        for (size_t task = kernels->outer_tasks(&o); task-- > 0;) kernels->outer(&o, task);
    }
    release(before);
}

/* Addresses of all rows in step order. */
static const void **list_rows(const walk *w, const frn_rows *rows)
{
    const void **list = fenced(w->total * sizeof *list), **to = list;
    for (size_t t = 0; t < w->m.T; t++)
        for (size_t i = 0; i < (size_t)w->sizes[t]; i++) *to++ = row_at(rows, t, i);
    return list;
}

/* Addresses of all rows that a stage's recurrent product has multiplied. */
static const void **list_operands(const walk *w, int stage)
{
    const void **list = fenced(w->total * sizeof *list), **to = list;
    for (size_t t = 0; t < w->m.T; t++)
        for (size_t i = 0; i < (size_t)w->sizes[t]; i++) {
            const size_t row = (size_t)w->base[t] + i;
            if (w->info->stage[stage].kept)
                *to++ = (real *)w->p.kept + row * w->Hp;
            else if (w->masked)
                *to++ = (real *)w->p.masked + row * w->Sp;
            else
                *to++ = t ? row_at(&w->p.y, t - 1, i) : w->p.h0[i];
        }
    return list;
}

static void set_slots(const walk *w, frn_outer *o, int first, int slots)
{
    o->blocks = slots;
    for (int i = 0; i < slots; i++) {
        o->offset[i] = (first + i) * w->Hp;
        o->row[i] = w->info->gate_of[first + i] * w->m.H;
    }
}

static void weight_gradients(walk *w)
{
    for (int k = 0; k < X; k++) { /* they are added to */
        w->grad[k] = fenced_reals(w->m.count[k]);
        for (size_t i = 0; i < w->m.count[k]; i++) w->grad[k][i] = (real)0.5;
    }
    frn_outer o = {.rows = w->total,
                   .d = w->p.z,
                   .ldd = w->info->slots * w->Hp,
                   .x = list_rows(w, &w->p.x),
                   .columns = w->m.D,
                   .n = w->m.H,
                   .dw = w->grad[W_IH],
                   .db = w->biased ? w->grad[B_IH] : NULL,
                   .blas = w->p.blas};
    set_slots(w, &o, 0, w->info->x_slots);
    run_outer(o, OUTER_ROWS);
    for (int stage = 0; stage < w->info->stages; stage++) {
        o.x = list_operands(w, stage);
        if (w->info->projected && stage == 1) {
            o.d = w->p.dp;
            o.ldd = w->Sp;
            o.n = w->m.S;
            o.columns = w->m.H;
            o.blocks = 1;
            o.offset[0] = o.row[0] = 0;
            o.dw = w->grad[W_HR];
            o.db = NULL;
        } else {
            o.columns = w->m.S;
            set_slots(w, &o, w->info->stage[stage].first, w->info->stage[stage].slots);
            o.dw = w->grad[W_HH];
            o.db = w->biased ? w->grad[B_HH] : NULL;
        }
        run_outer(o, OUTER_ROWS);
    }
    for (int k = 0; k < X; k++)
        for (size_t i = 0; i < w->m.count[k]; i++) w->slope[k][i] = (double)w->grad[k][i] - 0.5;
}

static void input_gradient(walk *w)
{
    const frn_rows dx = place(w, w->m.D, NULL);
    const void **z = fenced(w->total * sizeof *z);
    for (size_t i = 0; i < w->total; i++) z[i] = (real *)w->p.z + i * w->info->slots * w->Hp;
    const frn_product product = {.rows = w->total,
                                 .a = z,
                                 .w = w->p.w_x_back,
                                 .out = (void *const *)list_rows(w, &dx),
                                 .blas = w->p.blas};
    run_product(&product);
    for (size_t i = 0; i < w->m.N; i++)
        for (size_t t = 0; t < w->m.lengths[i]; t++)
            for (size_t j = 0; j < w->m.D; j++)
                w->slope[X][(i * w->m.T + t) * w->m.D + j] = ((real *)row_at(&dx, t, i))[j];
}

/* One number stands for all entries of a tensor, and a few entries for themselves. */
static void check_slopes(walk *w, int entries)
{
    model *m = &w->m;
    /* of the kernels, or of the differences, which a small step makes coarse */
    const double limit = !FRN_DOUBLE ? 1e-4 : m->cell == FRN_RNN_RELU ? 5e-7 : 1e-8;
    for (int k = 0; k < TENSORS; k++) {
        const size_t n = m->count[k];
        if (n == 0 || (!w->biased && (k == B_IH || k == B_HH))) continue;
        double *direction = fenced_doubles(n), square = 0;
        for (size_t i = 0; i < n; i++) {
            direction[i] = (chance(50) ? 1 : -1) / sqrt((double)n);
            square += w->slope[k][i] * w->slope[k][i];
        }
        for (int which = 0; which <= entries; which++) {
            size_t at = which == 1 ? n - 1 : below(n);
            if (which) {
                memset(direction, 0, n * sizeof *direction);
                direction[at] = 1;
                square = w->slope[k][at] * w->slope[k][at] * (double)n;
            }
            const double got = dot(w->slope[k], direction, n), want = slope(m, k, direction);
            CHECK(fabs(got - want) <= limit * fmax(1, sqrt(square / (double)n)),
                  "gradient of %s, %s %zu of %zu: %.10g, expected %.10g", tensor_name[k],
                  which ? "entry" : "all, not entry", at, n, got, want);
        }
    }
}

static void check_gradients(walk *w, int entries)
{
    for (int k = 0; k < TENSORS; k++) w->slope[k] = fenced_doubles(w->m.count[k]);
    weight_gradients(w);
    input_gradient(w);
    for (size_t i = 0; i < w->m.N; i++) {
        for (size_t j = 0; j < w->m.S; j++)
            w->slope[H0][i * w->m.S + j] = ((real *)w->p.dh)[i * w->Sp + j];
        for (size_t j = 0; j < w->m.H && w->p.dc; j++)
            w->slope[C0][i * w->m.H + j] = ((real *)w->p.dc)[i * w->Hp + j];
    }
    check_slopes(w, entries);
    run_model(&w->m); /* its results again, not those of a difference */
}

/* ---- all ways through one shape ---- */

static void check_cut(walk *w, cuts how, const outcome *whole, const outcome *whole_back)
{
    const char *name = how == PARTS  ? "in parts"
                       : how == FINE ? "step by step, one by one"
                                     : "units in shares";
    const fence *before = fences;
    outcome there = {0}, back = {0};
    take_arenas(w, 1);
    run_walk(w, 0, how);
    keep_forward(&there, w);
    compare(w, whole, &there, name);
    begin_backward(w);
    run_walk(w, 1, how);
    keep_backward(&back, w);
    compare(w, whole_back, &back, name);
    release(before);
}

/* Inference, with no row kept longer than it is needed. */
static void check_without_keep(walk *w, cuts how, const outcome *whole)
{
    const fence *before = fences;
    outcome there = {0}, y = {{whole->data[Y]}, {whole->count[Y]}};
    take_arenas(w, 0);
    run_walk(w, 0, how);
    keep_y(&there, w);
    compare(w, &y, &there, "not kept");
    compare_with_model(w, "not kept");
    release(before);
}

/* A NaN in one sequence reaches all of its own later steps and no other sequence. */
static void check_nan(walk *w, const outcome *whole)
{
    const model *m = &w->m;
    const size_t sick = m->N ? below(m->N) : 0, S = m->S;
    if (sick >= m->N || m->lengths[sick] == 0) return;
    const fence *before = fences;
    outcome there = {0};
    real *x = row_at(&w->p.x, 0, sick), *y;
    const real saved = *x;
    *x = NAN;
    take_arenas(w, w->masked);
    run_walk(w, 0, WHOLE);
    keep_y(&there, w);
    for (size_t i = 0; i < m->N; i++) {
        int as_it_should = 1;
        y = there.data[Y] + i * m->T * S;
        if (i != sick)
            as_it_should = !memcmp(y, whole->data[Y] + i * m->T * S, m->T * S * sizeof(real));
        for (size_t j = 0; j < m->lengths[i] * S && i == sick; j++) as_it_should &= isnan(y[j]);
        CHECK(as_it_should, "NaN in sequence %zu, sequence %zu is wrong", sick, i);
    }
    *x = saved;
    release(before);
}

static void check_walk(const shape *s, int entries)
{
    walk w;
    outcome there = {0}, back = {0};
    make_walk(&w, s);
    take_arenas(&w, 1);
    run_walk(&w, 0, WHOLE);
    compare_with_model(&w, "kept");
    keep_forward(&there, &w);
    begin_backward(&w);
    run_walk(&w, 1, WHOLE);
    keep_backward(&back, &w);
    check_gradients(&w, entries);
    check_cut(&w, PARTS, &there, &back);
    check_cut(&w, FINE, &there, &back);
    if (!w.p.blas) check_cut(&w, SHARED, &there, &back);
    if (!s->masked) check_without_keep(&w, chance(50) ? PARTS : w.p.blas ? FINE : SHARED, &there);
    check_nan(&w, &there);
    release(NULL);
}

#endif
