#include "server/cli/cli.h"
#include "server/store/scan.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *srv_args_word(srv_args *a)
{
    if (a->at >= a->argc) return NULL;
    const char *w = a->argv[a->at];
    if (w[0] == '-' && w[1]) return NULL;
    a->at++;
    return w;
}

bool srv_args_flag(srv_args *a, const char *name)
{
    size_t len = strlen(name);
    if (a->at >= a->argc || strncmp(a->argv[a->at], name, len)) return false;
    const char *rest = a->argv[a->at] + len;
    if (*rest && *rest != '=') return false;
    a->value = *rest ? rest + 1 : NULL;
    a->at++;
    return true;
}

const char *srv_args_text(srv_args *a, const char *name)
{
    if (a->value) return a->value;
    if (a->at < a->argc) return a->argv[a->at++];
    fprintf(stderr, "onnxd: %s needs a value\n", name);
    a->failed = true;
    return "";
}

int64_t srv_args_int(srv_args *a, const char *name, int64_t lo, int64_t hi)
{
    const char *text = srv_args_text(a, name);
    char *end;
    if (a->failed) return lo;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (!errno && end != text && !*end && n >= lo && n <= hi) return n;
    fprintf(stderr, "onnxd: %s %s: a whole number from %" PRId64 " to %" PRId64 " is wanted\n", name, text, lo, hi);
    a->failed = true;
    return lo;
}

double srv_args_number(srv_args *a, const char *name, double lo, double hi)
{
    const char *text = srv_args_text(a, name);
    char *end;
    if (a->failed) return lo;
    double x = strtod(text, &end);
    if (end != text && !*end && x >= lo && x <= hi) return x;
    fprintf(stderr, "onnxd: %s %s: a number from %g to %g is wanted\n", name, text, lo, hi);
    a->failed = true;
    return lo;
}

eng_load_options srv_cli_load_options(void)
{
    const char *folder = getenv("ONNXD_PACK_CACHE");
    return (eng_load_options){.pack_cache = folder && *folder ? folder : NULL};
}

bool srv_args_load(srv_args *a, eng_load_options *load)
{
    if (srv_args_flag(a, "--pack-cache")) load->pack_cache = srv_args_text(a, "--pack-cache");
    else if (srv_args_flag(a, "--disable-passes")) load->disabled_passes = srv_args_text(a, "--disable-passes");
    else if (srv_args_flag(a, "--tune")) load->tune = true;
    else if (srv_args_flag(a, "--no-passes")) load->keep_graph = true;
    else return false;
    return true;
}

void srv_args_unknown(srv_args *a)
{
    fprintf(stderr, "onnxd: '%s' fits nothing here; --help lists what does\n", a->argv[a->at]);
    a->failed = true;
}

int srv_cli_fail(const od_status *st)
{
    fprintf(stderr, "onnxd: %s\n", st->msg);
    return 1;
}

od_code srv_cli_find_model(const char **model, od_status *st)
{
    static char path[4096 + 256];
    struct stat info;
    srv_scan s;
    if (stat(*model, &info) || !S_ISDIR(info.st_mode)) return OD_OK; /* whoever opens the file says what is wrong */
    OD_TRY(srv_scan_model(*model, "model", &s, st));
    od_code rc = OD_OK;
    if (!s.n) rc = od_fail(st, OD_NOT_FOUND, "%s: no .onnx file in this folder", *model);
    else if (!s.found[0].path) rc = od_fail(st, OD_NOT_FOUND, "%s: %s", *model, s.found[0].problem);
    else if ((size_t)snprintf(path, sizeof path, "%s", s.found[0].path) < sizeof path) *model = path;
    srv_scan_fini(&s);
    return rc;
}

