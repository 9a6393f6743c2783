/* For test_kernels.c: one direction of one layer as src/_weights.pyx and src/_recurrence.pyx lay it
 * out, walked whole and in every cut, and held against the model of kernels_reference.h. */
#ifndef TEST_KERNELS_WALK_H
#define TEST_KERNELS_WALK_H

#include "kernels_reference.h"

#include "barrier.h"

#include <pthread.h>

typedef struct {
    model m;
    int masked, reverse, biased;
    const frn_cell_info *info;
    frn_pass p;
    size_t total, Hp, Sp; /* rows; H and S in whole vectors */
    int64_t *sizes, *base;
    real *weight[TENSORS], *grad[TENSORS];
    double *slope[TENSORS]; /* gradients as doubles, in the layout of model.value */
} walk;

typedef enum { WHOLE, PARTS, FINE, SHARED } cuts;

/* Arrays of all that a walk leaves; units only, rows after rows. */
enum { Y, Z, C, KEPT, MASKED, DH, DC, DP, ARRAYS };
static const char *const array_name[ARRAYS] = {"y", "z", "c", "kept", "masked", "dh", "dc", "dp"};
typedef struct {
    real *data[ARRAYS];
    size_t count[ARRAYS];
} outcome;

static const double tolerance = FRN_DOUBLE ? 1e-12 : 2e-5;

static void *row_at(const frn_rows *rows, size_t t, size_t i)
{
    return (real *)rows->start[i] + (ptrdiff_t)t * rows->step[i];
}

/* ---- making a walk ---- */

static void draw_values(walk *w)
{
    model *m = &w->m;
    const double limit[TENSORS] = {1.5 / sqrt((double)m->D),
                                   1.5 / sqrt((double)m->S),
                                   1.5 / sqrt((double)m->H),
                                   w->biased ? 0.5 : 0,
                                   w->biased ? 0.5 : 0,
                                   1,
                                   1,
                                   1};
    for (int k = 0; k < TENSORS; k++)
        for (size_t i = 0; i < m->count[k]; i++) m->value[k][i] = uniform(limit[k]);
}

/* Where the user's rows lie: one array (N, T, width) or one per sequence, evenly or far apart,
 * filled with values (N, T, width) unless that is NULL. */
static frn_rows place(const walk *w, size_t width, const double *values)
{
    const model *m = &w->m;
    const int list = chance(50), apart = chance(40);
    const size_t gap = below(3) * sizeof(real), used = width * sizeof(real);
    void **start = fenced(m->N * sizeof *start);
    ptrdiff_t *step = fenced(m->N * sizeof *step);
    size_t between = 0;
    char *all = list ? NULL : fenced_rows(m->N * m->T, used, apart, gap, &between);
    for (size_t i = 0; i < m->N; i++) {
        char *first = list ? fenced_rows(m->lengths[i], used, apart, gap, &between)
                           : all + i * m->T * between;
        start[i] = first;
        step[i] = (ptrdiff_t)(between / sizeof(real));
        if (w->reverse) {
            if (m->lengths[i]) start[i] = first + (m->lengths[i] - 1) * between;
            step[i] = -step[i];
        }
        for (size_t t = 0; t < m->lengths[i] && values; t++)
            for (size_t j = 0; j < width; j++)
                ((real *)start[i])[(ptrdiff_t)t * step[i] + (ptrdiff_t)j] =
                    (real)values[(i * m->T + t) * width + j];
    }
    return (frn_rows){start, step};
}

/* Rows of `width` in order, as an array of pointers. */
static void **state_rows(const double *values, size_t n, size_t width)
{
    size_t step;
    void **rows = fenced(n * sizeof *rows);
    char *data = fenced_rows(n, width * sizeof(real), chance(50), 0, &step);
    for (size_t i = 0; i < n; i++) {
        rows[i] = data + i * step;
        for (size_t j = 0; j < width; j++) ((real *)rows[i])[j] = (real)values[i * width + j];
    }
    return rows;
}

