/* kernels_depthwise.h - depthwise convolution: a template for kernels_*.c, after kernels_rows.h.
 * A strip is some neighbouring output pixels of a row. For each vector of channels a line of the window's weights
 * is in registers, and each input pixel is loaded once a line for all the outputs that it is part of. Windows are
 * three, five or seven wide; a wider one has lines of threes and fives side by side. With registers for twice the
 * sums, the strip below is made along with it: a line of input that both read then comes from its cache once. */

enum {
    DW_LONG = 8, DW_STRIP = 7, DW_SHORT = 4, /* pixels of a strip */
    DW_MIXED = 0,                            /* width of a window that has lines of threes and fives */
    DW_LINES = 256, DW_EDGES = 49, DW_PIXELS = 2 * (DW_LONG - 1) + 7
};

#define DW_INLINE static inline __attribute__((always_inline))

/* The weights of the first tap for the vector of channels at c; the next tap's lie ENG_NR behind. */
static inline const float *dw_weights(const eng_depthwise *d, int64_t c)
{
    return d->w + c / ENG_NR * d->size[0] * d->size[1] * d->size[2] * ENG_NR + c % ENG_NR;
}

/* The input of one strip, or of two below each other: lines of the window that lie on the map, with their weights. */
typedef struct dw_lines {
    int n, both, second;         /* lines; the first that two strips share, and the first of the lower one alone */
    int64_t left;                /* the column where the strip's first window begins: may lie outside */
    int64_t tap[DW_LINES];       /* the line's first, */
    int64_t below[DW_LINES];     /* and for the lower strip */
    const float *line[DW_LINES]; /* what that reads for a window at column 0 */
    int wide[DW_LINES];          /* if DW_MIXED: 3 or 5 */
    const float *pixel[DW_EDGES][DW_PIXELS]; /* if not inside: each input pixel, in the padding one of zeros */
    const float *edge[DW_EDGES][2 * 6];      /* of two strips: the first and the last, */
    const float *inner[DW_EDGES];            /* and where those between begin */
} dw_lines;

/* Add pixel j of a line of windows to the sums of those that it is part of. */
DW_INLINE void dw_add(const int kw, const int stride, const int strip, const int j, vf v, const vf *w, vf *sum)
{
#pragma GCC unroll 8
    for (int i = 0; i < strip; i++)
        if (j >= i * stride && j < i * stride + kw) sum[i] = v_fma(v, w[j - i * stride], sum[i]);
}

/* Add a line of windows to `strip` sums: of pixels x, x + pitch ..., or of those pointed to. */
DW_INLINE void dw_line(const int kw, const int stride, const int strip, const bool inside, const float *x, int64_t pitch,
                       const float *const *pixels, int64_t c, bool whole, vpart part, const float *weights, vf *sum)
{
    vf w[7];
#pragma GCC unroll 8
    for (int t = 0; t < kw; t++) w[t] = v_load(weights + t * ENG_NR);
#pragma GCC unroll 32
    for (int j = 0; j < (strip - 1) * stride + kw; j++) {
        const float *p = (inside ? x + j * pitch : pixels[j]) + c;
        vf v = whole ? v_load(p) : v_load_part(p, part);
        v_hold(v);
        dw_add(kw, stride, strip, j, v, w, sum);
    }
}

/* `strip` pixels from output pixel `pixel` on, for a window `kw` wide; all constants but the channels. */
DW_INLINE void dw_strip(const int kw, const int stride, const int strip, const bool inside, const eng_depthwise *d,
                        const dw_lines *lines, const ending *e, int64_t pixel, int64_t from, int64_t to)
{
    const int64_t pitch = d->x_pitch;
    for (int64_t c = from; c < to; c += VL) {
        const bool whole = c + VL <= to;
        const vpart part = v_first(to - c);
        vf sum[DW_LONG];
        vf bias = d->end.bias ? v_load_part(d->end.bias + c, part) : v_zero();
#pragma GCC unroll 8
        for (int i = 0; i < strip; i++) sum[i] = bias;
        const float *weights = dw_weights(d, c);
        for (int r = 0; r < lines->n; r++) {
            const float *x = lines->line[r] + lines->left * pitch, *w = weights + lines->tap[r] * ENG_NR;
            const float *const *pixels = kw ? lines->pixel[r] : NULL;
            if (kw) dw_line(kw, stride, strip, inside, x, pitch, pixels, c, whole, part, w, sum);
            else if (lines->wide[r] == 3) dw_line(3, stride, strip, true, x, pitch, NULL, c, whole, part, w, sum);
            else dw_line(5, stride, strip, true, x, pitch, NULL, c, whole, part, w, sum);
        }
        end_pixels(e, strip, pixel, c, to - c, sum);
    }
}

