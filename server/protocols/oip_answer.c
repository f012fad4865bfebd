/* oip_answer.c - the answer to an inference request: JSON, binary tensors behind it, classifications. */
#include "server/protocols/oip_infer.h"

#include "server/protocols/json_numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLASSIFY_MOST = 1000000 }; /* elements */

od_code srv_oip_choose_outputs(srv_infer *i, oip_request *q, od_status *st)
{
    const eng_graph *g = i->graph;
    if (!q->outputs || !q->n_outputs) {
        q->outputs = od_arena_array(&i->r->arena, oip_output, i->n_outputs);
        if (!q->outputs) return od_fail(st, OD_NO_MEMORY, "no memory for %d outputs", i->n_outputs);
        q->n_outputs = 0;
        for (int k = 0; k < i->n_outputs; k++)
            if (i->wanted[k]) q->outputs[q->n_outputs++] = (oip_output){.index = k, .binary = -1};
    }
    memset(i->wanted, 0, (size_t)i->n_outputs * sizeof *i->wanted);
    for (int k = 0; k < q->n_outputs; k++) {
        oip_output *o = &q->outputs[k];
        const eng_value *v = &g->values[g->outputs[o->index]];
        if (*srv_datatype_name(v->dtype) == '?' && v->dtype)
            return od_fail(st, OD_UNSUPPORTED, "output '%.100s' is a %s, for which the protocol has no datatype", v->name, eng_dtype_name(v->dtype));
        if (o->classes && v->dtype == ENG_STRING) return od_fail(st, OD_BAD_ARGUMENT, "output '%.100s' is text: it has no classification", v->name);
        if (o->binary < 0) o->binary = q->binary;
        i->wanted[o->index] = true;
    }
    return OD_OK;
}

typedef struct scored {
    double value;
    int64_t index;
} scored;

