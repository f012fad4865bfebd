/* decimals_avx2.c - first where commas stand, 64 bytes at a time and without a branch a number; then each number
 * from its comma backwards: its point is closed by taking what stands before it from one byte further left, and all digits are
 * added up at once. So no number waits for the end of the one before. */
#include "server/protocols/decimals.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdbool.h>

enum { BLOCK = 64, MOST_CHARS = 24, UNROLL = SRV_DECIMALS_SLACK };

/* The last n bytes of a vector: 32 bytes from last_bytes + n. */
static const uint8_t last_bytes[64] = {
    [32] = 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
           255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

static inline __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline uint64_t where(__m256i low, __m256i high, char c)
{
    const __m256i all = _mm256_set1_epi8(c);
    uint32_t bits = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, all));
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, all)) << 32 | bits;
}

/* Where commas stand before the first closing bracket: how many. */
static int find_commas(const char *p, const char *end, uint16_t *to)
{
    uint16_t *first = to;
    uint64_t brackets = 0;
    for (int at = 0; at < SRV_DECIMALS_TEXT && end - p >= BLOCK && !brackets; at += BLOCK, p += BLOCK) {
        __m256i low = load(p), high = load(p + 32);
        uint64_t mask = where(low, high, ',');
        brackets = where(low, high, ']');
        if (brackets) mask &= _blsmsk_u64(brackets);
        int n = (int)_mm_popcnt_u64(mask);
        for (int done = 0; done < n; done += UNROLL) /* writes some too many: a branch for each would cost more */
#pragma GCC unroll 8
            for (int k = 0; k < UNROLL; k++) {
                to[done + k] = (uint16_t)(at + (int)_tzcnt_u64(mask));
                mask = _blsr_u64(mask);
            }
        to += n;
    }
    return (int)(to - first);
}

/* What 8 forms have against being numbers of JSON's: no digit on one side of the point, or a zero in front of others. */
static inline __m256i bad_forms(__m256i form)
{
    const __m256i byte = _mm256_set1_epi32(255), none = _mm256_setzero_si256();
    __m256i behind = _mm256_and_si256(form, byte), length = _mm256_and_si256(_mm256_srli_epi32(form, 8), byte);
    __m256i first = _mm256_and_si256(_mm256_srli_epi32(form, 16), byte);
    __m256i no_point = _mm256_cmpeq_epi32(behind, _mm256_set1_epi32(SRV_DECIMALS_NO_POINT));
    __m256i whole = _mm256_sub_epi32(length, _mm256_andnot_si256(no_point, _mm256_add_epi32(behind, _mm256_set1_epi32(1))));
    __m256i zeros = _mm256_and_si256(_mm256_cmpeq_epi32(first, _mm256_set1_epi32('0')), _mm256_cmpgt_epi32(whole, _mm256_set1_epi32(1)));
    return _mm256_or_si256(_mm256_or_si256(_mm256_cmpeq_epi32(behind, none), _mm256_cmpeq_epi32(whole, none)), zeros);
}

/* The number between `p` and `comma`; `wrong` becomes other than zero by bytes that are no digits. false: its length is impossible. */
static inline bool read_one(const char *p, const char *comma, srv_decimal_form *form, uint32_t *to, __m256i *wrong)
{
    const __m256i tens = _mm256_set1_epi16(0x010a), hundreds = _mm256_set1_epi32(0x00010064), myriads = _mm256_set1_epi32(0x00012710);
    bool negative = *p == '-';
    p += negative;
    uint32_t length = (uint32_t)(comma - p);
    if (length - 1 >= MOST_CHARS) return false;
    __m256i right = load(comma - 32), left = load(comma - 33);
    uint32_t points = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(right, _mm256_set1_epi8('.'))) & 0xffffffffu << (-length & 31);
    uint32_t behind = _lzcnt_u32(points), digits = length - 1 + behind / SRV_DECIMALS_NO_POINT;
    __m256i x = _mm256_blendv_epi8(left, right, load(last_bytes + behind));
    x = _mm256_and_si256(_mm256_sub_epi8(x, _mm256_set1_epi8('0')), load(last_bytes + digits));
    *wrong = _mm256_or_si256(*wrong, _mm256_subs_epu8(x, _mm256_set1_epi8(9)));
    x = _mm256_madd_epi16(_mm256_maddubs_epi16(x, tens), hundreds);
    x = _mm256_madd_epi16(_mm256_packus_epi32(x, x), myriads); /* eight digits in each: two in both halves */
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(_mm256_permute4x64_epi64(x, 0x08)));
    form->behind = (uint8_t)behind; /* what this says is looked at by eight numbers at a time */
    form->length = (uint8_t)length;
    form->first = *p;
    form->negative = negative;
    return true;
}