/* Pixel j of a line of two strips: those that may be padding are pointed to, the others lie `pitch` bytes apart from *x on,
 * which moves along, as no instruction reads further than four pitches from it. thrice: three of them. */
DW_INLINE vf dw_pixel(const int j, const int first, const int last, const char **x, int64_t pitch, int64_t thrice,
                      const float *const *pixels, int64_t c)
{
    if (j < first) return v_load(pixels[j] + c);
    if (j >= last) return v_load(pixels[j - last + first] + c);
    const int ahead = (j - first) % 4;
    if (j > first && !ahead) {
        *x += 4 * pitch;
        __asm__("" : "+r"(*x));
    }
    return v_load((const float *)(const void *)(*x + (ahead == 3 ? thrice : ahead * pitch)));
}

/* Add line r of windows to the sums of a strip, or to those of the one below, or to both. */
DW_INLINE void dw_pair_line(const int kw, const int stride, const int strip, const dw_lines *lines, int r, int64_t pitch, int64_t thrice,
                            int64_t c, const float *w_of_c, vf *sum, vf *lower)
{
    const float *weights = w_of_c + lines->tap[r] * ENG_NR, *below = w_of_c + lines->below[r] * ENG_NR;
    const char *x = (const char *)(lines->inner[r] + c);
    vf w[7], l[7];
#pragma GCC unroll 8
    for (int t = 0; t < kw; t++) {
        if (sum) w[t] = v_load(weights + t * ENG_NR);
        if (lower) l[t] = v_load(below + t * ENG_NR);
    }
#pragma GCC unroll 32
    for (int j = 0; j < (strip - 1) * stride + kw; j++) {
        vf v = dw_pixel(j, kw - 1, (strip - 1) * stride + 1, &x, pitch, thrice, lines->edge[r], c);
        v_hold(v);
        if (sum) dw_add(kw, stride, strip, j, v, w, sum);
        if (lower) dw_add(kw, stride, strip, j, v, l, lower);
    }
}

/* The first and last pixels of two strips' lines, and where those between begin. */
DW_INLINE void dw_find_edges(const int kw, const int stride, const int strip, const eng_depthwise *d, dw_lines *lines)
{
    const int edge = kw - 1, last = (strip - 1) * stride + 1;
    const int64_t pitch = d->x_pitch, left = lines->left * pitch;
    int64_t at[2 * 6];
#pragma GCC unroll 16
    for (int j = 0; j < 2 * edge; j++) at[j] = (j < edge ? j : last + j - edge) * pitch;
    for (int r = 0; r < lines->n; r++) {
        const float *x = lines->line[r] + left;
#pragma GCC unroll 16
        for (int j = 0; j < 2 * edge; j++) lines->edge[r][j] = x + at[j];
        lines->inner[r] = x + edge * pitch;
    }
    if (lines->left >= 0 && lines->left + last + edge <= d->in[2]) return;
    for (int64_t j = 0; j < 2 * edge; j++) {
        const int64_t col = lines->left + (j < edge ? j : last + j - edge);
        for (int r = 0; r < lines->n && (uint64_t)col >= (uint64_t)d->in[2]; r++) lines->edge[r][j] = d->zeros;
    }
}

/* Channels `from` .. to - 1, whole vectors, of a strip and of the one below it. */
DW_INLINE void dw_pair(const int kw, const int stride, const int strip, const eng_depthwise *d, dw_lines *lines, const ending *e,
                       int64_t pixel, int64_t from, int64_t to)
{
    const int64_t pitch = d->x_pitch * (int64_t)sizeof(float);
    int64_t thrice = 3 * pitch;
    __asm__("" : "+r"(thrice));
    dw_find_edges(kw, stride, strip, d, lines);
    for (int64_t c = from; c < to; c += VL) {
        vf sum[DW_LONG], lower[DW_LONG];
        vf bias = d->end.bias ? v_load(d->end.bias + c) : v_zero();
#pragma GCC unroll 8
        for (int i = 0; i < strip; i++) sum[i] = lower[i] = bias;
        const float *w = dw_weights(d, c);
        int r = 0;
        for (; r < lines->both; r++) dw_pair_line(kw, stride, strip, lines, r, pitch, thrice, c, w, sum, NULL);
        for (; r < lines->second; r++) dw_pair_line(kw, stride, strip, lines, r, pitch, thrice, c, w, sum, lower);
        end_pixels(e, strip, pixel, c, VL, sum);
        for (; r < lines->n; r++) dw_pair_line(kw, stride, strip, lines, r, pitch, thrice, c, w, NULL, lower);
        end_pixels(e, strip, pixel + d->out[2], c, VL, lower);
    }
}