static frn_axis gate_axis(const walk *w, int first, int slots, size_t columns)
{
    frn_axis axis = simple_axis(w->m.H, columns);
    axis.blocks = slots;
    axis.padded = w->Hp;
    for (int i = 0; i < slots; i++)
        axis.offset[i] = (ptrdiff_t)(w->info->gate_of[first + i] * w->m.H * columns);
    return axis;
}

static frn_packed pack_one(const walk *w, int tensor, frn_axis k, frn_axis units, int vectors,
                           int backward)
{
    const int plain = w->p.blas != NULL;
    return backward ? pack_weight(w->weight[tensor], &units, &k, FRN_SLOTS, plain)
                    : pack_weight(w->weight[tensor], &k, &units, vectors, plain);
}

static void pack_walk(walk *w, int backward)
{
    const frn_cell_info *info = w->info;
    const model *m = &w->m;
    const frn_packed x =
        pack_one(w, W_IH, simple_axis(m->D, 1), gate_axis(w, 0, info->x_slots, m->D),
                 FRN_SLOTS / info->x_slots, backward);
    *(backward ? &w->p.w_x_back : &w->p.w_x) = x;
    for (int stage = 0; stage < info->stages; stage++) {
        const frn_stage_info *s = &info->stage[stage];
        frn_packed *h = backward ? &w->p.w_h_back[stage] : &w->p.w_h[stage];
        if (info->projected && stage == 1)
            *h = pack_one(w, W_HR, simple_axis(m->H, 1), simple_axis(m->S, m->H), FRN_SLOTS,
                          backward);
        else
            *h = pack_one(w, W_HH, simple_axis(m->S, 1), gate_axis(w, s->first, s->slots, m->S),
                          FRN_SLOTS / s->tile_slots, backward);
    }
}

static void sum_biases(walk *w)
{
    const frn_cell_info *info = w->info;
    const size_t H = w->m.H, count = info->slots * w->Hp;
    real *bias = fenced_reals(count);
    memset(bias, 0, count * sizeof(real));
    for (int slot = 0; slot < info->x_slots; slot++)
        for (size_t j = 0; j < H; j++)
            bias[slot * w->Hp + j] += (real)w->m.value[B_IH][info->gate_of[slot] * H + j];
    for (int stage = 0; stage < info->stages - info->projected; stage++)
        for (int slot = 0; slot < info->stage[stage].slots; slot++)
            for (size_t j = 0; j < H; j++) {
                const int at = info->stage[stage].first + slot;
                bias[at * w->Hp + j] += (real)w->m.value[B_HH][info->gate_of[at] * H + j];
            }
    w->p.bias = bias;
}

typedef struct {
    frn_cell cell;
    size_t N, T, D, H, P;
    int masked, reverse, biased, blas, dy, dstate;
} shape;

static void make_model(model *m, const shape *s, const frn_cell_info *info)
{
    *m = (model){.cell = s->cell, .gates = info->gates, .N = s->N, .T = s->T, .D = s->D, .H = s->H};
    m->S = info->projected ? s->P : s->H;
    m->lengths = fenced(s->N * sizeof(size_t));
    const int even = chance(30);
    for (size_t i = 0; i < s->N; i++) {
        size_t length = even ? s->T : below(s->T + 1), at = i;
        for (; at && m->lengths[at - 1] < length; at--) m->lengths[at] = m->lengths[at - 1];
        m->lengths[at] = length;
    }
    const size_t G = m->gates * m->H;
    const size_t count[TENSORS] = {
        G * m->D,           G * m->S,    info->projected ? m->S * m->H : 0, G, G,
        m->N * m->T * m->D, m->N * m->S, info->has_c ? m->N * m->H : 0};
    for (int k = 0; k < TENSORS; k++) {
        m->count[k] = count[k];
        m->value[k] = fenced_doubles(count[k]);
    }
    m->y = fenced_doubles(m->N * m->T * m->S);
    m->h = fenced_doubles(m->N * m->S);
    m->c = fenced_doubles(m->N * m->H);
    m->work = fenced_doubles(m->S + 2 * G + m->H);
    if (s->masked) m->mask = fenced_doubles(m->N * m->S);
    for (size_t i = 0; i < m->N * m->S && s->masked; i++) m->mask[i] = chance(60) ? 1.25 : 0;
    if (s->dy) m->dy = fenced_doubles(m->N * m->T * m->S);
    for (size_t i = 0; i < m->N * m->T * m->S && s->dy; i++) m->dy[i] = uniform(1);
    if (!s->dstate) return;
    m->dh = fenced_doubles(m->N * m->S);
    for (size_t i = 0; i < m->N * m->S; i++) m->dh[i] = uniform(1);
    if (info->has_c) m->dc = fenced_doubles(m->N * m->H);
    for (size_t i = 0; i < m->count[C0]; i++) m->dc[i] = uniform(1);
}

