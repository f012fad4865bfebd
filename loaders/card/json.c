/* json.c - model.json into a card and back, by the tables of fields.c. */
#include "loaders/card/parts.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS_FILE_MAX = 16 << 20, PARAM_VALUES_MAX = 100000, THEN_MAX = 16, HEADS_MAX = 64 };

typedef struct reader {
    const eng_model *m;
    const char *model_path;
    od_arena *a;
    ldr_card *card;
    void *item; /* of "then" or "heads": the one being read */
    od_status *st;
} reader;

static od_code bad(reader *r, const char *key, const char *wanted)
{
    return od_fail(r->st, OD_BAD_MODEL, "'%s': %s is wanted", key, wanted);
}

/* ---- values by the tables ----------------------------------------------------------------- */

static od_code read_number(reader *r, const ldr_field *f, const cJSON *j, double *x)
{
    if (!cJSON_IsNumber(j)) return bad(r, f->key, "a number");
    *x = j->valuedouble;
    bool whole = f->kind == LDR_FIELD_INT || f->kind == LDR_FIELD_LEVELS;
    if (!(*x >= f->lo && *x <= f->hi) || (whole && *x != floor(*x)))
        return od_fail(r->st, OD_BAD_MODEL, "'%s' is %.9g; a %s from %.9g to %.9g is wanted", f->key, *x,
                       whole ? "whole number" : "number", f->lo, f->hi);
    return OD_OK;
}

/* One number for all three channels, or an array of three (or of one, for gray). */
static od_code read_three(reader *r, const ldr_field *f, const cJSON *j, double x[3])
{
    if (!cJSON_IsArray(j)) {
        OD_TRY(read_number(r, f, j, x));
        x[1] = x[2] = x[0];
        return OD_OK;
    }
    int n = cJSON_GetArraySize(j);
    if (n != 1 && n != 3) return bad(r, f->key, "a number or an array of three");
    for (int i = 0; i < 3; i++) OD_TRY(read_number(r, f, cJSON_GetArrayItem(j, n == 1 ? 0 : i), &x[i]));
    return OD_OK;
}

static od_code read_name(reader *r, const char *key, const cJSON *j, const char *const *names, int *out)
{
    char all[160] = "";
    for (int i = 0; names[i]; i++) {
        if (cJSON_IsString(j) && !strcmp(j->valuestring, names[i])) {
            *out = i;
            return OD_OK;
        }
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%s", i ? ", " : "", names[i]);
    }
    return od_fail(r->st, OD_BAD_MODEL, "'%s' is %s%.40s%s; one of %s is wanted", key, cJSON_IsString(j) ? "'" : "no text",
                   cJSON_IsString(j) ? j->valuestring : "", cJSON_IsString(j) ? "'" : "", all);
}

static od_code read_field(reader *r, const ldr_field *f, const cJSON *j, void *object)
{
    char *at = (char *)object + f->offset;
    double x[3] = {0};
    int name;
    switch (f->kind) {
    case LDR_FIELD_INT:
        OD_TRY(read_number(r, f, j, x));
        *(int64_t *)(void *)at = (int64_t)x[0];
        break;
    case LDR_FIELD_DOUBLE:
        OD_TRY(read_number(r, f, j, x));
        *(double *)(void *)at = x[0];
        break;
    case LDR_FIELD_FLOAT:
        OD_TRY(read_number(r, f, j, x));
        *(float *)(void *)at = (float)x[0];
        break;
    case LDR_FIELD_BOOL:
        if (!cJSON_IsBool(j)) return bad(r, f->key, "true or false");
        *(bool *)(void *)at = cJSON_IsTrue(j);
        break;
    case LDR_FIELD_NAME:
        OD_TRY(read_name(r, f->key, j, f->names, &name));
        *(int *)(void *)at = name; /* enums are ints */
        break;
    case LDR_FIELD_TEXT:
        if (!cJSON_IsString(j)) return bad(r, f->key, "text");
        *(const char **)(void *)at = od_arena_strdup(r->a, j->valuestring, strlen(j->valuestring));
        if (!*(const char **)(void *)at) return od_fail(r->st, OD_NO_MEMORY, "'%s'", f->key);
        break;
    case LDR_FIELD_LEVELS:
        OD_TRY(read_three(r, f, j, x));
        for (int i = 0; i < 3; i++) ((uint8_t *)at)[i] = (uint8_t)x[i];
        break;
    case LDR_FIELD_FLOATS:
        OD_TRY(read_three(r, f, j, x));
        for (int i = 0; i < 3; i++) ((float *)(void *)at)[i] = (float)x[i];
        break;
    }
    return OD_OK;
}

