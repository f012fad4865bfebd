/* card.c - where a model's card comes from. */
#include "loaders/card/parts.h"

#include <string.h>

enum { CARD_FILE_MAX = 16 << 20 };

/* model.json, or what the exporting tool left; `out` is the graph's guess. */
static od_code ask_sources(const char *model_path, const char *json, const eng_model *m, od_arena *a, ldr_card *out,
                           od_status *st)
{
    bool found = false;
    char *text = NULL;
    if (!json) {
        OD_TRY(ldr_card_read_beside(model_path, "model.json", CARD_FILE_MAX, a, &text, st));
        json = text;
    }
    if (json) {
        out->source = "model.json";
        return ldr_card_read_json(json, model_path, m, a, out, st);
    }
    ldr_card guess = *out;
    out->source = "config.json";
    OD_TRY(ldr_card_from_hugging_face(model_path, m, a, out, &found, st));
    if (found) return OD_OK;
    *out = guess;
    out->source = "the model's metadata";
    OD_TRY(ldr_card_from_ultralytics(m, a, out, &found, st));
    if (!found) *out = guess;
    bool metadata = found;
    out->source = "config.pbtxt";
    OD_TRY(ldr_card_from_triton(model_path, a, out, &found, st));
    out->source = metadata ? "the model's metadata" : LDR_GUESSED; /* Triton's file says nothing of pictures */
    return OD_OK;
}

od_code ldr_card_find(const char *model_path, const char *json, const eng_model *m, od_arena *a, ldr_card *out, od_status *st)
{
    ldr_card_guess(m, a, out);
    out->source = LDR_GUESSED;
    ldr_triton over;
    bool overlaid = json && ldr_triton_read_json(json, &over);
    if (ask_sources(model_path, overlaid ? NULL : json, m, a, out, st) != OD_OK) return od_note(st, "%s", out->source);
    if (overlaid) ldr_triton_apply(&over, out);
    if (ldr_card_check(out, m, st) == OD_OK) return OD_OK;
    if (strcmp(out->source, LDR_GUESSED) != 0) return od_note(st, "%s", out->source);
    out->task = LDR_TASK_NONE; /* a wrong guess is no guess */
    return OD_OK;
}

const double *ldr_card_param(const ldr_card *card, const char *name, int *n)
{
    for (int i = 0; i < card->n_params; i++)
        if (!strcmp(card->params[i].name, name)) {
            *n = card->params[i].n;
            return card->params[i].values;
        }
    *n = 0;
    return NULL;
}
