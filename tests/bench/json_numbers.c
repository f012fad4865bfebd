/* json_numbers.c - a tensor of 3x224x224 floats from JSON: the scanner beside cJSON's parse of the same text, by turns.
 * Numbers as clients write them: float32 with 9 digits (C, Go, Rust), float64 of 17 (Python's and JavaScript's lists of float32 or
 * float64), also nested with blanks behind the commas (Python's json). Exit code 1 when one of these four is below the target.
 *
 *   build/tests/bench/json_numbers [ROUNDS] */
#include "engine/base/cpu.h"
#include "server/protocols/json_numbers.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3 * 224 * 224, TEXT_MAX = N * 32 + 64 };

static char text[TEXT_MAX + SRV_JSON_PAD];
static float values[N];

static double next(void)
{
    static uint64_t x = 88172645463325252u;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return (double)(x >> 11) / 9007199254740992.0;
}

typedef struct form {
    const char *name, *format;
    double scale, offset;
    bool floats; /* values are float32's */
    bool nested; /* [[[[...], [...]]]] */
    bool aim;
} form;

/* Made-up numbers as an array; its length. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static size_t write_text(const form *f)
{
    char *to = text;
    to = stpcpy(to, f->nested ? "[[[[" : "[");
    for (int i = 0; i < N; i++) {
        double x = next() * f->scale + f->offset;
        if (i) to = stpcpy(to, !f->nested ? "," : i % (224 * 224) == 0 ? "]], [[" : i % 224 == 0 ? "], [" : ", ");
        to += sprintf(to, f->format, f->floats ? (double)(float)x : x);
    }
    to = stpcpy(to, f->nested ? "]]]]" : "]");
    memset(to, 0, SRV_JSON_PAD);
    return (size_t)(to - text);
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
    const cJSON *at[5] = {j};
    for (int depth = 0; depth >= 0;) { /* cJSON has no walk of its own */
        const cJSON *e = at[depth];
        if (!e) {
            depth--;
        } else {
            at[depth] = e->next;
            if (e->child) at[++depth] = e->child;
            else if (i < N) values[i++] = (float)e->valuedouble;
        }
    }
    cJSON_Delete(j);
    return od_now_ns() - from;
}

int main(int argc, char **argv)
{
    static const form forms[] = {
        {"levels, 0 to 255", "%.0f", 255, 0, false, false, false},
        {"3 digits", "%.3f", 4, -2, false, false, false},
        {"float32, 9 digits", "%.9g", 4, -2, true, false, true},
        {"float32 as float64, 17 digits", "%.17g", 4, -2, true, false, true},
        {"float64, 17 digits", "%.17g", 4, -2, false, false, true},
        {"float64, nested, blanks", "%.17g", 4, -2, false, true, true}};
    enum { AIM = 20 };
    int rounds = argc > 1 ? atoi(argv[1]) : 15;
    bool missed = false;
    od_arena a = {0};
    printf("| %d numbers, the best of %d turns | ms | MB/s | cJSON: parse, ms | with walk and free, ms | ratios |\n|---|---|---|---|---|---|\n", N, rounds);
    for (const form *f = forms; f < forms + OD_COUNT(forms); f++) {
        size_t len = write_text(f);
        int64_t ours = INT64_MAX, theirs = INT64_MAX, parse = INT64_MAX, ns;
        for (int i = 0; i < rounds; i++) {
            ours = od_min_i64(ours, scan(len, &a));
            theirs = od_min_i64(theirs, by_tree(len, &ns));
            parse = od_min_i64(parse, ns);
        }
        printf("| %s | %.2f | %.0f | %.2f | %.2f | %.1f, %.1f |\n", f->name, (double)ours / 1e6, (double)len * 1e3 / (double)ours,
               (double)parse / 1e6, (double)theirs / 1e6, (double)parse / (double)ours, (double)theirs / (double)ours);
        missed |= f->aim && parse < AIM * ours;
    }
    printf("target %d times the parse alone for float32 and float64: %s\n", AIM, missed ? "missed" : "met");
    od_arena_fini(&a);
    return missed;
}
