/* fuzz_run.c - any bytes as a model that is run: on small inputs of what shapes it declares, within a
 * bound on memory. Numbers are not looked at; memory is, by the sanitizers. */
#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "engine/session.h"
#include "loaders/onnx.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_INPUTS = 8, MOST_ELEMENTS = 4096 };

static int64_t deadline;

static bool too_late(void *arg)
{
    (void)arg;
    return od_now_ns() > deadline;
}

/* false: no small input of this declaration can be made up. */
static bool make_input(const eng_value *v, od_arena *a, eng_tensor *t)
{
    *t = (eng_tensor){.dtype = v->dtype, .rank = v->rank};
    if (v->rank < 0 || v->dtype == ENG_UNDEFINED || v->dtype == ENG_STRING || v->dtype >= ENG_SEQUENCE) return false;
    int64_t count = 1;
    for (int d = 0; d < v->rank; d++) {
        t->dims[d] = v->dims[d] < 0 ? 2 : v->dims[d];
        if (!od_mul_i64(count, t->dims[d], &count) || count > MOST_ELEMENTS) return false;
    }
    if (v->constant) return true; /* runs on its default */
    size_t bytes = eng_tensor_bytes(t);
    unsigned char *p = t->data = od_arena_zalloc(a, bytes);
    for (size_t i = 0; i < bytes; i += eng_dtype_size(t->dtype)) p[i] = (unsigned char)(i / 3 & 1);
    return true;
}

static void run(eng_model *m, od_arena *a)
{
    od_status st = {0};
    const eng_graph *g = m->graph;
    eng_session *s = NULL;
    eng_tensor in[MOST_INPUTS], *out = calloc((size_t)g->n_outputs + 1, sizeof *out);
    if (g->n_inputs > MOST_INPUTS || !out) goto done;
    for (int i = 0; i < g->n_inputs; i++)
        if (!make_input(&g->values[g->inputs[i]], a, &in[i])) goto done;
    if (eng_session_create(&s, m, NULL, (size_t)64 << 20, &st) != OD_OK) goto done;
    deadline = od_now_ns() + 2000000000;
    eng_session_set_cancel(s, too_late, NULL);
    for (int i = 0; i < 2; i++) { /* the second run has a plan already */
        od_code rc = eng_session_run(s, in, out, &st);
        fuzz_check(rc == OD_OK || (st.code == rc && st.msg[0]));
    }
done:
    eng_session_destroy(s);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    od_status st = {0};
    od_arena a = {0};
    eng_model *m = NULL;
    od_log_level(OD_SILENT);
    if (ldr_onnx_load_bytes(data, size, NULL, NULL, &m, &st) == OD_OK) run(m, &a);
    eng_model_destroy(m);
    od_arena_fini(&a);
    return 0;
}
