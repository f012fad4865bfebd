#include "loaders/image/rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Outputs whose vectors stay within the row: two pairs of taps read 16 bytes for their 12. */
static int64_t safe_outputs(const ldr_taps *t, int64_t width)
{
    int64_t safe = t->count, reach = (t->pairs - 1) / 2 * 12 + 16;
    while (safe > 0 && (int64_t)t->start[safe - 1] * 3 + reach > width * 3) safe--;
    return safe;
}

static inline __m256i two_places(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)a)),
                                   _mm_loadu_si128((const __m128i *)(const void *)b), 1);
}

static inline __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* The sums of two outputs, one in each half: r, g, b, nothing. */
static inline __m256i across_part(const uint8_t *a, const uint8_t *b, const int16_t *wide, int pairs, __m256i sum)
{
    const __m256i first = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
                                           0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const __m256i second = _mm256_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
                                            6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    int p = 0;
    for (; p + 2 <= pairs; p += 2, a += 12, b += 12, wide += 32) {
        __m256i px = two_places(a, b);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(px, first), load(wide)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(px, second), load(wide + 16)));
    }
    if (p < pairs) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(two_places(a, b), first), load(wide)));
    return sum;
}

static inline __m256i across_two(const uint8_t *row, const ldr_taps *t, int64_t i, int pairs, __m256i half)
{
    const uint8_t *a = row + (int64_t)t->start[i] * 3, *b = row + (int64_t)t->start[i + 1] * 3;
    int64_t at = i * pairs * 8;
    if (!t->lo) return across_part(a, b, t->wide + at, pairs, half);
    __m256i hi = _mm256_slli_epi32(across_part(a, b, t->wide + at, pairs, _mm256_setzero_si256()), 8);
    return across_part(a, b, t->wide_lo + at, pairs, _mm256_add_epi32(hi, half));
}

/* The first outputs, as many as have room; how many. Inlined where `pairs` is known. */
static inline __attribute__((always_inline)) int64_t across_pairs(const uint8_t *row, int64_t width, const ldr_taps *t, int keep, int pairs, int16_t *to)
{
    const __m128i shift = _mm_cvtsi32_si128(t->bits - keep);
    const __m256i zero = _mm256_setzero_si256(), most = _mm256_set1_epi16(255);
    const __m256i half = _mm256_set1_epi32(ldr_taps_half(t, t->bits - keep));
    bool clip = !keep && t->overshoots;
    int64_t safe = safe_outputs(t, width), i = 0;
    for (; i + 2 <= safe; i += 2) {
        __m256i sum = _mm256_packs_epi32(_mm256_sra_epi32(across_two(row, t, i, pairs, half), shift), zero);
        if (clip) sum = _mm256_max_epi16(_mm256_min_epi16(sum, most), zero);
        _mm_storel_epi64((__m128i *)(void *)(to + i * 3), _mm256_castsi256_si128(sum));
        _mm_storel_epi64((__m128i *)(void *)(to + i * 3 + 3), _mm256_extracti128_si256(sum, 1));
    }
    return i;
}

static void across(const uint8_t *row, int64_t width, int channels, const ldr_taps *t, int keep, int16_t *to)
{
    int64_t done = 0;
    if (channels == 3) {
        switch (t->pairs) { /* 640 pixels to 224 are three pairs bilinearly, six by cubics */
        case 1: done = across_pairs(row, width, t, keep, 1, to); break;
        case 2: done = across_pairs(row, width, t, keep, 2, to); break;
        case 3: done = across_pairs(row, width, t, keep, 3, to); break;
        case 4: done = across_pairs(row, width, t, keep, 4, to); break;
        case 6: done = across_pairs(row, width, t, keep, 6, to); break;
        default: done = across_pairs(row, width, t, keep, t->pairs, to);
        }
    }
    ldr_across_from(done, row, channels, t, keep, to);
}

/* Two weights for each pair of neighbours: weight j and, where there is one, j + 1. */
static inline __m256i weight_pair(const int16_t *k, int j, int n)
{
    uint32_t second = j + 1 < n ? (uint16_t)k[j + 1] : 0;
    return _mm256_set1_epi32((int)((uint32_t)(uint16_t)k[j] | second << 16));
}

static void down(const int16_t *const *rows, const int16_t *k, int n, int shift, int64_t count, uint8_t *to)
{
    const __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    const __m128i by = _mm_cvtsi32_si128(shift);
    for (int64_t i = 0; i < count; i += 32) {
        __m256i s0 = half, s1 = half, s2 = half, s3 = half;
        for (int j = 0; j < n; j += 2) {
            const int16_t *p = rows[j] + i, *q = rows[j + 1 < n ? j + 1 : j] + i;
            __m256i w = weight_pair(k, j, n), p0 = load(p), q0 = load(q), p1 = load(p + 16), q1 = load(q + 16);
            s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi16(p0, q0), w));
            s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi16(p0, q0), w));
            s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi16(p1, q1), w));
            s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi16(p1, q1), w));
        }
        __m256i lo = _mm256_packs_epi32(_mm256_sra_epi32(s0, by), _mm256_sra_epi32(s1, by));
        __m256i hi = _mm256_packs_epi32(_mm256_sra_epi32(s2, by), _mm256_sra_epi32(s3, by));
        __m256i out = _mm256_permute4x64_epi64(_mm256_packus_epi16(lo, hi), 0xd8);
        _mm256_storeu_si256((__m256i *)(void *)(to + i), out);
    }
}