/* The extents that a line "NAME=1x3x224x224" gives for `name`; their number, 0: none. */
static int given_shape(const char *name, const char *const *shapes, int n_shapes, int64_t *dims)
{
    size_t len = strlen(name);
    for (int i = 0; i < n_shapes; i++) {
        if (strncmp(shapes[i], name, len) || shapes[i][len] != '=') continue;
        const char *at = shapes[i] + len + 1;
        int rank = 0;
        while (rank < ENG_MAX_RANK) {
            char *end;
            dims[rank++] = strtoll(at, &end, 10);
            if (end == at || *end != 'x') break;
            at = end + 1;
        }
        return rank;
    }
    return 0;
}

static od_code input_shape(const eng_value *v, const char *const *shapes, int n_shapes, int64_t batch, eng_tensor *t,
                           od_status *st)
{
    int64_t given[ENG_MAX_RANK], count;
    int rank = given_shape(v->name, shapes, n_shapes, given);
    *t = (eng_tensor){.dtype = v->dtype, .rank = v->rank};
    if (rank) {
        t->rank = rank;
        memcpy(t->dims, given, (size_t)rank * sizeof *given);
    } else if (v->rank < 0) {
        return od_fail(st, OD_BAD_ARGUMENT, "input '%s' has no declared rank: give --shape %s=...", v->name, v->name);
    } else {
        for (int d = 0; d < v->rank; d++) {
            t->dims[d] = v->dims[d];
            if (t->dims[d] < 0) t->dims[d] = d == 0 ? batch : v->rank == 4 && d >= 2 ? 224 : 1;
        }
    }
    if (!eng_dims_count(t->rank, t->dims, &count))
        return od_fail(st, OD_BAD_SHAPE, "input '%s': an impossible shape", v->name);
    return OD_OK;
}

/* Numbers between -1 and 1, or small whole ones, from a counter. */
static void fill(eng_tensor *t)
{
    int64_t n = eng_tensor_count(t);
    uint32_t x = 2463534242u;
    for (int64_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        float f = (float)(x >> 8) / 8388608.0f - 1.0f;
        switch (t->dtype) {
        case ENG_FLOAT: ((float *)t->data)[i] = f; break;
        case ENG_DOUBLE: ((double *)t->data)[i] = (double)f; break;
        case ENG_INT64: ((int64_t *)t->data)[i] = x >> 31; break;
        case ENG_INT32: ((int32_t *)t->data)[i] = (int32_t)(x >> 31); break;
        case ENG_UINT8: ((uint8_t *)t->data)[i] = (uint8_t)(x >> 24); break;
        case ENG_INT8: ((int8_t *)t->data)[i] = (int8_t)(x >> 25); break;
        case ENG_BOOL: ((uint8_t *)t->data)[i] = (uint8_t)(x >> 31); break;
        case ENG_FLOAT16: ((uint16_t *)t->data)[i] = (uint16_t)(0x3000u + (x >> 22)); break; /* 0.125 to 0.25 */
        default: break; /* stays zero */
        }
    }
}

od_code srv_cli_make_inputs(const eng_model *m, const char *const *shapes, int n_shapes, int64_t batch, od_arena *arena,
                            eng_tensor *inputs, od_status *st)
{
    const eng_graph *g = m->graph;
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        if (v->constant) { /* runs on its default */
            inputs[i] = *v->constant;
            inputs[i].data = NULL;
            continue;
        }
        if (v->dtype == ENG_STRING || v->dtype >= ENG_SEQUENCE || !v->dtype)
            return od_fail(st, OD_UNSUPPORTED, "input '%s' is %s: made-up input can be numbers only", v->name,
                           eng_dtype_name(v->dtype));
        OD_TRY(input_shape(v, shapes, n_shapes, batch, &inputs[i], st));
        inputs[i].data = od_arena_zalloc(arena, eng_tensor_bytes(&inputs[i]));
        if (!inputs[i].data) return od_fail(st, OD_NO_MEMORY, "input '%s': %zu bytes", v->name, eng_tensor_bytes(&inputs[i]));
        fill(&inputs[i]);
    }
    return OD_OK;
}