static inline bool is_zero(__m256i x)
{
    return _mm256_testz_si256(x, x);
}

/* How many of `n`: when `careful` those in front of the first that is none, else all or 0. */
static inline int read_all(const char *text, int n, srv_decimals *out, bool careful)
{
    const char *p = text;
    bool blank = *p == ' ';
    __m256i wrong = _mm256_setzero_si256();
    for (int i = 0; i < n; i++) {
        const char *comma = text + out->comma[i];
        if (blank && *p != ' ') return careful ? i : 0;
        if (!read_one(p + blank, comma, &out->form[i], out->digits[i], &wrong)) return careful ? i : 0;
        if (careful) {
            int form;
            __builtin_memcpy(&form, &out->form[i], 4);
            if (!is_zero(_mm256_or_si256(wrong, bad_forms(_mm256_set1_epi32(form))))) return i;
        }
        p = comma + 1;
    }
    if (careful) return n;
    static const srv_decimal_form good = {SRV_DECIMALS_NO_POINT, 1, '1', 0};
    for (int i = n; i < n + SRV_DECIMALS_SLACK; i++) out->form[i] = good;
    for (int i = 0; i < n; i += 8) wrong = _mm256_or_si256(wrong, bad_forms(load(out->form + i)));
    return is_zero(wrong) ? n : 0;
}

void srv_decimals_avx2(const char *text, const char *end, srv_decimals *out)
{
    int n = out->commas = find_commas(text, end, out->comma);
    if (n > SRV_DECIMALS) n = SRV_DECIMALS;
    out->count = n ? read_all(text, n, out, false) : 0;
    if (n && !out->count) out->count = read_all(text, n, out, true);
}

static const double power10[] = {1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16,
                                 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22, 1e-23, [SRV_DECIMALS_NO_POINT] = 1};

/* A double of the number, then a float of it. The double is off by less than three of its last bits (sums, power, product are
 * rounded), which only matters where it lies that near to the middle of two floats. */
int srv_decimals_floats_avx2(const srv_decimals *d, int from, int to, float *out)
{
    const __m256i below = _mm256_set1_epi64x(0x1fffffff), middle = _mm256_set1_epi64x(0x10ffffff8), near = _mm256_set1_epi64x(16);
    for (int i = from; i < to; i += 4, out += 4) {
        const __m128i *row = (const __m128i *)(const void *)d->digits[i];
        __m128i a = _mm_loadu_si128(row), b = _mm_loadu_si128(row + 1), c = _mm_loadu_si128(row + 2), e = _mm_loadu_si128(row + 3);
        __m128i ab = _mm_unpackhi_epi32(a, b), ce = _mm_unpackhi_epi32(c, e);
        __m128i high = _mm_unpackhi_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, e));
        __m128i form = _mm_loadu_si128((const __m128i *)(const void *)(d->form + i));
        __m256d x = _mm256_fmadd_pd(_mm256_cvtepi32_pd(_mm_unpacklo_epi64(ab, ce)), _mm256_set1_pd(1e8),
                                    _mm256_cvtepi32_pd(_mm_unpackhi_epi64(ab, ce)));
        x = _mm256_fmadd_pd(_mm256_cvtepi32_pd(high), _mm256_set1_pd(1e16), x);
        x = _mm256_mul_pd(x, _mm256_i32gather_pd(power10, _mm_and_si128(form, _mm_set1_epi32(63)), 8));
        __m256i off = _mm256_sub_epi32(_mm256_and_si256(_mm256_castpd_si256(x), below), middle); /* the upper halves never equal */
        __m256i tie = _mm256_cmpeq_epi32(_mm256_min_epu32(off, near), off);
        __m128 y = _mm_or_ps(_mm256_cvtpd_ps(x), _mm_castsi128_ps(_mm_slli_epi32(_mm_srli_epi32(form, 24), 31)));
        int ties = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_slli_epi64(tie, 32)));
        int n = ties ? __builtin_ctz((unsigned)ties) : 4;
        if (n > to - i) n = to - i;
        if (n < 4) {
            _mm_maskstore_ps(out, _mm_cmpgt_epi32(_mm_set1_epi32(n), _mm_setr_epi32(0, 1, 2, 3)), y);
            return i + n - from;
        }
        _mm_storeu_ps(out, y);
    }
    return to - from;
}
#else
typedef int srv_decimals_elsewhere; /* a file must have something in it */
#endif