/* Which lines of the window of output row `row` are on the map. */
static void dw_find_lines(const eng_depthwise *d, int64_t row, bool mixed, dw_lines *lines)
{
    const int64_t y = row % d->out[1], z = row / d->out[1] % d->out[0], item = row / d->out[1] / d->out[0], kw = d->size[2];
    lines->n = 0;
    for (int64_t kz = 0; kz < d->size[0]; kz++)
        for (int64_t ky = 0; ky < d->size[1]; ky++) {
            int64_t iz = z * d->stride[0] + kz * d->dilation[0] - d->before[0];
            int64_t iy = y * d->stride[1] + ky * d->dilation[1] - d->before[1];
            if (iz < 0 || iz >= d->in[0] || iy < 0 || iy >= d->in[1]) continue;
            const float *line = d->x + ((item * d->in[0] + iz) * d->in[1] + iy) * d->x_line;
            int64_t threes = mixed ? kw * 2 % 5 : 0; /* as few as leave a multiple of five */
            for (int64_t t = 0, wide; t < kw; t += wide) {
                int r = lines->n++;
                wide = !mixed ? kw : threes-- > 0 ? 3 : 5;
                lines->line[r] = line + t * d->x_pitch;
                lines->tap[r] = (kz * d->size[1] + ky) * kw + t;
                lines->wide[r] = (int)wide;
            }
        }
}

/* The same for output rows `row` and row + 1 of a window of one plane. Sums take their lines in the order of one row's. */
static void dw_find_pair(const eng_depthwise *d, int64_t row, dw_lines *lines)
{
    const int64_t high = d->size[1], kw = d->size[2], step = d->dilation[1], y = row % d->out[1] * d->stride[1] - d->before[1];
    const int64_t apart = d->stride[1] % step ? high : od_min_i64(d->stride[1] / step, high); /* taps from row to row */
    const float *plane = d->x + row / d->out[1] * d->in[1] * d->x_line;
    lines->n = lines->both = lines->second = 0;
    for (int64_t t = 0; t < high + apart; t++) {
        const int64_t iy = t < high ? y + t * step : y + d->stride[1] + (t - apart) * step;
        if (iy >= 0 && iy < d->in[1]) {
            lines->line[lines->n] = plane + iy * d->x_line;
            lines->tap[lines->n] = t * kw;
            lines->below[lines->n++] = (t - apart) * kw;
        }
        if (t < apart) lines->both = lines->n;
        if (t < high) lines->second = lines->n;
    }
}

/* Where a strip finds its pixels, if they are pointed to. */
static void dw_find_pixels(const eng_depthwise *d, int reach, dw_lines *lines)
{
    for (int r = 0; r < lines->n; r++) {
        const float *x = lines->line[r] + lines->left * d->x_pitch;
        for (int64_t j = 0; j < reach; j++, x += d->x_pitch)
            lines->pixel[r][j] = (uint64_t)(lines->left + j) < (uint64_t)d->in[2] ? x : d->zeros;
    }
}

typedef void dw_strip_fn(const eng_depthwise *d, const dw_lines *lines, bool inside, const ending *e, int64_t pixel, int64_t from,
                         int64_t to);

#define DW_DEFINE(KW, STRIDE, STRIP)                                                                                      \
    static void dw_##KW##_##STRIDE##_##STRIP(const eng_depthwise *d, const dw_lines *lines, bool inside, const ending *e,   \
                                             int64_t pixel, int64_t from, int64_t to)                                     \
    {                                                                                                                     \
        if (inside) dw_strip(KW, STRIDE, STRIP, true, d, lines, e, pixel, from, to);                                       \
        else dw_strip(KW, STRIDE, STRIP, false, d, lines, e, pixel, from, to);                                             \
    }
#define DW_DEFINE_STRIPS(KW, STRIDE) \
    DW_DEFINE(KW, STRIDE, 8) DW_DEFINE(KW, STRIDE, 7) DW_DEFINE(KW, STRIDE, 4) DW_DEFINE(KW, STRIDE, 1)