static od_code no_key_twice(reader *r, const cJSON *object)
{
    for (const cJSON *j = object->child; j; j = j->next)
        for (const cJSON *k = object->child; k != j; k = k->next)
            if (!strcmp(j->string, k->string)) return od_fail(r->st, OD_BAD_MODEL, "the key '%.60s' is there twice", j->string);
    return OD_OK;
}

/* An object whose keys are those of a table, and those that `other` takes (it says whether it did). */
static od_code read_object(reader *r, const char *what, const cJSON *j, const ldr_field *fields, int n, void *object,
                           od_code (*other)(reader *, const cJSON *, bool *taken))
{
    if (!cJSON_IsObject(j)) return bad(r, what, "an object");
    if (cJSON_GetArraySize(j) > 100) return od_fail(r->st, OD_BAD_MODEL, "'%s' has more than 100 keys", what);
    OD_TRY(no_key_twice(r, j));
    for (const cJSON *k = j->child; k; k = k->next) {
        bool taken = false;
        for (int i = 0; i < n && !taken; i++) {
            if (strcmp(k->string, fields[i].key) != 0) continue;
            OD_TRY(read_field(r, &fields[i], k, object));
            taken = true;
        }
        if (!taken && other) OD_TRY(other(r, k, &taken));
        if (!taken) return od_fail(r->st, OD_BAD_MODEL, "the key '%.60s' in %s is not known", k->string, what);
    }
    return OD_OK;
}

/* ---- keys with a rule of their own -------------------------------------------------------- */

/* An array of texts in `a`. */
static od_code read_texts(reader *r, const char *key, const cJSON *j, const char *const **out, int *n_out)
{
    int n = cJSON_GetArraySize(j), i = 0;
    const char **texts = od_arena_array(r->a, const char *, n);
    if (!texts) return od_fail(r->st, OD_NO_MEMORY, "'%s': %d texts", key, n);
    for (const cJSON *k = j->child; k; k = k->next) {
        if (!cJSON_IsString(k)) return bad(r, key, "an array of texts");
        texts[i] = od_arena_strdup(r->a, k->valuestring, strlen(k->valuestring));
        if (!texts[i++]) return od_fail(r->st, OD_NO_MEMORY, "'%s': %d texts", key, n);
    }
    *out = texts;
    *n_out = n;
    return OD_OK;
}

/* An array of 1 to `most` objects of `size` bytes, each with a name of its own, which is the first of the fields. */
static od_code read_list(reader *r, const char *what, const cJSON *j, int most, const ldr_field *fields, int n_fields, size_t size,
                         od_code (*other)(reader *, const cJSON *, bool *), void **out, int *n_out)
{
    int n = cJSON_IsArray(j) ? cJSON_GetArraySize(j) : 0, i = 0;
    if (n < 1 || n > most) return od_fail(r->st, OD_BAD_MODEL, "'%s': an array of 1 to %d objects is wanted", what, most);
    char *list = od_arena_zalloc(r->a, (size_t)n * size);
    if (!list) return od_fail(r->st, OD_NO_MEMORY, "'%s'", what);
    for (const cJSON *k = j->child; k; k = k->next, i++) {
        r->item = list + (size_t)i * size;
        OD_TRY(read_object(r, what, k, fields, n_fields, r->item, other));
        const char *const *name = (const char *const *)(const void *)((char *)r->item + fields[0].offset);
        if (!*name || !**name) return od_fail(r->st, OD_BAD_MODEL, "'%s': in each object of '%s' the name of %s is wanted", fields[0].key, what,
                                              !strcmp(what, "then") ? "a model" : "a head");
        for (int b = 0; b < i; b++)
            if (!strcmp(*(const char *const *)(const void *)(list + (size_t)b * size + fields[0].offset), *name))
                return od_fail(r->st, OD_BAD_MODEL, "'%s' names '%.60s' twice", what, *name);
    }
    *out = list;
    *n_out = n;
    return OD_OK;
}