/* Larger first, then the lower index; NaN last. */
static int by_value(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    bool nan_x = isnan(x->value), nan_y = isnan(y->value);
    if (nan_x != nan_y) return nan_x ? 1 : -1;
    if (x->value != y->value && !nan_x) return x->value < y->value ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

/* "value:index:label" of one element. */
static od_code class_text(srv_infer *i, const eng_tensor *t, int64_t from, scored best, eng_str *out, od_status *st)
{
    const ldr_card *card = i->model->card;
    const char *label = card && card->labels && best.index < card->n_labels ? card->labels[best.index] : NULL;
    bool whole = (ENG_T(t->dtype) & (ENG_T_INT | ENG_T(ENG_BOOL))) != 0;
    size_t cap = 400 + (label ? strlen(label) : 0); /* %f of a double has up to 317 characters */
    char *text = od_arena_alloc(&i->r->arena, cap);
    if (!text) return od_fail(st, OD_NO_MEMORY, "no memory for classes");
    int n = whole ? snprintf(text, cap, "%" PRId64, eng_tensor_int(t, from + best.index)) : snprintf(text, cap, "%f", best.value);
    n += snprintf(text + n, cap - (size_t)n, ":%" PRId64 "%s%s", best.index, label ? ":" : "", label ? label : "");
    *out = (eng_str){text, (size_t)n};
    return OD_OK;
}

/* Replace a tensor by the texts of its `k` largest elements an item. */
static od_code classify(srv_infer *i, const eng_tensor *t, int64_t k, eng_tensor *out, od_status *st)
{
    const eng_value *v = &i->graph->values[i->graph->inputs[0]];
    bool batched = t->rank > 1 && i->graph->n_inputs && v->rank > 0 && v->dims[0] < 0;
    int64_t n = eng_tensor_count(t), items = batched ? t->dims[0] : 1, each = items ? n / items : 0;
    if (n > CLASSIFY_MOST) return od_fail(st, OD_TOO_LARGE, "classification of %" PRId64 " elements: at most %d", n, CLASSIFY_MOST);
    k = od_min_i64(k, each);
    scored *s = od_arena_array(&i->r->arena, scored, each);
    eng_str *texts = od_arena_array(&i->r->arena, eng_str, items * k);
    if (!s || !texts) return od_fail(st, OD_NO_MEMORY, "no memory to classify %" PRId64 " elements", n);
    for (int64_t item = 0; item < items; item++) {
        for (int64_t e = 0; e < each; e++) s[e] = (scored){eng_tensor_double(t, item * each + e), e};
        qsort(s, (size_t)each, sizeof *s, by_value);
        for (int64_t e = 0; e < k; e++) OD_TRY(class_text(i, t, item * each, s[e], &texts[item * k + e], st));
    }
    *out = (eng_tensor){.dtype = ENG_STRING, .rank = batched ? 2 : 1, .dims = {batched ? items : k, k}, .data = texts};
    return OD_OK;
}

static od_code add_output(srv_infer *i, const oip_output *o, od_status *st)
{
    srv_request *r = i->r;
    srv_text *text = &r->reply.body;
    const char *name = i->graph->values[i->graph->outputs[o->index]].name;
    eng_tensor t = i->job.outputs[o->index];
    if (o->classes) OD_TRY(classify(i, &t, o->classes, &t, st));
    if (*srv_datatype_name(t.dtype) == '?')
        return od_fail(st, OD_UNSUPPORTED, "output '%.100s' is a %s, for which the protocol has no datatype", name, eng_dtype_name(t.dtype));
    srv_text_add(text, "{\"name\":", 8);
    srv_text_json(text, name, strlen(name));
    srv_text_add(text, ",\"datatype\":\"", 13);
    srv_text_add(text, srv_datatype_name(t.dtype), strlen(srv_datatype_name(t.dtype)));
    srv_text_add(text, "\",\"shape\":", 10);
    srv_text_dims(text, t.rank, t.dims);
    if (o->binary) {
        srv_piece *piece = &r->reply.pieces[r->reply.n_pieces++];
        char number[24];
        OD_TRY(srv_tensor_to_binary(r, &t, piece, st));
        srv_text_add(text, ",\"parameters\":{\"binary_data_size\":", 34);
        srv_text_add(text, number, (size_t)(srv_print_int(number, (int64_t)piece->len) - number));
        srv_text_add(text, "}}", 2);
    } else { /* no "parameters": some clients then look for binary data */
        srv_text_add(text, ",\"data\":[", 9);
        srv_text_elements(text, &t, 0, eng_tensor_count(&t));
        srv_text_add(text, "]}", 2);
    }
    return OD_OK;
}

static od_code add_all(srv_infer *i, const oip_request *q, od_status *st)
{
    srv_request *r = i->r;
    srv_text *text = &r->reply.body;
    *text = (srv_text){.arena = &r->arena};
    r->reply.pieces = od_arena_array(&r->arena, srv_piece, q->n_outputs);
    if (!r->reply.pieces) return od_fail(st, OD_NO_MEMORY, "no memory for %d outputs", q->n_outputs);
    srv_text_add(text, "{\"model_name\":", 14);
    srv_text_json(text, i->model->name, strlen(i->model->name));
    char version[24], *end = srv_print_int(version, i->model->version);
    srv_text_add(text, ",\"model_version\":\"", 18);
    srv_text_add(text, version, (size_t)(end - version));
    srv_text_add(text, "\"", 1);
    if (q->has_id) {
        srv_text_add(text, ",\"id\":", 6);
        srv_text_json(text, q->id.ptr, q->id.len);
    }
    srv_text_add(text, ",\"outputs\":[", 12);
    for (int k = 0; k < q->n_outputs; k++) {
        if (k) srv_text_add(text, ",", 1);
        OD_TRY(add_output(i, &q->outputs[k], st));
    }
    srv_text_add(text, "]}", 2);
    return OD_OK;
}

void srv_oip_answer(srv_infer *i)
{
    srv_request *r = i->r;
    od_status st = {0};
    if (add_all(i, i->arg, &st) != OD_OK) {
        srv_infer_fail(i, &st);
        return;
    }
    if (r->reply.n_pieces) {
        r->reply.tensors = true;
        r->reply.type = "application/octet-stream";
    }
    srv_infer_answered(i);
}