static void make_walk(walk *w, const shape *s)
{
    const frn_cell_info *info = &kernels->cells[s->cell];
    *w = (walk){.masked = s->masked, .reverse = s->reverse, .biased = s->biased, .info = info};
    model *m = &w->m;
    make_model(m, s, info);
    do draw_values(w); /* both ways of rounding must leave a rectifier on the same side */
    while (run_model(m) < 2e-5);
    w->Hp = up_to(m->H, LANES);
    w->Sp = up_to(m->S, LANES);
    w->sizes = fenced(m->T * sizeof(int64_t));
    w->base = fenced((m->T + 1) * sizeof(int64_t));
    w->base[0] = 0;
    for (size_t t = 0; t < m->T; t++) {
        w->sizes[t] = 0;
        for (size_t i = 0; i < m->N; i++) w->sizes[t] += m->lengths[i] > t;
        w->base[t + 1] = w->base[t] + w->sizes[t];
    }
    w->total = (size_t)w->base[m->T];
    for (int k = 0; k < X; k++) {
        w->weight[k] = fenced_reals(m->count[k]);
        for (size_t i = 0; i < m->count[k]; i++) w->weight[k][i] = (real)m->value[k][i];
    }
    w->p = (frn_pass){.cell = s->cell,
                      .n = m->N,
                      .steps = m->T,
                      .inputs = m->D,
                      .units = m->H,
                      .width = m->S,
                      .sizes = w->sizes,
                      .base = w->base,
                      .blas = s->blas ? &naive_blas : NULL,
                      .x = place(w, m->D, m->value[X]),
                      .h0 = state_rows(m->value[H0], m->N, m->S),
                      .c0 = info->has_c ? state_rows(m->value[C0], m->N, m->H) : NULL};
    if (s->masked) { /* rows in whole vectors */
        double *padded = fenced_doubles(m->N * w->Sp);
        for (size_t i = 0; i < m->N; i++)
            memcpy(padded + i * w->Sp, m->mask + i * m->S, m->S * sizeof(double));
        w->p.mask = state_rows(padded, m->N, w->Sp);
    }
    sum_biases(w);
    pack_walk(w, 0);
    pack_walk(w, 1);
}

/* ---- walking it ---- */

static void take_arenas(walk *w, int keep)
{
    frn_pass *p = &w->p;
    const size_t rows = keep ? w->total : p->n;
    p->keep = keep;
    p->y = place(w, w->m.S, NULL);
    p->lead = w->info->slots * w->Hp;
    p->z = keep ? fenced_reals(rows * p->lead) : NULL;
    p->c = w->info->has_c ? fenced_reals(rows * w->Hp) : NULL;
    p->kept = w->info->stages == 2 ? fenced_reals(rows * w->Hp) : NULL;
    p->masked = w->masked ? fenced_reals(rows * w->Sp) : NULL;
}