static od_code then_key(reader *r, const cJSON *j, bool *taken)
{
    struct ldr_card_then *then = r->item;
    if (strcmp(j->string, "of") != 0) return OD_OK;
    if (!cJSON_IsArray(j) || !cJSON_GetArraySize(j)) return bad(r, "of", "an array of labels");
    *taken = true;
    return read_texts(r, "of", j, &then->of, &then->n_of);
}

static od_code read_then(reader *r, const cJSON *j)
{
    void *list;
    OD_TRY(read_list(r, "then", j, THEN_MAX, ldr_then_fields, ldr_then_fields_count, sizeof *r->card->then, then_key, &list, &r->card->n_then));
    r->card->then = list;
    return OD_OK;
}

/* Once everything is read: only detectors find parts, and labels that do not exist would never be found. */
static od_code check_then(reader *r)
{
    const ldr_card *card = r->card;
    if (card->n_then && card->task != LDR_TASK_DETECT) return od_fail(r->st, OD_BAD_MODEL, "'then' is for task detect");
    for (int i = 0; i < card->n_then; i++)
        for (int k = 0; k < card->then[i].n_of; k++) {
            int at = 0;
            while (at < card->n_labels && strcmp(card->labels[at], card->then[i].of[k])) at++;
            if (at == card->n_labels) return od_fail(r->st, OD_BAD_MODEL, "'of': there is no label '%.60s'", card->then[i].of[k]);
        }
    return OD_OK;
}

static bool names_classes(const ldr_card *card)
{
    return card->task != LDR_TASK_EMBED && card->task != LDR_TASK_IMAGE;
}

static od_code read_labels(reader *r, const cJSON *j)
{
    if (!names_classes(r->card)) return od_fail(r->st, OD_BAD_MODEL, "'labels' mean nothing for the task %s", ldr_task_names[r->card->task]);
    if (cJSON_IsString(j)) {
        char *text;
        OD_TRY(ldr_card_read_beside(r->model_path, j->valuestring, LABELS_FILE_MAX, r->a, &text, r->st));
        if (!text) return od_fail(r->st, OD_BAD_MODEL, "there is no file '%.80s' beside the model", j->valuestring);
        return ldr_card_label_lines(text, r->a, r->card, r->st);
    }
    if (!cJSON_IsArray(j)) return bad(r, "labels", "an array of texts or the name of a file");
    return read_texts(r, "labels", j, &r->card->labels, &r->card->n_labels);
}

static od_code head_key(reader *r, const cJSON *j, bool *taken)
{
    struct ldr_card_head *h = r->item;
    *taken = true;
    if (!strcmp(j->string, "output")) {
        h->output = cJSON_IsString(j) ? ldr_card_output_at(r->m, j->valuestring) : -1;
        return h->output >= 0 ? OD_OK : bad(r, "output", "in each object of 'heads' the name of one of the model's outputs");
    }
    *taken = !strcmp(j->string, "labels");
    if (!*taken) return OD_OK;
    ldr_card own = {0}, *whole = r->card;
    r->card = &own;
    od_code rc = read_labels(r, j);
    r->card = whole;
    h->labels = own.labels;
    h->n_labels = own.n_labels;
    return rc;
}

static od_code read_heads(reader *r, const cJSON *j)
{
    void *list;
    OD_TRY(read_list(r, "heads", j, HEADS_MAX, ldr_head_fields, ldr_head_fields_count, sizeof *r->card->heads, head_key, &list, &r->card->n_heads));
    struct ldr_card_head *heads = list;
    for (int i = 0; i < r->card->n_heads; i++)
        if (!heads[i].decoder) heads[i].decoder = ldr_card_scores(r->m, heads[i].output);
    r->card->heads = heads;
    return OD_OK;
}

