/* answer.c - what decoders of all tasks need. */
#include "server/tasks/parts.h"

#include <stdio.h>
#include <string.h>

static void shape_text(int rank, const int64_t *dims, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (int d = 0; d < rank && at + 24 < size; d++) {
        if (dims[d] < 0) at += (size_t)snprintf(text + at, size - at, "%sany", d ? "x" : "");
        else at += (size_t)snprintf(text + at, size - at, "%s%" PRId64, d ? "x" : "", dims[d]);
    }
}

od_code srv_want(const srv_answer *w, int i, int rank, const int64_t *dims)
{
    const eng_tensor *t = &w->outputs[i];
    bool fits = t->rank < 0 || t->rank == rank;
    for (int d = 0; fits && d < t->rank; d++) fits = dims[d] < 0 || t->dims[d] < 0 || t->dims[d] == dims[d];
    if (fits) return OD_OK;
    char have[100], want[100];
    shape_text(t->rank, t->dims, have, sizeof have);
    shape_text(rank, dims, want, sizeof want);
    const char *decoder = w->card->decoder;
    return od_fail(w->st, OD_BAD_SHAPE, "%s%s%soutput %d has extents %s; %s is wanted", decoder ? "decoder '" : "", decoder ? decoder : "",
                   decoder ? "': " : "", i, have, want);
}

od_code srv_want_one(const srv_answer *w)
{
    if (!w->card->outputs || w->n_outputs == 1) return OD_OK;
    return od_fail(w->st, OD_BAD_MODEL, "'outputs' are %d; one is read", w->n_outputs);
}

const float *srv_floats(const srv_answer *w, int i)
{
    const eng_tensor *t = &w->outputs[i];
    if (t->dtype == ENG_FLOAT) return t->data;
    int64_t n = eng_tensor_count(t);
    if (!(ENG_T(t->dtype) & ENG_T_NUMERIC) && t->dtype != ENG_BOOL) {
        od_fail(w->st, OD_BAD_TYPE, "output %d is %s; numbers are wanted", i, eng_dtype_name(t->dtype));
        return NULL;
    }
    float *to = od_arena_array(w->a, float, n);
    if (!to) {
        od_fail(w->st, OD_NO_MEMORY, "output %d: %" PRId64 " numbers", i, n);
        return NULL;
    }
    for (int64_t k = 0; k < n; k++) to[k] = (float)eng_tensor_double(t, k);
    return to;
}

void srv_add_array(srv_text *json, const float *x, int64_t n)
{
    srv_text_add(json, "[", 1);
    for (int64_t i = 0; i < n; i++) {
        if (i) srv_text_add(json, ",", 1);
        srv_text_float(json, x[i]);
    }
    srv_text_add(json, "]", 1);
}

void srv_add_floats(const srv_answer *w, const float *x, int rank, const int64_t *dims)
{
    int64_t n = 1;
    srv_text_printf(w->json, "\"shape\":[");
    for (int d = 0; d < rank; n *= dims[d++]) srv_text_printf(w->json, "%s%" PRId64, d ? "," : "", dims[d]);
    srv_text_printf(w->json, "],\"datatype\":\"FP32\",");
    if (w->format == SRV_FORMAT_BASE64) {
        srv_text_printf(w->json, "\"base64\":");
        srv_add_base64(w->json, x, (size_t)n * sizeof *x);
    } else {
        srv_text_printf(w->json, "\"data\":");
        srv_add_array(w->json, x, n);
    }
}

od_code srv_check_labels(const srv_answer *w, int64_t classes)
{
    if (!w->card->labels || classes < 1 || w->card->n_labels == classes) return OD_OK;
    return od_fail(w->st, OD_BAD_MODEL, "'labels' are %d; the model has %" PRId64 " classes", w->card->n_labels, classes);
}

void srv_add_label(srv_text *json, const ldr_card *card, int64_t i)
{
    srv_text_printf(json, "\"label\":");
    if (i >= 0 && i < card->n_labels) srv_text_json(json, card->labels[i], strlen(card->labels[i]));
    else srv_text_add(json, "null", 4);
    srv_text_printf(json, ",\"index\":%" PRId64, i);
}

void srv_add_class(srv_text *json, const ldr_card *card, int64_t i, float score)
{
    srv_add_label(json, card, i);
    srv_text_printf(json, ",\"score\":");
    srv_text_float(json, score);
}
