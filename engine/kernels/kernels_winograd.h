/* kernels_winograd.h - Winograd's transforms of windows and of products: a template for kernels_*.c, after
 * kernels_rows.h. The formulas are written out; tests compare them with the matrices of kernels_ref.c. */
#include "engine/kernels/winograd.h"

#define WINOGRAD_INLINE static inline __attribute__((always_inline))

/* Points 0, +-h, +-s and infinity with h = 1/sqrt(2), s = sqrt(2). */
#define WINO_S 1.41421356f
#define WINO_H 0.70710678f

WINOGRAD_INLINE void window_1d(const int form, const vf *r, vf *o)
{
    if (form == 1) {
        o[0] = r[0];
        return;
    }
    if (form == ENG_WINOGRAD_F2) {
        o[0] = v_sub(r[0], r[2]);
        o[1] = v_add(r[1], r[2]);
        o[2] = v_sub(r[2], r[1]);
        o[3] = v_sub(r[3], r[1]);
        return;
    }
    vf c = VM(-2.5f);
    o[0] = v_fma(c, r[2], v_add(r[0], r[4]));
    vf odd = v_fma(VM(WINO_H), r[3], v_mul(VM(-WINO_S), r[1])), even = v_fma(VM(-2.0f), r[2], r[4]);
    o[1] = v_add(even, odd);
    o[2] = v_sub(even, odd);
    odd = v_fma(VM(WINO_S), r[3], v_mul(VM(-WINO_H), r[1])), even = v_fma(VM(-0.5f), r[2], r[4]);
    o[3] = v_add(even, odd);
    o[4] = v_sub(even, odd);
    o[5] = v_fma(c, r[3], v_add(r[1], r[5]));
}

WINOGRAD_INLINE void product_1d(const int form, const vf *m, vf *o)
{
    if (form == 1) {
        o[0] = m[0];
        return;
    }
    vf a = v_add(m[1], m[2]), b = v_sub(m[1], m[2]);
    if (form == ENG_WINOGRAD_F2) {
        o[0] = v_add(m[0], a);
        o[1] = v_add(b, m[3]);
        return;
    }
    vf c = v_add(m[3], m[4]), d = v_sub(m[3], m[4]);
    o[0] = v_add(m[0], v_add(a, c));
    o[1] = v_fma(VM(WINO_H), b, v_mul(VM(WINO_S), d));
    o[2] = v_fma(VM(0.5f), a, v_mul(VM(2.0f), c));
    o[3] = v_add(m[5], v_fma(VM(WINO_H / 2), b, v_mul(VM(2 * WINO_S), d)));
}

/* Tiles of `high` x `wide` output pixels; 1: an axis of one tap. `all`: no coefficient vanishes. */
WINOGRAD_INLINE void transform_windows(const int high, const int wide, const bool all, const eng_winograd_block *k)
{
    const int down = high == 1 ? 1 : high + 2, across = wide == 1 ? 1 : wide + 2;
    const eng_winograd *w = k->w;
    const eng_winograd_grid grid = eng_winograd_grid_of(w);
    const int top = all ? 0 : (int)k->part[0].from, bottom = all ? down : (int)k->part[0].to;
    const int left = all ? 0 : (int)k->part[1].from, right = all ? across : (int)k->part[1].to;
    for (int64_t t = 0; t < k->tiles; t++) {
        int64_t item, row, col, xs[6];
        const float *pixels[36];
        eng_winograd_tile_at(w, &grid, k->first + t, &item, &row, &col);
        for (int j = 0; j < across; j++) xs[j] = eng_winograd_element(&w->window, 1, &k->part[1], col, w->left, j);
        for (int i = 0; i < down; i++) {
            const int64_t y = eng_winograd_element(&w->window, 0, &k->part[0], row, w->top, i);
            const bool on = y >= 0 && y < w->height && i >= top && i < bottom; /* outer elements are for outer coefficients alone */
            const float *line = w->x + (item * w->height + y) * w->width * w->x_pitch;
            for (int j = 0; j < across; j++) {
                const bool inside = on && xs[j] >= 0 && xs[j] < w->width && j >= left && j < right;
                pixels[i * across + j] = inside ? line + xs[j] * w->x_pitch : k->zeros;
            }
        }
        for (int64_t c = 0; c < w->channels; c += VL) {
            vf half[6][6], in[6], out[6];
            float *v = k->v + t * k->v_pitch + c;
            vpart part = v_first(w->channels - c);
            bool whole = c + VL <= w->channels;
            for (int j = 0; j < across; j++) {
                for (int i = 0; i < down; i++) {
                    const float *p = pixels[i * across + j] + c;
                    in[i] = whole ? v_load(p) : v_load_part(p, part);
                }
                window_1d(high, in, out);
                for (int i = 0; i < down; i++) half[i][j] = out[i];
            }
            for (int i = 0; i < down; i++) {
                if (i < top || i >= bottom) continue;
                window_1d(wide, half[i], out);
                for (int j = 0; j < across; j++)
                    if (j >= left && j < right) v_store(v + (i * across + j) * k->v_plane, out[j]);
            }
        }
    }
}