/* Once everything is read. */
static od_code check_heads(reader *r)
{
    const ldr_card *card = r->card;
    if (!card->n_heads) return OD_OK;
    if (card->task != LDR_TASK_CLASSIFY) return od_fail(r->st, OD_BAD_MODEL, "'heads' is for task classify");
    if (card->outputs || card->labels) return od_fail(r->st, OD_BAD_MODEL, "'heads' have an output and labels each: 'outputs' and 'labels' of the card are too much");
    return OD_OK;
}

/* Rows that the model cannot take. */
static od_code check_batch(reader *r)
{
    const eng_graph *g = r->m->graph;
    const eng_value *v = r->card->input < g->n_inputs ? &g->values[g->inputs[r->card->input]] : NULL;
    if (!v || r->card->task == LDR_TASK_NONE || r->card->max_batch_size <= 1) return OD_OK;
    if (v->rank == 3 || (v->rank == 4 && v->dims[0] == 1))
        return od_fail(r->st, OD_BAD_MODEL, "'max_batch_size' is %" PRId64 "; the model's input '%s' takes one picture", r->card->max_batch_size, v->name);
    return OD_OK;
}

static od_code read_outputs(reader *r, const cJSON *j)
{
    int n = cJSON_IsArray(j) ? cJSON_GetArraySize(j) : 0, i = 0;
    int *outputs = od_arena_array(r->a, int, n);
    if (n < 1) return bad(r, "outputs", "an array of names");
    if (!outputs) return od_fail(r->st, OD_NO_MEMORY, "%d outputs", n);
    for (const cJSON *k = j->child; k; k = k->next) {
        if (!cJSON_IsString(k)) return bad(r, "outputs", "an array of names");
        if ((outputs[i++] = ldr_card_output_at(r->m, k->valuestring)) < 0)
            return od_fail(r->st, OD_BAD_MODEL, "'outputs': the model has no output '%.60s'", k->valuestring);
        for (int b = 0; b < i - 1; b++)
            if (outputs[b] == outputs[i - 1]) return od_fail(r->st, OD_BAD_MODEL, "'outputs' names '%.60s' twice", k->valuestring);
    }
    r->card->outputs = outputs;
    r->card->n_outputs = n;
    return OD_OK;
}

/* Numbers or arrays of them by name. */
static od_code read_numbers(reader *r, const cJSON *j, const struct ldr_card_param **out, int *n_out)
{
    int n = cJSON_IsObject(j) ? cJSON_GetArraySize(j) : -1, at = 0;
    if (n < 0 || n > 100) return bad(r, j->string, "an object of at most 100 keys");
    OD_TRY(no_key_twice(r, j));
    struct ldr_card_param *params = od_arena_array(r->a, struct ldr_card_param, n);
    if (!params) return od_fail(r->st, OD_NO_MEMORY, "'%s'", j->string);
    for (const cJSON *k = j->child; k; k = k->next, at++) {
        int count = cJSON_IsArray(k) ? cJSON_GetArraySize(k) : 1, i = 0;
        if (count > PARAM_VALUES_MAX) return bad(r, k->string, "an array of at most 100000 numbers");
        double *values = od_arena_array(r->a, double, count);
        params[at].name = od_arena_strdup(r->a, k->string, strlen(k->string));
        if (!values || !params[at].name) return od_fail(r->st, OD_NO_MEMORY, "'%s'", j->string);
        for (const cJSON *v = cJSON_IsArray(k) ? k->child : k; v && i < count; v = v->next) {
            if (!cJSON_IsNumber(v)) return bad(r, k->string, "a number or an array of numbers");
            values[i++] = v->valuedouble;
        }
        params[at].n = count;
        params[at].values = values;
    }
    *out = params;
    *n_out = n;
    return OD_OK;
}

static od_code read_constants(reader *r, const cJSON *j)
{
    OD_TRY(read_numbers(r, j, &r->card->constants, &r->card->n_constants));
    for (int i = 0; i < r->card->n_constants; i++)
        if (ldr_card_input_at(r->m, r->card->constants[i].name) < 0)
            return od_fail(r->st, OD_BAD_MODEL, "'constants': the model has no input '%.60s'", r->card->constants[i].name);
    return OD_OK;
}