DW_DEFINE_STRIPS(3, 1)
DW_DEFINE_STRIPS(3, 2)
DW_DEFINE_STRIPS(5, 1)
DW_DEFINE_STRIPS(5, 2)
DW_DEFINE_STRIPS(7, 1)
DW_DEFINE_STRIPS(7, 2)
DW_DEFINE_STRIPS(DW_MIXED, 1)
DW_DEFINE_STRIPS(DW_MIXED, 2)

#define DW_STRIPS(KW, STRIDE) {dw_##KW##_##STRIDE##_8, dw_##KW##_##STRIDE##_7, dw_##KW##_##STRIDE##_4, dw_##KW##_##STRIDE##_1}
static dw_strip_fn *const dw_strips[4][2][4] = {{DW_STRIPS(3, 1), DW_STRIPS(3, 2)},
                                                {DW_STRIPS(5, 1), DW_STRIPS(5, 2)},
                                                {DW_STRIPS(7, 1), DW_STRIPS(7, 2)},
                                                {DW_STRIPS(DW_MIXED, 1), DW_STRIPS(DW_MIXED, 2)}};

typedef void dw_pair_fn(const eng_depthwise *d, dw_lines *lines, const ending *e, int64_t pixel, int64_t from, int64_t to);

#define DW_DEFINE_PAIR(KW, STRIDE, STRIP)                                                                                 \
    static void dw_pair_##KW##_##STRIDE##_##STRIP(const eng_depthwise *d, dw_lines *lines, const ending *e,           \
                                                  int64_t pixel, int64_t from, int64_t to)                                \
    {                                                                                                                     \
        dw_pair(KW, STRIDE, STRIP, d, lines, e, pixel, from, to);                                                          \
    }
#define DW_DEFINE_PAIRS(KW) DW_DEFINE_PAIR(KW, 1, 8) DW_DEFINE_PAIR(KW, 1, 7) DW_DEFINE_PAIR(KW, 2, 8) DW_DEFINE_PAIR(KW, 2, 7)
#define DW_PAIR(KW) {{dw_pair_##KW##_1_8, dw_pair_##KW##_1_7}, {dw_pair_##KW##_2_8, dw_pair_##KW##_2_7}}
#if defined(__AVX512F__) /* elsewhere registers do not suffice */
DW_DEFINE_PAIRS(3)
DW_DEFINE_PAIRS(5)
DW_DEFINE_PAIRS(7)
static dw_pair_fn *const dw_pairs[3][2][2] = {DW_PAIR(3), DW_PAIR(5), DW_PAIR(7)};
#else
static dw_pair_fn *const dw_pairs[3][2][2];
#endif

/* The same for a window of any extents, strides and dilations. */
DW_INLINE void dw_any(const int strip, const bool inside, const eng_depthwise *d, const ending *e, int64_t row, int64_t col,
                      int64_t from, int64_t to)
{
    const int64_t *size = d->size, pitch = d->x_pitch, left = col * d->stride[2] - d->before[2];
    const int64_t z = row / d->out[1] % d->out[0] * d->stride[0] - d->before[0], y = row % d->out[1] * d->stride[1] - d->before[1];
    const int64_t item = row / d->out[1] / d->out[0];
    for (int64_t c = from; c < to; c += VL) {
        const bool whole = c + VL <= to;
        const vpart part = v_first(to - c);
        vf sum[DW_LONG];
        vf bias = d->end.bias ? v_load_part(d->end.bias + c, part) : v_zero();
#pragma GCC unroll 8
        for (int i = 0; i < strip; i++) sum[i] = bias;
        for (int64_t kz = 0; kz < size[0]; kz++)
            for (int64_t ky = 0; ky < size[1]; ky++) {
                const int64_t iz = z + kz * d->dilation[0], iy = y + ky * d->dilation[1];
                if (iz < 0 || iz >= d->in[0] || iy < 0 || iy >= d->in[1]) continue;
                const float *line = d->x + ((item * d->in[0] + iz) * d->in[1] + iy) * d->x_line + c;
                const float *w = dw_weights(d, c) + (kz * size[1] + ky) * size[2] * ENG_NR;
                for (int64_t t = 0, x = left; t < size[2]; t++, x += d->dilation[2], w += ENG_NR) {
                    const vf k = v_load(w);
#pragma GCC unroll 8
                    for (int i = 0; i < strip; i++) {
                        const int64_t ix = x + i * d->stride[2];
                        const float *p = inside || (ix >= 0 && ix < d->in[2]) ? line + ix * pitch : d->zeros + c;
                        sum[i] = v_fma(whole ? v_load(p) : v_load_part(p, part), k, sum[i]);
                    }
                }
            }
        end_pixels(e, strip, row * d->out[2] + col, c, to - c, sum);
    }
}

