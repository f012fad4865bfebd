/* kernels_ref.c - what every variant must compute, in plain C. */
#include "engine/kernels/kernels.h"
#include "engine/kernels/winograd.h"

#include <math.h>

static float act(eng_act a, float alpha, float beta, float x)
{
    switch (a) {
    case ENG_ACT_RELU: return x > 0.0f || isnan(x) ? x : 0.0f;
    case ENG_ACT_CLIP: return x < alpha ? alpha : x > beta ? beta : x;
    case ENG_ACT_LEAKY_RELU: return x < 0.0f ? alpha * x : x;
    case ENG_ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
    case ENG_ACT_SILU: return x / (1.0f + expf(-alpha * x));
    case ENG_ACT_HARD_SIGMOID: return fminf(1.0f, fmaxf(0.0f, alpha * x + beta));
    case ENG_ACT_HARD_SWISH: return x * fminf(1.0f, fmaxf(0.0f, x / 6.0f + 0.5f));
    case ENG_ACT_GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case ENG_ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case ENG_ACT_TANH: return tanhf(x);
    case ENG_ACT_MISH: return x * tanhf(x > 20.0f ? x : log1pf(expf(x)));
    case ENG_ACT_ELU: return x < 0.0f ? alpha * expm1f(x) : x;
    case ENG_ACT_SOFTPLUS: return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
    default: return x;
    }
}

static float finish(const eng_gemm *g, float x, float add)
{
    x = act(g->act, g->alpha, g->beta, g->residual == ENG_RES_BEFORE_ACT ? x + add : x);
    return g->residual == ENG_RES_AFTER_ACT ? x + add : x;
}

static void gemm(const eng_gemm *g)
{
    int64_t k = g->depth ? g->depth : g->segments * g->length;
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            const float *panel = g->b + j / ENG_NR * ENG_NR * k + j % ENG_NR;
            float sum = g->bias ? g->bias[j] : 0.0f;
            for (int64_t s = 0; s < g->segments; s++) {
                const float *a = g->rows ? g->rows[s * (g->ld_rows ? g->ld_rows : g->m) + i] : g->a + i * g->lda;
                const float *b = panel + (g->places ? g->places[s] : s * g->length * ENG_NR);
                for (int64_t x = 0; x < g->length; x++, b += ENG_NR) sum += a[g->offsets ? g->offsets[x] : x] * *b;
            }
            if (g->scale) sum *= g->scale[j];
            g->c[i * g->ldc + j] = finish(g, sum, g->residual ? g->add[i * g->ld_add + j] : 0.0f);
        }
    }
}

static float depthwise_sum(const eng_depthwise *d, const int64_t *at, int64_t c)
{
    float sum = d->end.bias ? d->end.bias[c] : 0.0f;
    for (int64_t t = 0; t < d->size[0] * d->size[1] * d->size[2]; t++) {
        int64_t k[3] = {t / d->size[2] / d->size[1], t / d->size[2] % d->size[1], t % d->size[2]}, line = at[0], x = 0;
        bool inside = true;
        for (int i = 0; i < 3; i++) {
            int64_t v = at[1 + i] * d->stride[i] + k[i] * d->dilation[i] - d->before[i];
            inside &= v >= 0 && v < d->in[i];
            if (i < 2) line = line * d->in[i] + v;
            else x = v;
        }
        int64_t taps = d->size[0] * d->size[1] * d->size[2], pitch = d->x_line ? d->x_line : d->in[2] * d->x_pitch;
        if (inside) sum += d->x[line * pitch + x * d->x_pitch + c] * d->w[(c / ENG_NR * taps + t) * ENG_NR + c % ENG_NR];
    }
    return sum;
}

static void depthwise(const eng_depthwise *d)
{
    const eng_gemm *e = &d->end;
    for (int64_t r = d->first; r < d->last; r++) {
        for (int64_t x = 0; x < d->out[2]; x++) {
            int64_t at[4] = {r / d->out[1] / d->out[0], r / d->out[1] % d->out[0], r % d->out[1], x}, p = r * d->out[2] + x;
            for (int64_t c = d->from; c < d->to; c++)
                e->c[p * e->ldc + c] = finish(e, depthwise_sum(d, at, c), e->residual ? e->add[p * e->ld_add + c] : 0.0f);
        }
    }
}