static od_code preprocess_key(reader *r, const cJSON *j, bool *taken)
{
    if (strcmp(j->string, "colors") != 0) return OD_OK;
    int name;
    OD_TRY(read_name(r, "colors", j, ldr_color_names, &name));
    r->card->pre.channels = name == 2 ? 1 : 3;
    r->card->pre.bgr = name == 1;
    *taken = true;
    return OD_OK;
}

/* Does the picture's fit look at it? */
static bool is_read(const char *key, ldr_fit fit)
{
    enum {
        LETTERBOX = 1 << LDR_FIT_LETTERBOX,
        CROP = 1 << LDR_FIT_CROP,
        SHORTER = 1 << LDR_FIT_SHORTER,
        NONE = 1 << LDR_FIT_NONE,
        MULTIPLES = 1 << LDR_FIT_MULTIPLES,
        AFFINE = 1 << LDR_FIT_AFFINE
    };
    static const struct { const char *key; int fits; } some[] = {
        {"shorter", CROP | SHORTER | MULTIPLES}, {"longer", CROP | SHORTER | MULTIPLES}, {"resize_width", CROP}, {"resize_height", CROP},
        {"multiple", LETTERBOX | SHORTER | NONE | MULTIPLES}, {"above", SHORTER | NONE}, {"mirror", SHORTER | NONE}, {"margin", AFFINE},
        {"align_corners", AFFINE}, {"centered", LETTERBOX}, {"enlarge", LETTERBOX}, {"crop_floor", CROP}};
    for (size_t i = 0; i < OD_COUNT(some); i++)
        if (!strcmp(key, some[i].key)) return some[i].fits & 1 << fit;
    return true; /* all do */
}

/* What the card says replaces what was guessed: only the extents, which are the graph's, stay. */
static od_code read_preprocess(reader *r, const cJSON *j)
{
    const ldr_preprocess *guess = &r->card->pre;
    r->card->pre = (ldr_preprocess){.width = guess->width, .height = guess->height, .channels = guess->channels,
                                    .filter = LDR_BILINEAR, .antialias = true, .rescale = 1, .std = {1, 1, 1}};
    OD_TRY(read_object(r, "preprocess", j, ldr_preprocess_fields, ldr_preprocess_fields_count, &r->card->pre, preprocess_key));
    for (int i = 0; i < ldr_preprocess_fields_count; i++) {
        const ldr_field *f = &ldr_preprocess_fields[i];
        const cJSON *k = cJSON_GetObjectItemCaseSensitive(j, f->key);
        if (k && !cJSON_IsFalse(k) && !is_read(f->key, r->card->pre.fit))
            return od_fail(r->st, OD_BAD_MODEL, "'%s' means nothing with the 'fit' %s", f->key, ldr_preprocess_fields[0].names[r->card->pre.fit]);
    }
    return OD_OK;
}

static od_code card_key(reader *r, const cJSON *j, bool *taken)
{
    static const char *const layouts[] = {"nchw", "nhwc", NULL};
    int name;
    *taken = true;
    if (!strcmp(j->string, "labels")) return read_labels(r, j);
    if (!strcmp(j->string, "outputs")) return read_outputs(r, j);
    if (!strcmp(j->string, "then")) return read_then(r, j);
    if (!strcmp(j->string, "heads")) return read_heads(r, j);
    if (!strcmp(j->string, "parameters")) return read_numbers(r, j, &r->card->params, &r->card->n_params);
    if (!strcmp(j->string, "constants")) return read_constants(r, j);
    if (!strcmp(j->string, "preprocess")) return read_preprocess(r, j);
    if (!strcmp(j->string, "batching"))
        return read_object(r, "batching", j, ldr_batching_fields, ldr_batching_fields_count, r->card, NULL);
    if (!strcmp(j->string, "layout")) {
        OD_TRY(read_name(r, "layout", j, layouts, &name));
        r->card->nhwc = name == 1;
        return OD_OK;
    }
    if (!strcmp(j->string, "input")) {
        int at = cJSON_IsString(j) ? ldr_card_input_at(r->m, j->valuestring) : -1;
        if (at < 0)
            return od_fail(r->st, OD_BAD_MODEL, "'input': the model has no input '%.60s'",
                           cJSON_IsString(j) ? j->valuestring : "");
        r->card->input = at;
        return OD_OK;
    }
    *taken = !strcmp(j->string, "versions"); /* of the folder above: versions.c */
    return OD_OK;
}

