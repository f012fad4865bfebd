/* text.c - operators on strings: joining, splitting, normalizing, matching. */
#include "engine/ops/elementwise.h"
#include "engine/ops/ops.h"
#include "engine/ops/regex.h"
#include "engine/ops/utf8.h"

#include <string.h>

static od_code string_in(const eng_ctx *c, int i, od_status *st)
{
    if (i >= c->n_in || !c->in[i]) return od_fail(st, OD_BAD_MODEL, "input %d is missing", i);
    if (c->in[i]->dtype == ENG_STRING) return OD_OK;
    return od_fail(st, OD_BAD_TYPE, "input %d is %s, wanted string", i, eng_dtype_name(c->in[i]->dtype));
}

/* ---- StringConcat ------------------------------------------------------------------------- */

od_code eng_string_concat_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(string_in(c, 0, st));
    OD_TRY(string_in(c, 1, st));
    return eng_infer_broadcast(c, st);
}

typedef struct concat_job {
    eng_ctx *c;
    bool full;
} concat_job;

static void concat_row(void *arg, int64_t n, char *const *p, const int64_t *step)
{
    concat_job *j = arg;
    for (int64_t i = 0; i < n && !j->full; i++) {
        const eng_str *a = (const eng_str *)(const void *)p[1] + i * step[1], *b = (const eng_str *)(const void *)p[2] + i * step[2];
        eng_str *out = (eng_str *)(void *)p[0] + i * step[0];
        char *text = eng_run_alloc(j->c, a->len + b->len);
        if (!text) {
            j->full = true;
            return;
        }
        if (a->len) memcpy(text, a->ptr, a->len);
        if (b->len) memcpy(text + a->len, b->ptr, b->len);
        *out = (eng_str){text, a->len + b->len};
    }
}

od_code eng_string_concat_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *t[] = {c->out[0], c->in[0], c->in[1]};
    concat_job j = {.c = c};
    eng_walk w;
    eng_walk_init(&w, 3, t);
    eng_walk_run(&w, NULL, 1, concat_row, &j); /* allocates, so on this thread alone */
    return j.full ? od_fail(st, OD_NO_MEMORY, "no memory for joined strings") : OD_OK;
}

/* ---- StringSplit -------------------------------------------------------------------------- */

static bool is_space(char ch)
{
    return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* The pieces of `s` into out[] unless it is NULL; how many there are. `most` splits are made at most. */
static int64_t split(eng_str s, eng_str by, int64_t most, eng_str *out)
{
    int64_t n = 0;
    const char *at = s.ptr, *end = s.len ? s.ptr + s.len : s.ptr;
    if (!s.len) return 0;
    for (;;) {
        const char *stop = end, *next = NULL;
        if (!by.len)
            while (at < end && is_space(*at)) at++;
        if (!by.len && at == end) return n;
        if (n < most) {
            if (by.len) {
                stop = memmem(at, (size_t)(end - at), by.ptr, by.len);
                if (stop) next = stop + by.len;
                else stop = end;
            } else {
                for (stop = at; stop < end && !is_space(*stop);) stop++;
                if (stop < end) next = stop;
            }
        }
        if (out) out[n] = (eng_str){at, (size_t)(stop - at)};
        n++;
        if (!next) return n;
        at = next;
    }
}

static void split_attrs(const eng_ctx *c, eng_str *by, int64_t *most)
{
    const eng_attr *a = eng_node_attr(c->node, "delimiter");
    *by = a ? a->s : (eng_str){"", 0};
    *most = eng_node_int(c->node, "maxsplit", INT64_MAX);
    if (*most < 0) *most = INT64_MAX;
}

od_code eng_string_split_infer(eng_ctx *c, od_status *st)
{
    eng_str by;
    int64_t most, widest = 0, dims[ENG_MAX_RANK + 1];
    OD_TRY(string_in(c, 0, st));
    OD_TRY(eng_need(c, 0));
    const eng_tensor *x = c->in[0];
    split_attrs(c, &by, &most);
    for (int64_t i = 0; i < eng_tensor_count(x); i++)
        widest = od_max_i64(widest, split(((const eng_str *)x->data)[i], by, most, NULL));
    memcpy(dims, x->dims, sizeof x->dims);
    dims[x->rank] = widest;
    OD_TRY(eng_set_out(c, 0, ENG_STRING, x->rank + 1, dims, st));
    return eng_set_out(c, 1, ENG_INT64, x->rank, x->dims, st);
}

od_code eng_string_split_run(eng_ctx *c, od_status *st)
{
    eng_str by, *y = c->out[0] ? c->out[0]->data : NULL;
    int64_t most, *z = c->n_out > 1 && c->out[1] ? c->out[1]->data : NULL;
    const eng_tensor *x = c->in[0];
    int64_t width = c->out[0] ? c->out[0]->dims[x->rank] : 0;
    (void)st;
    split_attrs(c, &by, &most);
    for (int64_t i = 0; i < eng_tensor_count(x); i++) {
        int64_t n = split(((const eng_str *)x->data)[i], by, most, y ? y + i * width : NULL);
        for (int64_t k = n; y && k < width; k++) y[i * width + k] = (eng_str){"", 0};
        if (z) z[i] = n;
    }
    return OD_OK;
}

/* ---- StringNormalizer --------------------------------------------------------------------- */

/* `s` in upper or lower case, bytes from `a`: the worst case is 3 for each (a byte that is no UTF-8). */
static od_code with_case(eng_str s, bool upper, od_arena *a, eng_str *out, od_status *st)
{
    size_t size;
    char *to = od_mul(s.len, 4, &size) ? od_arena_alloc(a, size) : NULL;
    if (!to) return od_fail(st, OD_NO_MEMORY, "no memory for a string of %zu bytes", s.len);
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        uint32_t code;
        i += (size_t)eng_utf8_next(s.ptr + i, s.len - i, &code);
        n += (size_t)eng_utf8_put(to + n, eng_utf8_case(code, upper));
    }
    *out = (eng_str){to, n};
    return OD_OK;
}