static real *carry(const walk *w, const double *values, size_t width, size_t padded)
{
    real *rows = fenced_reals(w->m.N * padded);
    memset(rows, 0, w->m.N * padded * sizeof(real));
    for (size_t i = 0; i < w->m.N && values; i++)
        for (size_t j = 0; j < width; j++) rows[i * padded + j] = (real)values[i * width + j];
    return rows;
}

static void begin_backward(walk *w)
{
    frn_pass *p = &w->p;
    p->dy = w->m.dy ? place(w, w->m.S, w->m.dy) : (frn_rows){0};
    p->dh = carry(w, w->m.dh, w->m.S, w->Sp);
    p->dc = w->info->has_c ? carry(w, w->m.dc, w->m.H, w->Hp) : NULL;
    p->dp = w->info->projected ? fenced_reals(w->total * w->Sp) : NULL;
}

/* A team's member, in a thread of its own. */
typedef struct {
    const frn_pass *p;
    frn_part part;
    void (*loop)(const frn_pass *p, const frn_part *part, void *scratch);
    void *scratch;
    pthread_t thread;
} member;

static void *walk_member(void *argument)
{
    member *m = argument;
    m->loop(m->p, &m->part, m->scratch);
    return NULL;
}

/* All sequences, the units in shares. */
static void run_team(const walk *w, int backward, size_t from, size_t to)
{
    enum { MEMBERS = 3 };
    fence *before = fences;
    frn_barrier barrier;
    member team[MEMBERS];
    frn_barrier_init(&barrier);
    for (int i = 0; i < MEMBERS; i++) {
        team[i].p = &w->p;
        team[i].part = (frn_part){.last = w->m.N,
                                  .from = from,
                                  .to = to,
                                  .member = i,
                                  .members = MEMBERS,
                                  .barrier = &barrier};
        team[i].loop = backward ? kernels->backward : kernels->forward;
        team[i].scratch = fenced(up_to(kernels->walk_bytes(&w->p, w->m.N), 64));
    }
    for (int i = 1; i < MEMBERS; i++)
        if (pthread_create(&team[i].thread, NULL, walk_member, &team[i])) abort();
    walk_member(&team[0]);
    for (int i = 1; i < MEMBERS; i++) pthread_join(team[i].thread, NULL);
    release(before);
}

/* One way through time: regions of steps, in each all tasks of sequences, last or first task first.
 */
static void run_walk(const walk *w, int backward, cuts how)
{
    const size_t N = w->m.N, T = w->m.T;
    size_t *tasks = fenced((N + 1) * sizeof *tasks), *regions = fenced((T + 1) * sizeof *regions);
    size_t n_tasks = cut(N, how == FINE, tasks), n_regions = cut(T, how == FINE, regions);
    if (how == WHOLE) {
        n_tasks = n_regions = 1;
        tasks[0] = N;
        regions[0] = T;
    }
    for (size_t r = 0; r < n_regions; r++) {
        const size_t region = backward ? n_regions - 1 - r : r;
        const size_t from = region ? regions[region - 1] : 0;
        if (how == SHARED) {
            run_team(w, backward, from, regions[region]);
            continue;
        }
        for (size_t k = 0; k < n_tasks; k++) {
            const size_t task = region % 2 ? k : n_tasks - 1 - k;
            fence *before = fences;
            const frn_part part = {.first = task ? tasks[task - 1] : 0,
                                   .last = tasks[task],
                                   .from = from,
                                   .to = regions[region],
                                   .members = 1};
            void *scratch = fenced(up_to(kernels->walk_bytes(&w->p, part.last - part.first), 64));
            (backward ? kernels->backward : kernels->forward)(&w->p, &part, scratch);
            release(before);
        }
    }
}

/* ---- what came out ---- */

static void keep_arena(outcome *out, int which, const void *arena, size_t rows, size_t padded,
                       size_t n)
{
    if (!arena) return;
    out->count[which] = rows * n;
    out->data[which] = fenced_reals(rows * n);
    /* padding too, where it meets a product; that of what is kept for stage 1 does not */
    for (size_t i = 0; i < rows * padded; i++)
        if ((which != KEPT || i % padded < n) && !isfinite(((const real *)arena)[i])) {
            CHECK(0, "%s: row %zu, unit %zu of %zu is not finite", array_name[which], i / padded,
                  i % padded, n);
            break;
        }
    for (size_t i = 0; i < rows; i++)
        memcpy(out->data[which] + i * n, (const real *)arena + i * padded, n * sizeof(real));
}

