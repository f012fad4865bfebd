/* triton.c - Triton's config.pbtxt: label files, batching. Its format is protobuf's text: keys, values, and
 * blocks in braces or, for lists, brackets. What goes in and comes out it does not say: that is guessed. */
#include "loaders/card/parts.h"

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

typedef struct found_keys {
    char label_file[WORD_MAX];
    int64_t max_batch_size, max_queue_delay_us; /* -1: not there */
} found_keys;

static void take_key(found_keys *f, const char *block, const char *key, const char *value)
{
    if (!strcmp(block, "output") && !strcmp(key, "label_filename") && !f->label_file[0]) strcpy(f->label_file, value);
    char *end;
    long long n = strtoll(value, &end, 10);
    if (end == value || *end || n < 0) return;
    if (!*block && !strcmp(key, "max_batch_size")) f->max_batch_size = n;
    if (!strcmp(block, "dynamic_batching") && !strcmp(key, "max_queue_delay_microseconds")) f->max_queue_delay_us = n;
}

/* false: not the format. */
static bool read_config(const char *text, found_keys *f)
{
    words w = {.at = text};
    char blocks[DEPTH_MAX][WORD_MAX] = {""}, key[WORD_MAX] = "";
    int depth = 0;
    for (next_word(&w); w.word[0] || w.quoted; next_word(&w)) {
        bool mark = !w.quoted && w.word[0] && strchr("{}[]:", w.word[0]);
        if (!mark) {
            if (key[0]) {
                take_key(f, blocks[depth], key, w.word);
                key[0] = 0;
            } else if (!w.quoted) {
                strcpy(key, w.word);
            }
        } else if (w.word[0] == '{' || w.word[0] == '[') {
            if (depth + 1 >= DEPTH_MAX) return false;
            strcpy(blocks[depth + 1], key[0] ? key : blocks[depth]); /* output [ { ... } ]: the inner ones are outputs */
            depth++;
            key[0] = 0;
        } else if (w.word[0] == '}' || w.word[0] == ']') {
            if (--depth < 0) return false;
            key[0] = 0;
        }
    }
    return depth == 0;
}

od_code ldr_card_from_triton(const char *model_path, od_arena *a, ldr_card *card, bool *found, od_status *st)
{
    char *text, *labels;
    found_keys f = {.max_batch_size = -1, .max_queue_delay_us = -1};
    OD_TRY(ldr_card_read_beside(model_path, "config.pbtxt", FILE_MAX, a, &text, st));
    *found = text != NULL;
    if (!text) return OD_OK;
    if (!read_config(text, &f)) return od_fail(st, OD_BAD_MODEL, "braces or brackets do not match");
    if (f.max_batch_size >= 0) card->max_batch_size = od_min_i64(f.max_batch_size, 1000000);
    if (f.max_queue_delay_us >= 0) card->max_queue_delay_us = od_min_i64(f.max_queue_delay_us, 1000000000);
    if (!f.label_file[0]) return OD_OK;
    OD_TRY(ldr_card_read_beside(model_path, f.label_file, LABELS_MAX, a, &labels, st));
    if (!labels) return od_fail(st, OD_BAD_MODEL, "there is no label file '%.80s'", f.label_file);
    return ldr_card_label_lines(labels, a, card, st);
}