static od_code read_card(reader *r, const cJSON *j)
{
    if (!cJSON_IsObject(j)) return od_fail(r->st, OD_BAD_MODEL, "an object is wanted");
    const cJSON *task = cJSON_GetObjectItemCaseSensitive(j, "task");
    if (task) { /* first: it sets defaults that other keys change */
        int name;
        OD_TRY(read_name(r, "task", task, ldr_task_names, &name));
        if ((ldr_task)name != r->card->task) {
            r->card->decoder = NULL;
            ldr_card_task_defaults(r->card, (ldr_task)name);
        }
    }
    OD_TRY(read_object(r, "the card", j, ldr_card_fields, ldr_card_fields_count, r->card, card_key));
    OD_TRY(check_heads(r));
    OD_TRY(check_batch(r));
    return check_then(r);
}

od_code ldr_card_read_json(const char *text, const char *model_path, const eng_model *m, od_arena *a, ldr_card *card,
                           od_status *st)
{
    reader r = {.m = m, .model_path = model_path, .a = a, .card = card, .st = st};
    cJSON *j = cJSON_ParseWithOpts(text, NULL, true);
    if (!j) {
        const char *at = cJSON_GetErrorPtr();
        long where = at && at >= text ? (long)(at - text) : 0;
        return od_fail(st, OD_BAD_MODEL, "not JSON from byte %ld on", where);
    }
    od_code rc = read_card(&r, j);
    cJSON_Delete(j);
    return rc;
}

/* ---- back --------------------------------------------------------------------------------- */

static cJSON *three(const double *x)
{
    return x[0] == x[1] && x[1] == x[2] ? cJSON_CreateNumber(x[0]) : cJSON_CreateDoubleArray(x, 3);
}