/* Sixteen levels that fit sixteen bits. */
static inline __m256i between(const int16_t *a, const int16_t *b, __m256i ka, __m256i kb)
{
    __m256i sum = _mm256_add_epi16(_mm256_mulhi_epi16(load(a), ka), _mm256_mulhi_epi16(load(b), kb));
    return _mm256_srai_epi16(_mm256_add_epi16(sum, _mm256_set1_epi16(2)), 2);
}

static void down_pair(const int16_t *a, const int16_t *b, int16_t ka, int16_t kb, int64_t count, uint8_t *to)
{
    const __m256i p = _mm256_set1_epi16(ka), q = _mm256_set1_epi16(kb);
    for (int64_t i = 0; i < count; i += 32) {
        __m256i out = _mm256_packus_epi16(between(a + i, b + i, p, q), between(a + i + 16, b + i + 16, p, q));
        _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_permute4x64_epi64(out, 0xd8));
    }
}

static inline __m256 widen(__m128i eight, __m256 scale, __m256 bias)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight)), scale, bias);
}

static void to_planes(const uint8_t *row, int64_t count, const ldr_levels *l, float *const *planes)
{
    int64_t i = 0;
    if (l->channels == 1) {
        __m256 scale = _mm256_set1_ps(l->scale[0]), bias = _mm256_set1_ps(l->bias[0]);
        for (; i + 8 <= count; i += 8)
            _mm256_storeu_ps(planes[0] + i, widen(_mm_loadl_epi64((const __m128i *)(const void *)(row + i)), scale, bias));
    } else {
        /* 24 bytes as 16 from 0 and 16 from 8: where the eight bytes of a channel lie in each */
        __m128i first[3], second[3];
        __m256 scale[3], bias[3];
        for (int c = 0; c < 3; c++) {
            int8_t a[16], b[16];
            for (int x = 0; x < 16; x++) {
                int at = 3 * x + (l->bgr ? 2 - c : c);
                a[x] = (int8_t)(x < 8 && at < 16 ? at : -1);
                b[x] = (int8_t)(x < 8 && at >= 16 ? at - 8 : -1);
            }
            first[c] = _mm_loadu_si128((const __m128i *)(const void *)a);
            second[c] = _mm_loadu_si128((const __m128i *)(const void *)b);
            scale[c] = _mm256_set1_ps(l->scale[c]);
            bias[c] = _mm256_set1_ps(l->bias[c]);
        }
        for (; i + 8 <= count; i += 8) {
            __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(row + 3 * i));
            __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(row + 3 * i + 8));
            for (int c = 0; c < 3; c++)
                _mm256_storeu_ps(planes[c] + i, widen(_mm_or_si128(_mm_shuffle_epi8(a, first[c]), _mm_shuffle_epi8(b, second[c])),
                                                      scale[c], bias[c]));
        }
    }
    ldr_planes_from(i, row, count, l, planes);
}

static void to_pixels(const uint8_t *row, int64_t count, const ldr_levels *l, float *to)
{
    int64_t i = 0;
    if (l->channels == 1) {
        float *planes[1] = {to};
        to_planes(row, count, l, planes);
        return;
    }
    const float *s = l->scale, *b = l->bias;
    const __m256 scale8 = _mm256_setr_ps(s[0], s[1], s[2], s[0], s[1], s[2], s[0], s[1]);
    const __m256 bias8 = _mm256_setr_ps(b[0], b[1], b[2], b[0], b[1], b[2], b[0], b[1]);
    const __m128 scale4 = _mm_setr_ps(s[2], s[0], s[1], s[2]), bias4 = _mm_setr_ps(b[2], b[0], b[1], b[2]);
    const __m128i order = l->bgr ? _mm_setr_epi8(2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, -1, -1, -1, -1)
                                 : _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -1, -1, -1, -1);
    for (; i + 4 <= count; i += 4, to += 12) {
        __m128i px = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(row + 3 * i)), order);
        _mm256_storeu_ps(to, widen(px, scale8, bias8));
        __m128 rest = _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_srli_si128(px, 8)));
        _mm_storeu_ps(to + 8, _mm_fmadd_ps(rest, scale4, bias4));
    }
    ldr_pixels_from(0, row + 3 * i, count - i, l, to);
}

const ldr_rows ldr_rows_avx2 = {across, down, down_pair, to_planes, to_pixels};
#endif
