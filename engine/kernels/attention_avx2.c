#include "engine/kernels/attention.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <math.h>

static void pack(const float *m, int64_t row_stride, int64_t col_stride, int64_t k, int64_t n, float *panels)
{
    for (int64_t p = 0; p < n; p += ENG_PANEL) {
        int64_t width = od_min_i64(ENG_PANEL, n - p);
        const float *from = m + p * col_stride;
        if (col_stride == 1 && width == ENG_PANEL) {
            for (int64_t i = 0; i < k; i++, from += row_stride, panels += ENG_PANEL) {
                _mm256_storeu_ps(panels, _mm256_loadu_ps(from));
                _mm256_storeu_ps(panels + 8, _mm256_loadu_ps(from + 8));
            }
            continue;
        }
        for (int64_t j = 0; j < ENG_PANEL; j++) /* column by column: its elements are dense as a rule */
            for (int64_t i = 0; i < k; i++)
                panels[i * ENG_PANEL + j] = j < width ? from[i * row_stride + j * col_stride] : 0.0f;
        panels += k * ENG_PANEL;
    }
}

/* ROWS rows by 16 columns, accumulators in named registers. */
#define ROW_INIT(r) __m256 lo##r = _mm256_setzero_ps(), hi##r = _mm256_setzero_ps();
#define ROW_STEP(r)                                        \
    {                                                      \
        __m256 x = _mm256_broadcast_ss(a + (r) * lda + i); \
        lo##r = _mm256_fmadd_ps(x, b0, lo##r);             \
        hi##r = _mm256_fmadd_ps(x, b1, hi##r);             \
    }
#define ROW_STORE(r)                               \
    _mm256_storeu_ps(c + (r) * ldc, lo##r);        \
    _mm256_storeu_ps(c + (r) * ldc + 8, hi##r);
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define DEFINE_TILE(R)                                                                                               \
    static void tile##R(const float *a, int64_t lda, const float *b, int64_t k, float *c, int64_t ldc)               \
    {                                                                                                                \
        ROWS_##R(ROW_INIT) for (int64_t i = 0; i < k; i++, b += ENG_PANEL)                                           \
        {                                                                                                            \
            __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);                                             \
            ROWS_##R(ROW_STEP)                                                                                       \
        }                                                                                                            \
        ROWS_##R(ROW_STORE)                                                                                          \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

static void multiply(const float *a, int64_t lda, const float *panels, int64_t stride, int64_t m, int64_t n, int64_t k,
                     float *c, int64_t ldc)
{
    static void (*const tiles[])(const float *, int64_t, const float *, int64_t, float *, int64_t) = {
        0, tile1, tile2, tile3, tile4, tile5, tile6};
    for (int64_t j = 0; j < n; j += ENG_PANEL) {
        const float *b = panels + j / ENG_PANEL * stride;
        int64_t left = od_ceil_div(m, 6), i = 0;
        for (; left > 0; left--) { /* tiles of nearly equal height: five rows still keep both FMA pipes full */
            int64_t rows = od_ceil_div(m - i, left);
            tiles[rows](a + i * lda, lda, b, k, c + i * ldc + j, ldc);
            i += rows;
        }
    }
}

/* e^x for x <= 0: 2^n times a polynomial of degree 6 on |r| <= ln(2) / 2; relative error below 3e-7. */
static __m256 exp_below_zero(__m256 x)
{
    const __m256 low = _mm256_set1_ps(-87.33654f);
    __m256 tiny = _mm256_cmp_ps(x, low, _CMP_LT_OQ);
    x = _mm256_max_ps(x, low);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.0f / 720);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(tiny, _mm256_mul_ps(p, _mm256_castsi256_ps(e)));
}

static float largest_of(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

static float sum_of(__m256 v)
{
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_shuffle_ps(m, m, 1)));
}

static __m256i lanes_below(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Eight lanes of a row, of which `left` exist; the rest of a store is left out. Masked stores are slow. */
static inline void store_part(float *row, int64_t left, __m256 x)
{
    if (left >= 8) _mm256_storeu_ps(row, x);
    else _mm256_maskstore_ps(row, lanes_below(left), x);
}

static inline __m256 load_part(const float *row, int64_t left)
{
    return left >= 8 ? _mm256_loadu_ps(row) : _mm256_maskload_ps(row, lanes_below(left));
}

/* Without a mask the scale is applied as the exponential is taken, so that the row is read once less. */
static float exp_row(float *row, int64_t n, float scale, const float *mask, int64_t mask_stride)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 top = lowest, sum = _mm256_setzero_ps(), nan = _mm256_setzero_ps(), s = _mm256_set1_ps(scale);
    bool early = mask || scale <= 0.0f;
    for (int64_t i = 0; i < n; i += 8) {
        __m256 x = load_part(row + i, n - i);
        if (early) {
            __m256 add = _mm256_setzero_ps();
            if (mask) add = mask_stride ? load_part(mask + i, n - i) : _mm256_set1_ps(*mask);
            x = _mm256_fmadd_ps(x, s, add);
            store_part(row + i, n - i, x);
        }
        if (n - i < 8) x = _mm256_blendv_ps(lowest, x, _mm256_castsi256_ps(lanes_below(n - i)));
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        top = _mm256_max_ps(x, top);
    }
    float largest = largest_of(top);
    if (_mm256_movemask_ps(nan)) largest = NAN;
    if (largest == -INFINITY) {
        for (int64_t i = 0; i < n; i++) row[i] = 0.0f;
        return 0.0f;
    }
    if (isnan(largest)) {
        for (int64_t i = 0; i < n; i++) row[i] = NAN;
        return NAN;
    }
    if (early) s = _mm256_set1_ps(1.0f);
    const __m256 m = _mm256_set1_ps(early ? largest : largest * scale);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 x = exp_below_zero(_mm256_fmsub_ps(load_part(row + i, n - i), s, m));
        if (n - i < 8) x = _mm256_and_ps(x, _mm256_castsi256_ps(lanes_below(n - i)));
        store_part(row + i, n - i, x);
        sum = _mm256_add_ps(sum, x);
    }
    return sum_of(sum);
}

const eng_attention_kernels eng_attention_avx2 = {pack, multiply, exp_row};
#else
const eng_attention_kernels eng_attention_avx2 = {0};
#endif