/* The shortest decimal that is the same float: 0.485 and not 0.48500001430511475. */
static double shortest(float x)
{
    char text[32];
    for (int digits = 6; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return strtod(text, NULL);
}

static void write_field(cJSON *to, const ldr_field *f, const void *object)
{
    const char *at = (const char *)object + f->offset;
    double x[3];
    cJSON *j = NULL;
    bool zero = false;
    switch (f->kind) {
    case LDR_FIELD_INT:
        x[0] = (double)*(const int64_t *)(const void *)at;
        zero = x[0] == 0;
        if (x[0] >= 0) j = cJSON_CreateNumber(x[0]);
        break;
    case LDR_FIELD_DOUBLE: j = cJSON_CreateNumber(*(const double *)(const void *)at); break;
    case LDR_FIELD_FLOAT:
        x[0] = shortest(*(const float *)(const void *)at);
        zero = x[0] == 0;
        j = cJSON_CreateNumber(x[0]);
        break;
    case LDR_FIELD_BOOL:
        zero = !*(const bool *)(const void *)at;
        j = cJSON_CreateBool(!zero);
        break;
    case LDR_FIELD_NAME:
        zero = !*(const int *)(const void *)at;
        j = cJSON_CreateString(f->names[*(const int *)(const void *)at]);
        break;
    case LDR_FIELD_TEXT:
        if (*(const char *const *)(const void *)at) j = cJSON_CreateString(*(const char *const *)(const void *)at);
        break;
    case LDR_FIELD_LEVELS:
        for (int i = 0; i < 3; i++) x[i] = ((const uint8_t *)at)[i];
        zero = x[0] + x[1] + x[2] == 0;
        j = three(x);
        break;
    case LDR_FIELD_FLOATS:
        for (int i = 0; i < 3; i++) x[i] = shortest(((const float *)(const void *)at)[i]);
        j = three(x);
        break;
    }
    if (zero && !f->always) cJSON_Delete(j);
    else if (j) cJSON_AddItemToObject(to, f->key, j);
}

static void write_preprocess(cJSON *card, const ldr_preprocess *p)
{
    cJSON *to = cJSON_AddObjectToObject(card, "preprocess");
    cJSON_AddStringToObject(to, "colors", ldr_color_names[p->channels == 1 ? 2 : p->bgr]);
    for (int i = 0; i < ldr_preprocess_fields_count; i++)
        if (is_read(ldr_preprocess_fields[i].key, p->fit)) write_field(to, &ldr_preprocess_fields[i], p);
}

static void write_numbers(cJSON *card, const char *key, const struct ldr_card_param *list, int n)
{
    cJSON *to = n ? cJSON_AddObjectToObject(card, key) : NULL;
    for (int i = 0; i < n; i++)
        cJSON_AddItemToObject(to, list[i].name, list[i].n == 1 ? cJSON_CreateNumber(list[i].values[0]) : cJSON_CreateDoubleArray(list[i].values, list[i].n));
}

static cJSON *card_to_json(const ldr_card *card, const eng_model *m)
{
    const eng_graph *g = m->graph;
    cJSON *j = cJSON_CreateObject();
    if (!j) return NULL;
    for (int i = 0; i < ldr_card_fields_count; i++) {
        write_field(j, &ldr_card_fields[i], card);
        if (i > 0 || card->task == LDR_TASK_NONE) continue; /* behind the task: what goes in */
        cJSON_AddStringToObject(j, "input", g->values[g->inputs[card->input]].name);
        cJSON_AddStringToObject(j, "layout", card->nhwc ? "nhwc" : "nchw");
        write_preprocess(j, &card->pre);
    }
    if (card->outputs) {
        cJSON *names = cJSON_AddArrayToObject(j, "outputs");
        for (int i = 0; i < card->n_outputs; i++)
            cJSON_AddItemToArray(names, cJSON_CreateString(g->values[g->outputs[card->outputs[i]]].name));
    }
    write_numbers(j, "parameters", card->params, card->n_params);
    write_numbers(j, "constants", card->constants, card->n_constants);
    cJSON *heads = card->n_heads ? cJSON_AddArrayToObject(j, "heads") : NULL;
    for (int i = 0; i < card->n_heads; i++) {
        const struct ldr_card_head *h = &card->heads[i];
        cJSON *to = cJSON_CreateObject();
        for (int k = 0; k < ldr_head_fields_count; k++) write_field(to, &ldr_head_fields[k], h);
        cJSON_AddItemToObject(to, "output", cJSON_CreateString(g->values[g->outputs[h->output]].name));
        if (h->labels) cJSON_AddItemToObject(to, "labels", cJSON_CreateStringArray(h->labels, h->n_labels));
        cJSON_AddItemToArray(heads, to);
    }
    cJSON *then = card->n_then ? cJSON_AddArrayToObject(j, "then") : NULL;
    for (int i = 0; i < card->n_then; i++) {
        cJSON *to = cJSON_CreateObject();
        for (int k = 0; k < ldr_then_fields_count; k++) write_field(to, &ldr_then_fields[k], &card->then[i]);
        if (card->then[i].of) cJSON_AddItemToObject(to, "of", cJSON_CreateStringArray(card->then[i].of, card->then[i].n_of));
        cJSON_AddItemToArray(then, to);
    }
    if (card->max_batch_size >= 0 || card->max_queue_delay_us >= 0 || card->max_queue >= 0 || card->timeout_us >= 0) {
        cJSON *to = cJSON_AddObjectToObject(j, "batching");
        for (int i = 0; i < ldr_batching_fields_count; i++) write_field(to, &ldr_batching_fields[i], card);
    }
    if (card->labels && names_classes(card)) cJSON_AddItemToObject(j, "labels", cJSON_CreateStringArray(card->labels, card->n_labels));
    return j;
}

od_code ldr_card_json(const ldr_card *card, const eng_model *m, od_arena *a, char **text, od_status *st)
{
    cJSON *j = card_to_json(card, m);
    char *s = j ? cJSON_Print(j) : NULL;
    *text = s ? od_arena_strdup(a, s, strlen(s)) : NULL;
    cJSON_free(s);
    cJSON_Delete(j);
    return *text ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory to write the card");
}