WINOGRAD_INLINE void transform_products(const int high, const int wide, const bool all, const eng_winograd_block *k)
{
    const int down = high == 1 ? 1 : high + 2, across = wide == 1 ? 1 : wide + 2;
    const eng_winograd *w = k->w;
    const eng_winograd_grid grid = eng_winograd_grid_of(w);
    const int top = all ? 0 : (int)k->part[0].from, bottom = all ? down : (int)k->part[0].to;
    const int left = all ? 0 : (int)k->part[1].from, right = all ? across : (int)k->part[1].to;
    ending e = ending_of(&w->end);
    const int64_t line = eng_winograd_pixel(w, 0, w->window.dilation[0], 0), across_map = eng_winograd_pixel(w, 0, 0, w->window.dilation[1]);
    e.ldc *= across_map;
    e.ld_add *= across_map;
    const float *biases = w->end.bias ? w->end.bias + k->col : NULL;
    for (int64_t t = 0; t < k->tiles; t++) {
        int64_t item, row, col;
        eng_winograd_tile_at(w, &grid, k->first + t, &item, &row, &col);
        const int64_t pixel = eng_winograd_pixel(w, item, row, col);
        const int rows = (int)eng_winograd_there(&w->window, 0, row, w->out_height);
        const int cols = (int)eng_winograd_there(&w->window, 1, col, w->out_width);
        for (int64_t c = 0; c < k->cols && cols; c += VL) {
            vf half[4][6], in[6], out[4];
            const float *m = k->m + t * k->m_pitch + c;
            vf bias = biases ? v_load_part(biases + c, v_first(k->cols - c)) : v_zero();
            for (int j = 0; j < across; j++) {
                for (int i = 0; i < down; i++) {
                    const bool there = i >= top && i < bottom && j >= left && j < right;
                    in[i] = there ? v_load(m + (i * across + j) * k->m_plane) : v_zero();
                }
                product_1d(high, in, out);
                for (int i = 0; i < high; i++) half[i][j] = out[i];
            }
            for (int i = 0; i < rows; i++) {
                const int64_t at = pixel + i * line;
                product_1d(wide, half[i], out);
                for (int j = 0; j < wide; j++) out[j] = v_add(out[j], bias);
                if (cols == wide) end_pixels(&e, wide, at, k->col + c, k->cols - c, out);
                else end_pixels(&e, cols, at, k->col + c, k->cols - c, out);
            }
        }
    }
}

/* One function for each kind of tile. */
#define WINOGRAD_PICK(TRANSFORM, k)                                                   \
    do {                                                                              \
        const eng_winograd_window *win_ = &(k)->w->window;                            \
        const eng_winograd_part *p_ = (k)->part;                                      \
        bool all_ = true;                                                             \
        for (int a_ = 0; a_ < 2; a_++) all_ &= !p_[a_].from && p_[a_].to == eng_winograd_side(win_, a_); \
        if (win_->form == ENG_WINOGRAD_F2 && all_) TRANSFORM(2, 2, true, k);          \
        else if (win_->form == ENG_WINOGRAD_F2) TRANSFORM(2, 2, false, k);            \
        else if (win_->size[0] == 1) TRANSFORM(1, 4, false, k);                       \
        else if (win_->size[1] == 1) TRANSFORM(4, 1, false, k);                       \
        else if (all_) TRANSFORM(4, 4, true, k);                                      \
        else TRANSFORM(4, 4, false, k);                                               \
    } while (0)

static void winograd_in(const eng_winograd_block *k)
{
    WINOGRAD_PICK(transform_windows, k);
}

static void winograd_out(const eng_winograd_block *k)
{
    WINOGRAD_PICK(transform_products, k);
}

/* ---- weights: in double, as the compiler makes vectors of it --------------------------------- */

/* g times three rows. */
WINOGRAD_INLINE void weights_1d(const int side, const double (*g)[3], const double *a, const double *b, const double *c, double (*o)[ENG_NR])
{
    for (int j = 0; j < ENG_NR; j++) o[0][j] = g[0][0] * a[j];
    for (int p = 1; p + 1 < side - 1; p += 2)
        for (int j = 0; j < ENG_NR; j++) {
            double even = g[p][0] * a[j] + g[p][2] * c[j], odd = g[p][1] * b[j];
            o[p][j] = even + odd;
            o[p + 1][j] = even - odd;
        }
    for (int j = 0; j < ENG_NR; j++) o[side - 1][j] = c[j];
}

WINOGRAD_INLINE void transform_weights(const int side, const double (*g)[3], const float (*taps)[ENG_NR], float *to, int64_t plane)
{
    double w[9][ENG_NR], t[3][6][ENG_NR], o[6][ENG_NR];
    for (int i = 0; i < 9; i++)
        for (int j = 0; j < ENG_NR; j++) w[i][j] = (double)taps[i][j];
    for (int b = 0; b < 3; b++) weights_1d(side, g, w[b], w[3 + b], w[6 + b], t[b]);
    for (int i = 0; i < side; i++) {
        weights_1d(side, g, t[0][i], t[1][i], t[2][i], o);
        for (int k = 0; k < side; k++, to += plane)
            for (int j = 0; j < ENG_NR; j++) to[j] = (float)o[k][j];
    }
}

static void winograd_weights(int side, const double (*g)[3], const float (*taps)[ENG_NR], float *to, int64_t plane)
{
    if (side == 6) transform_weights(6, g, taps, to, plane);
    else transform_weights(4, g, taps, to, plane);
}