static void dw_any_strip(const eng_depthwise *d, int strip, int64_t reach, const ending *e, int64_t row, int64_t col, int64_t from,
                         int64_t to)
{
    int64_t left = col * d->stride[2] - d->before[2];
    bool inside = left >= 0 && left + reach <= d->in[2];
    if (strip == 1) dw_any(1, false, d, e, row, col, from, to);
    else if (strip == DW_SHORT) dw_any(DW_SHORT, false, d, e, row, col, from, to);
    else if (strip == DW_STRIP && inside) dw_any(DW_STRIP, true, d, e, row, col, from, to);
    else if (strip == DW_STRIP) dw_any(DW_STRIP, false, d, e, row, col, from, to);
    else if (inside) dw_any(DW_LONG, true, d, e, row, col, from, to);
    else dw_any(DW_LONG, false, d, e, row, col, from, to);
}

/* Which of DW_LONG, DW_STRIP, DW_SHORT and 1 covers a line with the fewest pixels done again. */
static int dw_kind(int64_t width)
{
    if (width < DW_STRIP) return width < DW_SHORT ? 3 : 2;
    if (width < DW_LONG) return 1;
    return od_ceil_div(width, DW_LONG) * DW_LONG < od_ceil_div(width, DW_STRIP) * DW_STRIP ? 0 : 1;
}

static dw_pair_fn *dw_pair_for(const eng_depthwise *d, int kind)
{
    const int64_t kw = d->size[2], stride = d->stride[2];
    const bool plane = d->size[0] == 1 && d->in[0] == 1 && d->out[0] == 1 && !d->before[0];
    if (!plane || (kw != 3 && kw != 5 && kw != 7) || stride > 2 || d->dilation[2] > 1 || kind > 1 || 2 * d->size[1] > DW_EDGES) return NULL;
    if (d->before[2] >= kw || (d->out[2] - 1) * stride - d->before[2] >= d->in[2]) return NULL; /* windows of padding alone */
    return dw_pairs[(kw - 3) / 2][stride - 1][kind];
}

/* Windows of neighbouring rows share input: a part of the channels of a part of the columns goes down the map
 * whose lines under a window stay in the nearest caches. Parts of columns are as wide as that allows, since the
 * first pixels of a run of memory come late. */
static void dw_rows(const eng_depthwise *d, const ending *e)
{
    enum { FLOATS = 20 << 10 };
    static const int strips[] = {DW_LONG, DW_STRIP, DW_SHORT, 1};
    const int64_t width = d->out[2], kw = d->size[2], stride = d->stride[2], high = d->size[0] * d->size[1];
    const int kind = dw_kind(width), strip = strips[kind];
    const int64_t reach = (strip - 1) * stride + (kw - 1) * d->dilation[2] + 1;
    const int64_t some = od_max_i64(FLOATS / (high * reach) / ENG_NR, 1) * ENG_NR;
    const int64_t step = od_max_i64(FLOATS / (high * stride * strip * od_min_i64(some, d->to - d->from)), 1) * strip;
    const bool narrow = kw == 3 || kw == 5 || kw == 7, mixed = kw == 6 || kw > 7;
    dw_pair_fn *const pair = (d->to - d->from) % VL ? NULL : dw_pair_for(d, kind);
    dw_strip_fn *run = NULL;
    dw_lines lines;
    if ((narrow || mixed) && stride <= 2 && d->dilation[2] == 1 && high * (mixed ? kw / 3 : 1) <= (mixed ? DW_LINES : DW_EDGES))
        run = dw_strips[mixed ? 3 : (kw - 3) / 2][stride - 1][kind];
    for (int64_t from = d->from; from < d->to; from += some) {
        int64_t to = od_min_i64(from + some, d->to);
        for (int64_t begin = 0; begin < width; begin += step)
            for (int64_t row = d->first, rows; row < d->last; row += rows) {
                rows = pair && row + 1 < d->last && (row + 1) % d->out[1] ? 2 : 1;
                if (rows == 2) dw_find_pair(d, row, &lines);
                else if (run) dw_find_lines(d, row, mixed, &lines);
                for (int64_t at = begin; at < od_min_i64(begin + step, width); at += strip) {
                    const int64_t col = od_min_i64(at, width - strip), left = col * stride - d->before[2]; /* the last may do pixels again */
                    const bool inside = left >= 0 && left + reach <= d->in[2];
                    lines.left = left;
                    if (!run || (mixed && !inside)) {
                        dw_any_strip(d, strip, reach, e, row, col, from, to);
                        continue;
                    }
                    if (!inside && rows == 1) dw_find_pixels(d, (int)reach, &lines);
                    if (rows == 2) pair(d, &lines, e, row * width + col, from, to);
                    else run(d, &lines, inside, e, row * width + col, from, to);
                }
            }
    }
}

