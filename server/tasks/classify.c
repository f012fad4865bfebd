/* classify.c - scores of classes.
 *
 * Decoders: "softmax" and "sigmoid" turn logits into scores, "probabilities" takes them as they are. A card with heads has
 * several such lists, each from its own output or from a part of one. */
#include "server/tasks/parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum scores { SCORES_SOFTMAX, SCORES_SIGMOID, SCORES_AS_THEY_ARE } scores;

static od_code scores_of(const srv_answer *w, scores *out)
{
    const char *name = w->card->decoder ? w->card->decoder : "softmax";
    if (!strcmp(name, "softmax")) *out = SCORES_SOFTMAX;
    else if (!strcmp(name, "sigmoid")) *out = SCORES_SIGMOID;
    else if (!strcmp(name, "probabilities")) *out = SCORES_AS_THEY_ARE;
    else
        return od_fail(w->st, OD_BAD_MODEL, "'decoder' is '%.40s'; for classify there are softmax, sigmoid, probabilities", name);
    return OD_OK;
}

ldr_card srv_head_card(const ldr_card *card, const struct ldr_card_head *h)
{
    ldr_card own = *card;
    if (!h) return own;
    own.decoder = h->decoder;
    own.labels = h->labels;
    own.n_labels = h->n_labels;
    return own;
}

/* What a head sees: its output, or the part of it that it has, as the only one, and a card of its own. `outputs` and `card` are
 * its storage. Extents that are free (at load) stay so. */
static od_code see_head(const srv_answer *w, const struct ldr_card_head *h, ldr_card *card, eng_tensor *output, srv_answer *out)
{
    *card = srv_head_card(w->card, h);
    *output = w->outputs[h->output];
    *out = *w;
    out->card = card;
    out->outputs = output;
    out->n_outputs = 1;
    if (!h->first && !h->count) return OD_OK;
    int64_t all = output->rank == 2 ? output->dims[1] : -1, n = h->count ? h->count : all - h->first;
    if (output->rank >= 0 && output->rank != 2) return od_fail(w->st, OD_BAD_SHAPE, "'first' and 'count' are for outputs of 2 extents, not %d", output->rank);
    if (all < 0 && !output->data) return OD_OK;
    if (n < 1 || h->first + n > all)
        return od_fail(w->st, OD_BAD_SHAPE, "%" PRId64 " classes from %" PRId64 " on of %" PRId64, n, h->first, all);
    output->dims[1] = n;
    if (output->data) output->data = (uint8_t *)output->data + (size_t)h->first * eng_dtype_size(output->dtype);
    return OD_OK;
}

static od_code check_classes(const srv_answer *w)
{
    scores kind = SCORES_SOFTMAX;
    const eng_tensor *t = &w->outputs[0];
    int64_t classes = 1, wide = 0;
    OD_TRY(scores_of(w, &kind));
    OD_TRY(srv_want_one(w));
    if (t->rank == 0) return od_fail(w->st, OD_BAD_SHAPE, "output 0 is one number; scores of classes are wanted");
    for (int d = 0; d < t->rank; d++) {
        if (t->dims[d] == 1 || (d == 0 && t->dims[d] < 0)) continue;
        classes = t->dims[d];
        wide++;
    }
    if (wide > 1) return srv_want(w, 0, 2, (int64_t[]){1, -1});
    return t->rank < 0 ? OD_OK : srv_check_labels(w, classes);
}

static od_code check(const srv_answer *w)
{
    ldr_card card;
    eng_tensor output;
    srv_answer own;
    if (!w->card->n_heads) return check_classes(w);
    for (int i = 0; i < w->card->n_heads; i++) {
        const struct ldr_card_head *h = &w->card->heads[i];
        od_code rc = see_head(w, h, &card, &output, &own);
        if (rc == OD_OK) rc = check_classes(&own);
        if (rc != OD_OK) return od_note(w->st, "head '%.60s'", h->name);
    }
    return OD_OK;
}

static void to_scores(const float *x, float *y, int64_t n, scores kind)
{
    float most = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, x[i]);
    for (int64_t i = 0; i < n; i++) {
        y[i] = kind == SCORES_SOFTMAX ? expf(x[i] - most) : kind == SCORES_SIGMOID ? srv_sigmoid(x[i]) : x[i];
        if (isnan(y[i])) y[i] = -INFINITY; /* last in every order, null in JSON */
        sum += (double)y[i];
    }
    if (kind == SCORES_SOFTMAX)
        for (int64_t i = 0; i < n; i++) y[i] = (float)((double)y[i] / sum);
}