/* y, dense, walking order; steps that are not there as they were placed */
static void keep_y(outcome *out, const walk *w)
{
    const size_t S = w->m.S;
    out->count[Y] = w->m.N * w->m.T * S;
    out->data[Y] = fenced_reals(out->count[Y]);
    for (size_t i = 0; i < w->m.N; i++)
        for (size_t t = 0; t < w->m.lengths[i]; t++)
            memcpy(out->data[Y] + (i * w->m.T + t) * S, row_at(&w->p.y, t, i), S * sizeof(real));
}

static void keep_forward(outcome *out, const walk *w)
{
    const size_t slots = w->info->slots, rows = w->total;
    keep_y(out, w);
    /* one slot keeps nothing there: its h tells all */
    keep_arena(out, Z, slots > 1 ? w->p.z : NULL, rows * slots, w->Hp, w->m.H);
    keep_arena(out, C, w->p.c, rows, w->Hp, w->m.H);
    keep_arena(out, KEPT, w->p.kept, rows, w->Hp, w->m.H);
    keep_arena(out, MASKED, w->p.masked, rows, w->Sp, w->m.S);
}

static void keep_backward(outcome *out, const walk *w)
{
    keep_arena(out, Z, w->p.z, w->total * w->info->slots, w->Hp, w->m.H);
    keep_arena(out, DH, w->p.dh, w->m.N, w->Sp, w->m.S);
    keep_arena(out, DC, w->p.dc, w->m.N, w->Hp, w->m.H);
    keep_arena(out, DP, w->p.dp, w->total, w->Sp, w->m.S);
}

/* The same bits from the packed engine, nearly the same from BLAS. */
static void compare(const walk *w, const outcome *a, const outcome *b, const char *how)
{
    for (int k = 0; k < ARRAYS; k++) {
        CHECK(a->count[k] == b->count[k], "%s", array_name[k]);
        for (size_t i = 0; i < a->count[k] && i < b->count[k]; i++) {
            const real x = a->data[k][i], y = b->data[k][i];
            if (memcmp(&x, &y, sizeof x) &&
                !(w->p.blas && fabs((double)(x - y)) <= 10 * tolerance)) {
                CHECK(0, "%s: %s[%zu] is %.17g, walked whole %.17g", how, array_name[k], i,
                      (double)y, (double)x);
                break;
            }
        }
    }
}

static void compare_with_model(const walk *w, const char *how)
{
    const model *m = &w->m;
    double worst = 0, worst_c = 0;
    for (size_t i = 0; i < m->N; i++) {
        for (size_t t = 0; t < m->lengths[i]; t++)
            for (size_t j = 0; j < m->S; j++) {
                const double got = ((real *)row_at(&w->p.y, t, i))[j],
                             want = m->y[(i * m->T + t) * m->S + j];
                worst =
                    fmax(worst, isfinite(got) ? fabs(got - want) / fmax(1, fabs(want)) : INFINITY);
            }
        const size_t last = m->lengths[i] ? m->lengths[i] - 1 : 0;
        const size_t row = (w->p.keep ? (size_t)w->base[last] : 0) + i;
        for (size_t j = 0; j < m->H && w->p.c && m->lengths[i]; j++) {
            const double got = ((real *)w->p.c)[row * w->Hp + j];
            worst_c = fmax(worst_c, isfinite(got) ? fabs(got - m->c[i * m->H + j]) : INFINITY);
        }
    }
    CHECK(worst <= tolerance, "%s: y is off by %g", how, worst);
    CHECK(worst_c <= tolerance, "%s: c is off by %g", how, worst_c);
}

#endif