static bool same_text(eng_str a, eng_str b)
{
    return a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, a.len));
}

/* Which elements of `x` stay, and how many. */
static od_code find_kept(eng_ctx *c, const eng_tensor *x, bool *kept, int64_t *count, od_status *st)
{
    const eng_attr *stop = eng_node_attr(c->node, "stopwords");
    bool exact = eng_node_int(c->node, "is_case_sensitive", 0) != 0;
    int64_t n_stop = stop ? stop->n : 0;
    eng_str *words = od_arena_array(c->scratch, eng_str, n_stop);
    if (!words) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " stop words", n_stop);
    for (int64_t k = 0; k < n_stop; k++) {
        words[k] = stop->strings[k];
        if (!exact) OD_TRY(with_case(words[k], false, c->scratch, &words[k], st));
    }
    *count = 0;
    for (int64_t i = 0; i < eng_tensor_count(x); i++) {
        od_arena_mark mark = od_arena_save(c->scratch);
        eng_str s = ((const eng_str *)x->data)[i];
        if (!exact && n_stop) OD_TRY(with_case(s, false, c->scratch, &s, st));
        kept[i] = true;
        for (int64_t k = 0; k < n_stop && kept[i]; k++) kept[i] = !same_text(s, words[k]);
        *count += kept[i];
        od_arena_rewind(c->scratch, mark);
    }
    return OD_OK;
}

od_code eng_string_normalizer_infer(eng_ctx *c, od_status *st)
{
    int64_t count;
    OD_TRY(string_in(c, 0, st));
    const eng_tensor *x = c->in[0];
    if (x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1))
        return od_fail(st, OD_BAD_SHAPE, "input 0 has rank %d: [C] or [1,C] is wanted", x->rank);
    OD_TRY(eng_need(c, 0));
    bool *kept = od_arena_array(c->scratch, bool, eng_tensor_count(x));
    if (!kept) return od_fail(st, OD_NO_MEMORY, "no memory for a list of words");
    OD_TRY(find_kept(c, x, kept, &count, st));
    int64_t dims[2] = {1, count ? count : 1};
    return eng_set_out(c, 0, ENG_STRING, x->rank, dims + 2 - x->rank, st);
}

od_code eng_string_normalizer_run(eng_ctx *c, od_status *st)
{
    const eng_tensor *x = c->in[0];
    int64_t count, n = 0;
    bool upper = eng_node_string_is(c->node, "case_change_action", "NONE", "UPPER");
    bool lower = eng_node_string_is(c->node, "case_change_action", "NONE", "LOWER");
    if (!upper && !lower && !eng_node_string_is(c->node, "case_change_action", "NONE", "NONE"))
        return od_fail(st, OD_BAD_ARGUMENT, "case_change_action is neither NONE, LOWER nor UPPER");
    bool *kept = od_arena_array(c->scratch, bool, eng_tensor_count(x));
    if (!kept) return od_fail(st, OD_NO_MEMORY, "no memory for a list of words");
    OD_TRY(find_kept(c, x, kept, &count, st));
    eng_str *out = c->out[0]->data;
    out[0] = (eng_str){"", 0};
    for (int64_t i = 0; i < eng_tensor_count(x); i++) {
        eng_str s = ((const eng_str *)x->data)[i];
        if (!kept[i]) continue;
        if (upper || lower) OD_TRY(with_case(s, upper, c->memory, &s, st));
        out[n++] = s;
    }
    return OD_OK;
}

/* ---- RegexFullMatch ----------------------------------------------------------------------- */

od_code eng_regex_prepare(eng_graph *g, eng_node *n, od_pool *pool, od_status *st)
{
    (void)pool;
    eng_regex *r;
    const eng_attr *pattern = eng_node_attr(n, "pattern");
    if (!pattern) return od_fail(st, OD_BAD_MODEL, "attribute pattern is missing");
    if (!n->params) {
        OD_TRY(eng_regex_compile(&r, pattern->s, &g->model->arena, st));
        n->params = r;
    }
    return OD_OK;
}

od_code eng_regex_infer(eng_ctx *c, od_status *st)
{
    OD_TRY(string_in(c, 0, st));
    return eng_set_out(c, 0, ENG_BOOL, c->in[0]->rank, c->in[0]->dims, st);
}

od_code eng_regex_run(eng_ctx *c, od_status *st)
{
    const eng_regex *r = c->node->params;
    uint8_t *out = c->out[0]->data;
    for (int64_t i = 0; i < eng_tensor_count(c->in[0]); i++) {
        bool matches;
        od_arena_mark mark = od_arena_save(c->scratch);
        OD_TRY(eng_regex_matches(r, ((const eng_str *)c->in[0]->data)[i], c->scratch, &matches, st));
        od_arena_rewind(c->scratch, mark);
        out[i] = matches;
    }
    return OD_OK;
}