static void depthwise_taps(const eng_depthwise_taps *d)
{
    const eng_gemm *e = &d->end;
    for (int64_t p = 0; p < d->pixels; p++) {
        for (int64_t c = 0; c < d->channels; c++) {
            float sum = e->bias ? e->bias[c] : 0.0f;
            for (int64_t t = 0; t < d->n_taps; t++) sum += d->taps[t * d->pixels + p][c] * d->w[t * d->channels + c];
            e->c[p * e->ldc + c] = finish(e, sum, e->residual ? e->add[p * e->ld_add + c] : 0.0f);
        }
    }
}

#define S 1.41421356f
#define H 0.70710678f
static const float windows_f4[6][6] = {{1, 0, -2.5f, 0, 1, 0},     {0, -S, -2, H, 1, 0},  {0, S, -2, -H, 1, 0},
                                       {0, -H, -0.5f, S, 1, 0},    {0, H, -0.5f, -S, 1, 0}, {0, 1, 0, -2.5f, 0, 1}};
static const float windows_f2[6][6] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
static const float products_f4[4][6] = {{1, 1, 1, 1, 1, 0}, {0, H, -H, S, -S, 0}, {0, 0.5f, 0.5f, 2, 2, 0},
                                        {0, H / 2, -H / 2, 2 * S, -2 * S, 1}};
static const float products_f2[4][6] = {{1, 1, 1, 0}, {0, 1, -1, 1}};

static const float one_tap[4][6] = {{1}};

/* t x u' for matrices t of rows x down, u of cols x across. */
static void both_sides(const float (*t)[6], int rows, int down, const float (*u)[6], int cols, int across, float (*x)[6], float (*y)[6])
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            y[i][j] = 0;
            for (int a = 0; a < down; a++)
                for (int b = 0; b < across; b++) y[i][j] += t[i][a] * x[a][b] * u[j][b];
        }
}

static void winograd_in(const eng_winograd_block *k)
{
    const eng_winograd *w = k->w;
    const eng_winograd_part *rows = &k->part[0], *cols = &k->part[1];
    const eng_winograd_grid grid = eng_winograd_grid_of(w);
    const int down = (int)eng_winograd_side(&w->window, 0), across = (int)eng_winograd_side(&w->window, 1);
    const float (*form)[6] = w->window.form == ENG_WINOGRAD_F4 ? windows_f4 : windows_f2;
    for (int64_t t = 0; t < k->tiles; t++) {
        int64_t item, row, col;
        eng_winograd_tile_at(w, &grid, k->first + t, &item, &row, &col);
        for (int64_t c = 0; c < w->channels; c++) {
            float x[6][6], y[6][6];
            for (int i = 0; i < down; i++)
                for (int j = 0; j < across; j++) {
                    int64_t iy = eng_winograd_element(&w->window, 0, rows, row, w->top, i);
                    int64_t ix = eng_winograd_element(&w->window, 1, cols, col, w->left, j);
                    bool inside = iy >= 0 && iy < w->height && ix >= 0 && ix < w->width;
                    x[i][j] = inside ? w->x[((item * w->height + iy) * w->width + ix) * w->x_pitch + c] : 0.0f;
                }
            both_sides(down > 1 ? form : one_tap, down, down, across > 1 ? form : one_tap, across, across, x, y);
            for (int64_t i = rows->from; i < rows->to; i++)
                for (int64_t j = cols->from; j < cols->to; j++) k->v[(i * across + j) * k->v_plane + t * k->v_pitch + c] = y[i][j];
        }
    }
}

