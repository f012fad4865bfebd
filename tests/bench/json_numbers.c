/* json_numbers.c - tensors' numbers from JSON: the scanner beside cJSON's parse of the same text, by turns.
 *
 *   build/tests/bench/json_numbers [ROUNDS] */
#include "engine/base/cpu.h"
#include "server/protocols/json_numbers.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3 * 224 * 224, TEXT_MAX = N * 32 };

static char text[TEXT_MAX + SRV_JSON_PAD];
static float values[N];

static uint32_t seed = 2463534242u;

static double next(void)
{
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return (double)seed / 4294967296.0;
}

/* "[...]" of made-up numbers as printf's `format` writes them; its length. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static size_t write_text(const char *format, double scale, double offset)
{
    size_t n = 0;
    text[n++] = '[';
    for (int i = 0; i < N; i++) n += (size_t)snprintf(text + n, TEXT_MAX - n, format, next() * scale + offset), text[n++] = ',';
    text[n - 1] = ']';
    memset(text + n, 0, SRV_JSON_PAD);
    return n;
}

static int64_t scan(size_t len, od_arena *a)
{
    od_status st = {0};
    int64_t from = od_now_ns();
    srv_json j = srv_json_init(text, len, a, 0);
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 4, .dims = {1, 3, 224, 224}, .data = values};
    if (srv_json_numbers(&j, &t, &st) != OD_OK) {
        fprintf(stderr, "%s\n", st.msg);
        exit(2);
    }
    return od_now_ns() - from;
}

/* The tree made, walked for its numbers and freed: what a server has to do. `*parse_ns`: making it alone. */
static int64_t by_tree(size_t len, int64_t *parse_ns)
{
    int64_t from = od_now_ns();
    int i = 0;
    cJSON *j = cJSON_ParseWithLength(text, len);
    *parse_ns = od_now_ns() - from;
    if (!j) exit(2);
    for (const cJSON *e = j->child; e && i < N; e = e->next) values[i++] = (float)e->valuedouble;
    cJSON_Delete(j);
    return od_now_ns() - from;
}

int main(int argc, char **argv)
{
    static const struct { const char *name, *format; double scale, offset; } forms[] = {
        {"levels, 0 to 255", "%.0f", 255, 0}, {"3 digits", "%.3f", 4, -2}, {"floats, 9 digits", "%.9g", 4, -2}, {"doubles, 17 digits", "%.17g", 4, -2}};
    int rounds = argc > 1 ? atoi(argv[1]) : 15;
    od_arena a = {0};
    printf("| 150528 numbers, the best of %d turns | ms | MB/s | cJSON: parse, ms | with walk and free, ms | ratios |\n|---|---|---|---|---|---|\n", rounds);
    for (size_t f = 0; f < OD_COUNT(forms); f++) {
        size_t len = write_text(forms[f].format, forms[f].scale, forms[f].offset);
        int64_t ours = INT64_MAX, theirs = INT64_MAX, parse = INT64_MAX, ns;
        for (int i = 0; i < rounds; i++) {
            ours = od_min_i64(ours, scan(len, &a));
            theirs = od_min_i64(theirs, by_tree(len, &ns));
            parse = od_min_i64(parse, ns);
        }
        printf("| %s | %.2f | %.0f | %.2f | %.2f | %.1f, %.1f |\n", forms[f].name, (double)ours / 1e6, (double)len * 1e3 / (double)ours,
               (double)parse / 1e6, (double)theirs / 1e6, (double)parse / (double)ours, (double)theirs / (double)ours);
    }
    od_arena_fini(&a);
    return 0;
}
