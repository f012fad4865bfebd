/* triton.c - Triton's config.pbtxt, and the same as JSON: label files, batching, versions. Its format is protobuf's text: keys, values, and
 * blocks in braces or, for lists, brackets. What goes in and comes out it does not say: that is guessed. */
#include "loaders/card/parts.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20, LABELS_MAX = 16 << 20, DEPTH_MAX = 16, WORD_MAX = 256 };

/* The next word, text (without quotes) or mark; "" at the end. */
typedef struct words {
    const char *at;
    char word[WORD_MAX];
    bool quoted;
} words;

static void next_word(words *w)
{
    size_t n = 0;
    w->quoted = false;
    for (;;) {
        while (*w->at && (isspace((unsigned char)*w->at) || *w->at == ',' || *w->at == ';')) w->at++;
        if (*w->at != '#') break;
        while (*w->at && *w->at != '\n') w->at++;
    }
    if (*w->at == '"' || *w->at == '\'') {
        char quote = *w->at++;
        w->quoted = true;
        for (; *w->at && *w->at != quote; w->at++) {
            if (*w->at == '\\' && w->at[1]) w->at++;
            if (n + 1 < WORD_MAX) w->word[n++] = *w->at;
        }
        if (*w->at) w->at++;
    } else if (*w->at && strchr("{}[]:", *w->at)) {
        w->word[n++] = *w->at++;
    } else {
        for (; *w->at && !isspace((unsigned char)*w->at) && !strchr("{}[]:,;#", *w->at); w->at++)
            if (n + 1 < WORD_MAX) w->word[n++] = *w->at;
    }
    w->word[n] = 0;
}

static void add_version(ldr_versions *v, int64_t n)
{
    v->kind = LDR_VERSIONS_SPECIFIC;
    if (n >= 1 && v->n < (int)OD_COUNT(v->list)) v->list[v->n++] = n;
}

static void set_latest(ldr_versions *v, int64_t n)
{
    v->kind = LDR_VERSIONS_LATEST;
    v->latest = n < 0 ? -1 : od_max_i64(n, 1);
}

static void take_key(ldr_triton *f, const char *block, const char *key, const char *value)
{
    if (!strcmp(block, "output") && !strcmp(key, "label_filename") && !f->label_file[0]) strcpy(f->label_file, value);
    char *end;
    long long n = strtoll(value, &end, 10);
    if (end == value || *end || n < 0) return;
    if (!*block && !strcmp(key, "max_batch_size")) f->max_batch_size = n;
    if (!strcmp(block, "dynamic_batching") && !strcmp(key, "max_queue_delay_microseconds")) f->max_queue_delay_us = n;
    if (!strcmp(block, "default_queue_policy") && !strcmp(key, "max_queue_size") && n) f->max_queue = n;
    if (!strcmp(block, "default_queue_policy") && !strcmp(key, "default_timeout_microseconds")) f->timeout_us = n;
    if (!strcmp(block, "latest") && !strcmp(key, "num_versions")) set_latest(&f->versions, n);
    if (!strcmp(block, "specific") && !strcmp(key, "versions")) add_version(&f->versions, n);
}

static const ldr_triton nothing = {.max_batch_size = -1, .max_queue_delay_us = -1, .max_queue = -1, .timeout_us = -1};

od_code ldr_triton_read_text(const char *text, ldr_triton *f, od_status *st)
{
    words w = {.at = text};
    char blocks[DEPTH_MAX][WORD_MAX] = {""}, key[WORD_MAX] = "";
    bool list[DEPTH_MAX] = {false};
    int depth = 0;
    *f = nothing;
    for (next_word(&w); depth >= 0 && (w.word[0] || w.quoted); next_word(&w)) {
        bool mark = !w.quoted && w.word[0] && strchr("{}[]:", w.word[0]);
        if (!mark) {
            if (list[depth]) { /* versions: [1, 3] */
                take_key(f, blocks[depth - 1], blocks[depth], w.word);
            } else if (key[0]) {
                take_key(f, blocks[depth], key, w.word);
                key[0] = 0;
            } else if (!w.quoted) {
                strcpy(key, w.word);
            }
        } else if (w.word[0] == '{' || w.word[0] == '[') {
            if (depth + 1 >= DEPTH_MAX) return od_fail(st, OD_BAD_MODEL, "braces nested deeper than %d", DEPTH_MAX - 1);
            if (!strcmp(blocks[depth], "version_policy") && !strcmp(key, "all")) set_latest(&f->versions, -1);
            strcpy(blocks[depth + 1], key[0] ? key : blocks[depth]); /* output [ { ... } ]: the inner ones are outputs */
            list[++depth] = w.word[0] == '[';
            key[0] = 0;
        } else if (w.word[0] == '}' || w.word[0] == ']') {
            depth--;
            key[0] = 0;
        }
    }
    return depth == 0 ? OD_OK : od_fail(st, OD_BAD_MODEL, "braces or brackets do not match");
}