static void winograd_weights(int side, const double (*g)[3], const float (*taps)[ENG_NR], float *to, int64_t plane)
{
    for (int i = 0; i < side; i++)
        for (int k = 0; k < side; k++, to += plane)
            for (int j = 0; j < ENG_NR; j++) {
                double sum = 0.0;
                for (int a = 0; a < 3; a++)
                    for (int b = 0; b < 3; b++) sum += g[i][a] * (double)taps[a * 3 + b][j] * g[k][b];
                to[j] = (float)sum;
            }
}

static void winograd_out(const eng_winograd_block *k)
{
    const eng_winograd *w = k->w;
    const eng_gemm *end = &w->end;
    const eng_winograd_part *all = k->part;
    const eng_winograd_grid grid = eng_winograd_grid_of(w);
    const int down = (int)eng_winograd_side(&w->window, 0), across = (int)eng_winograd_side(&w->window, 1);
    const int high = (int)eng_winograd_outputs(&w->window, 0), wide = (int)eng_winograd_outputs(&w->window, 1);
    const float (*form)[6] = w->window.form == ENG_WINOGRAD_F4 ? products_f4 : products_f2;
    for (int64_t t = 0; t < k->tiles; t++) {
        int64_t item, row, col;
        eng_winograd_tile_at(w, &grid, k->first + t, &item, &row, &col);
        for (int64_t c = 0; c < k->cols; c++) {
            float x[6][6] = {{0}}, y[6][6];
            for (int64_t i = all[0].from; i < all[0].to; i++)
                for (int64_t j = all[1].from; j < all[1].to; j++) x[i][j] = k->m[(i * across + j) * k->m_plane + t * k->m_pitch + c];
            both_sides(down > 1 ? form : one_tap, high, down, across > 1 ? form : one_tap, wide, across, x, y);
            for (int64_t i = 0; i < eng_winograd_there(&w->window, 0, row, w->out_height); i++)
                for (int64_t j = 0; j < eng_winograd_there(&w->window, 1, col, w->out_width); j++) {
                    int64_t iy = row + i * w->window.dilation[0], ix = col + j * w->window.dilation[1];
                    int64_t pixel = eng_winograd_pixel(w, item, iy, ix), n = k->col + c;
                    float sum = y[i][j] + (end->bias ? end->bias[n] : 0.0f);
                    end->c[pixel * end->ldc + n] = finish(end, sum, end->add ? end->add[pixel * end->ld_add + n] : 0.0f);
                }
        }
    }
}

static void act_row(eng_act a, float alpha, float beta, const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = act(a, alpha, beta, x[i]);
}

#define ROW(NAME, F)                                            \
    static void NAME(const float *x, float *y, int64_t n)       \
    {                                                           \
        for (int64_t i = 0; i < n; i++) y[i] = F(x[i]);         \
    }
ROW(exp_row, expf)
ROW(log_row, logf)
ROW(tanh_row, tanhf)
ROW(erf_row, erff)

static float largest(const float *x, int64_t n)
{
    float m = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > m || isnan(x[i])) m = x[i];
    return m;
}

static void softmax_row(const float *x, float *y, int64_t n)
{
    float m = largest(x, n);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)(y[i] = expf(x[i] - m));
    for (int64_t i = 0; i < n; i++) y[i] = (float)((double)y[i] / sum);
}

static void logsoftmax_row(const float *x, float *y, int64_t n)
{
    float m = largest(x, n);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += exp((double)(x[i] - m));
    float shift = (float)log(sum);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - m - shift;
}

static void layernorm_rows(const float *x, const float *scale, const float *bias, float eps, float *y, int64_t n, int64_t rows)
{
    for (; rows > 0; rows--, x += n, y += n) {
        double mean = 0.0, var = 0.0;
        for (int64_t i = 0; i < n; i++) mean += (double)x[i];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
        double inv = 1.0 / sqrt(var / (double)n + (double)eps);
        for (int64_t i = 0; i < n; i++) {
            float v = (float)(((double)x[i] - mean) * inv);
            y[i] = v * (scale ? scale[i] : 1.0f) + (bias ? bias[i] : 0.0f);
        }
    }
}

static float sum_row(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    return (float)sum;
}

const eng_kernels eng_kernels_ref = ENG_KERNELS_TABLE;