/* The scores of a head's classes (NULL: of the only list), the mean of all views. NULL: the status is set. */
static float *mean_scores(const srv_answer *w, const struct ldr_card_head *h, int64_t *n)
{
    float *sum = NULL, *row = NULL;
    int64_t views = 0;
    for (const srv_answer *v = w; v; v = v->next) views++;
    for (const srv_answer *v = w; v; v = v->next) {
        ldr_card card;
        eng_tensor output;
        srv_answer own = *v;
        scores kind = SCORES_SOFTMAX;
        if ((h && see_head(v, h, &card, &output, &own) != OD_OK) || scores_of(&own, &kind) != OD_OK) return NULL;
        int64_t count = eng_tensor_count(&own.outputs[0]);
        const float *x = srv_floats(&own, 0);
        if (!x) return NULL;
        if (v == w) {
            *n = count;
            sum = od_arena_zalloc(w->a, (size_t)count * sizeof *sum);
            row = od_arena_array(w->a, float, count);
        }
        if (!sum || !row || count != *n) {
            od_fail(w->st, !sum || !row ? OD_NO_MEMORY : OD_BAD_SHAPE, "%" PRId64 " classes of one crop, %" PRId64 " of another", *n, count);
            return NULL;
        }
        if (!w->mean_of_outputs) to_scores(x, row, count, kind), x = row;
        for (int64_t i = 0; i < count; i++) sum[i] += x[i] / (float)views;
        if (w->mean_of_outputs && !v->next) to_scores(sum, sum, count, kind);
    }
    return sum;
}

od_code srv_class_score(const srv_answer *w, const struct ldr_card_head *h, int64_t *index, float *score)
{
    int64_t n, best = 0;
    const float *y = mean_scores(w, h, &n);
    if (!y) return w->st->code;
    if (*index >= n || n < 1) return od_fail(w->st, OD_BAD_ARGUMENT, "class is %" PRId64 "; the model has %" PRId64 " classes", *index, n);
    for (int64_t i = 1; i < n; i++)
        if (y[i] > y[best]) best = i;
    if (*index < 0) *index = best;
    *score = y[*index];
    return OD_OK;
}

typedef struct entry {
    float score;
    int64_t index;
} entry;

static int by_score(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* The list as JSON. */
static od_code add_classes(const srv_answer *w, const struct ldr_card_head *h)
{
    int64_t n;
    const float *y = mean_scores(w, h, &n);
    if (!y) return w->st->code;
    entry *list = od_arena_array(w->a, entry, n);
    if (!list) return od_fail(w->st, OD_NO_MEMORY, "%" PRId64 " classes", n);
    for (int64_t i = 0; i < n; i++) list[i] = (entry){y[i], i};
    qsort(list, (size_t)n, sizeof *list, by_score);
    ldr_card card = srv_head_card(w->card, h);
    srv_text_add(w->json, "[", 1);
    for (int64_t i = 0; i < n && i < w->top_k && (double)list[i].score >= w->score_threshold; i++) {
        srv_text_printf(w->json, "%s{", i ? "," : "");
        srv_add_class(w->json, &card, list[i].index, list[i].score);
        srv_text_add(w->json, "}", 1);
    }
    srv_text_add(w->json, "]", 1);
    return OD_OK;
}

static od_code answer(const srv_answer *w)
{
    srv_text_printf(w->json, w->card->n_heads ? "\"heads\":{" : "\"classes\":");
    if (!w->card->n_heads) return add_classes(w, NULL);
    for (int i = 0; i < w->card->n_heads; i++) {
        const struct ldr_card_head *h = &w->card->heads[i];
        if (i) srv_text_add(w->json, ",", 1);
        srv_text_json(w->json, h->name, strlen(h->name));
        srv_text_add(w->json, ":", 1);
        OD_TRY(add_classes(w, h));
    }
    srv_text_add(w->json, "}", 1);
    return OD_OK;
}

const srv_task srv_classify = {check, answer};