/* A whole number from 0, also as text, as protobuf's JSON writes 64 bits; -1: none. */
static int64_t whole(const cJSON *j)
{
    if (cJSON_IsNumber(j) && j->valuedouble >= 0 && j->valuedouble < 9e15) return (int64_t)j->valuedouble;
    if (!cJSON_IsString(j) || !*j->valuestring || strlen(j->valuestring) > 18) return -1;
    return strspn(j->valuestring, "0123456789") == strlen(j->valuestring) ? strtoll(j->valuestring, NULL, 10) : -1;
}

static void read_policy(const cJSON *policy, ldr_versions *v)
{
    const cJSON *latest = cJSON_GetObjectItemCaseSensitive(policy, "latest"), *one;
    const cJSON *specific = cJSON_GetObjectItemCaseSensitive(policy, "specific");
    if (latest) set_latest(v, od_max_i64(whole(cJSON_GetObjectItemCaseSensitive(latest, "num_versions")), 1));
    else if (cJSON_GetObjectItemCaseSensitive(policy, "all")) set_latest(v, -1);
    else if (specific)
        cJSON_ArrayForEach(one, cJSON_GetObjectItemCaseSensitive(specific, "versions")) {
            add_version(v, whole(one));
        }
}

bool ldr_triton_read_json(const char *json, ldr_triton *f)
{
    static const char *const keys[] = {"max_batch_size", "version_policy", "dynamic_batching", "platform", "backend", "instance_group"};
    cJSON *j = cJSON_ParseWithOpts(json, NULL, true);
    bool found = false;
    *f = nothing;
    for (size_t i = 0; i < OD_COUNT(keys); i++) found |= cJSON_HasObjectItem(j, keys[i]);
    if (found) {
        const cJSON *batching = cJSON_GetObjectItemCaseSensitive(j, "dynamic_batching");
        const cJSON *queue = cJSON_GetObjectItemCaseSensitive(batching, "default_queue_policy");
        f->max_batch_size = whole(cJSON_GetObjectItemCaseSensitive(j, "max_batch_size"));
        f->max_queue_delay_us = whole(cJSON_GetObjectItemCaseSensitive(batching, "max_queue_delay_microseconds"));
        f->max_queue = whole(cJSON_GetObjectItemCaseSensitive(queue, "max_queue_size"));
        f->timeout_us = whole(cJSON_GetObjectItemCaseSensitive(queue, "default_timeout_microseconds"));
        if (!f->max_queue) f->max_queue = -1; /* any number there, ours here */
        read_policy(cJSON_GetObjectItemCaseSensitive(j, "version_policy"), &f->versions);
    }
    cJSON_Delete(j);
    return found;
}

void ldr_triton_apply(const ldr_triton *f, ldr_card *card)
{
    if (f->max_batch_size >= 0) card->max_batch_size = od_min_i64(f->max_batch_size, 1000000);
    if (f->max_queue_delay_us >= 0) card->max_queue_delay_us = od_min_i64(f->max_queue_delay_us, 1000000000);
    if (f->max_queue >= 0) card->max_queue = od_min_i64(f->max_queue, 1000000);
    if (f->timeout_us >= 0) card->timeout_us = od_min_i64(f->timeout_us, 1000000000000);
}

od_code ldr_card_from_triton(const char *model_path, od_arena *a, ldr_card *card, bool *found, od_status *st)
{
    char *text, *labels;
    ldr_triton f;
    OD_TRY(ldr_card_read_beside(model_path, "config.pbtxt", FILE_MAX, a, &text, st));
    *found = text != NULL;
    if (!text) return OD_OK;
    OD_TRY(ldr_triton_read_text(text, &f, st));
    ldr_triton_apply(&f, card);
    if (!f.label_file[0]) return OD_OK;
    OD_TRY(ldr_card_read_beside(model_path, f.label_file, LABELS_MAX, a, &labels, st));
    if (!labels) return od_fail(st, OD_BAD_MODEL, "there is no label file '%.80s'", f.label_file);
    return ldr_card_label_lines(labels, a, card, st);
}