/* Vectors that are all whole, then the one that is not. */
static void dw_channels(const eng_depthwise *d)
{
    const ending e = ending_of(&d->end);
    const int64_t part = (d->to - d->from) % VL;
    if (!part || part == d->to - d->from || !dw_pair_for(d, dw_kind(d->out[2]))) {
        dw_rows(d, &e);
        return;
    }
    eng_depthwise some = *d;
    some.to -= part;
    dw_rows(&some, &e);
    some.from = some.to;
    some.to = d->to;
    dw_rows(&some, &e);
}

/* Every dilation-th pixel of a line, read by every dilation-th window, is a line without dilation. */
static void dw_phases(const eng_depthwise *d)
{
    const int64_t step = d->dilation[2], width = d->out[2];
    for (int64_t row = d->first; row < d->last; row++)
        for (int64_t q = 0; q < od_min_i64(step, width); q++) {
            eng_depthwise p = *d;
            const int64_t at = q - d->before[2], phase = (at % step + step) % step; /* the first tap's column */
            p.x += phase * d->x_pitch;
            p.x_pitch *= step;
            p.in[2] = od_ceil_div(od_max_i64(d->in[2] - phase, 0), step);
            p.out[2] = od_ceil_div(width - q, step);
            p.before[2] = (phase - at) / step;
            p.dilation[2] = 1;
            p.first = row;
            p.last = row + 1;
            const int64_t from = row * width + q - row * p.out[2] * step; /* where that begins as seen by pixel row * p.out[2] */
            p.end.c += from * d->end.ldc;
            p.end.ldc *= step;
            if (p.end.add) p.end.add += from * d->end.ld_add;
            p.end.ld_add *= step;
            dw_channels(&p);
        }
}

static void depthwise(const eng_depthwise *d)
{
    eng_depthwise own = *d;
    const int64_t kw = d->size[2];
    if (!own.x_line) own.x_line = d->in[2] * d->x_pitch;
    if (d->dilation[2] > 1 && d->stride[2] == 1 && (kw == 3 || kw == 5 || kw == 7)) dw_phases(&own);
    else dw_channels(&own);
}

/* Four pixels of a vector of channels share each weight. */
static void depthwise_taps(const eng_depthwise_taps *d)
{
    const ending e = ending_of(&d->end);
    for (int64_t p = 0; p < d->pixels; p += DW_SHORT) {
        int64_t n = od_min_i64(DW_SHORT, d->pixels - p);
        int64_t at[DW_SHORT] = {p, p + (n > 1 ? 1 : 0), p + (n > 2 ? 2 : n - 1), p + (n > 3 ? 3 : n - 1)};
        for (int64_t c = 0; c < d->channels; c += VL) {
            vpart part = v_first(d->channels - c);
            bool whole = c + VL <= d->channels;
            vf bias = d->end.bias ? v_load_part(d->end.bias + c, part) : v_zero();
            vf sum[DW_SHORT] = {bias, bias, bias, bias};
            const float *w = d->w + c;
            const float *const *taps = d->taps;
            for (int64_t t = 0; t < d->n_taps; t++, w += d->channels, taps += d->pixels) {
                vf k = whole ? v_load(w) : v_load_part(w, part);
#pragma GCC unroll 4
                for (int i = 0; i < DW_SHORT; i++) {
                    const float *x = taps[at[i]] + c;
                    sum[i] = v_fma(whole ? v_load(x) : v_load_part(x, part), k, sum[i]);
                }
            }
            end_pixels(&e, (int)n, p, c, d->channels - c, sum);
        }
    }
}
