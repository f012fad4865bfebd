/* schema.c - nodes against the table of what their operators may have. */
#include "engine/schema.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    char letter;
    const char *name;
} kinds[] = {
    [ENG_ATTR_INT] = {'i', "an integer"},        [ENG_ATTR_INTS] = {'I', "a list of integers"},
    [ENG_ATTR_FLOAT] = {'f', "a float"},         [ENG_ATTR_FLOATS] = {'F', "a list of floats"},
    [ENG_ATTR_STRING] = {'s', "a string"},       [ENG_ATTR_STRINGS] = {'S', "a list of strings"},
    [ENG_ATTR_TENSOR] = {'t', "a tensor"},       [ENG_ATTR_TENSORS] = {'T', "a list of tensors"},
    [ENG_ATTR_GRAPH] = {'g', "a graph"},         [ENG_ATTR_GRAPHS] = {'G', "a list of graphs"},
};

static int by_name(const void *name, const void *schema)
{
    return strcmp(name, ((const eng_schema *)schema)->name);
}

static const eng_schema *find(const eng_node *n)
{
    const eng_schema *s = bsearch(n->op_type, eng_schemas, (size_t)eng_schemas_count, sizeof *s, by_name), *best = NULL;
    const eng_schema *end = eng_schemas + eng_schemas_count;
    while (s && s > eng_schemas && !strcmp(s[-1].name, n->op_type)) s--;
    for (; s && s < end && !strcmp(s->name, n->op_type); s++)
        if (s->domain == n->domain && s->since <= n->opset) best = s; /* they come by since */
    return best;
}

static od_code check_count(const char *what, int have, int min, int max, od_status *st)
{
    if (have >= min && (have <= max || max == UINT8_MAX)) return OD_OK;
    if (max == UINT8_MAX) return od_fail(st, OD_BAD_MODEL, "%d %s, wanted at least %d", have, what, min);
    if (min == max) return od_fail(st, OD_BAD_MODEL, "%d %s, wanted %d", have, what, min);
    return od_fail(st, OD_BAD_MODEL, "%d %s, wanted %d to %d", have, what, min, max);
}

/* What follows "name:" in the list of attributes; NULL: it is not there. */
static const char *declared(const char *attrs, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = attrs; *at; at += strcspn(at, " "), at += *at == ' ')
        if (!strncmp(at, name, len) && at[len] == ':') return at + len + 1;
    return NULL;
}

static od_code check_attr(const eng_schema *s, const eng_attr *a, od_status *st)
{
    const char *want = declared(s->attrs, a->name);
    if (!want && !strncmp(a->name, "__", 2)) return OD_OK; /* tools leave notes under such names */
    if (!want) return od_fail(st, OD_BAD_MODEL, "attribute '%.60s' is none of this operator's", a->name);
    if (kinds[a->kind].letter == *want) return OD_OK;
    /* a list without entries has no kind in files older than that field */
    if (isupper((unsigned char)*want) && isupper((unsigned char)kinds[a->kind].letter) && !a->n) return OD_OK;
    for (size_t k = 0; k < OD_COUNT(kinds); k++)
        if (kinds[k].letter == *want)
            return od_fail(st, OD_BAD_MODEL, "attribute '%.60s' is %s, wanted %s", a->name, kinds[a->kind].name, kinds[k].name);
    return OD_OK;
}

/* Omitted ones at the end do not count. */
static int present(const int *ports, int n)
{
    while (n > 0 && ports[n - 1] < 0) n--;
    return n;
}

od_code eng_schema_check(const eng_node *n, od_status *st)
{
    const eng_schema *s = find(n);
    if (!s) return OD_OK;
    OD_TRY(check_count("inputs", present(n->in, n->n_in), s->min_in, s->max_in, st));
    OD_TRY(check_count("outputs", present(n->out, n->n_out), s->min_out, s->max_out, st));
    for (int i = 0; i < n->n_attrs; i++) OD_TRY(check_attr(s, &n->attrs[i], st));
    for (const char *at = s->attrs; *at; at += strcspn(at, " "), at += *at == ' ') {
        size_t len = strcspn(at, ":");
        bool there = at[len + 2] != '!';
        for (int i = 0; i < n->n_attrs && !there; i++)
            there = !strncmp(n->attrs[i].name, at, len) && !n->attrs[i].name[len];
        if (!there) return od_fail(st, OD_BAD_MODEL, "attribute '%.*s' is missing", (int)len, at);
    }
    return OD_OK;
}
