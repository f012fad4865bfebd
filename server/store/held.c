#include "server/store/held.h"
#include "engine/base/cpu.h"
#include "loaders/onnx.h"

#include <stdlib.h>
#include <string.h>

/* What the card says goes before the server's defaults. */
static srv_batch_options options_of(const srv_batch_options *defaults, const ldr_card *card)
{
    srv_batch_options o = *defaults;
    if (card->max_batch_size >= 0) o.max_batch_size = card->max_batch_size;
    if (card->max_queue_delay_us >= 0) o.max_queue_delay_us = card->max_queue_delay_us;
    if (card->max_queue >= 0) o.max_queue = card->max_queue;
    if (card->timeout_us >= 0) o.timeout_us = card->timeout_us;
    return o;
}

/* Tensors only, the server's defaults. */
static od_code find_card(const char *path, const char *json, const eng_model *m, od_arena *a, ldr_card *out, od_status *st)
{
    (void)path, (void)m, (void)a;
    *out = (ldr_card){.task = LDR_TASK_NONE, .source = "none", .max_batch_size = -1, .max_queue_delay_us = -1, .max_queue = -1, .timeout_us = -1};
    return json ? od_fail(st, OD_UNSUPPORTED, "cards are not read") : OD_OK;
}

static od_code load(srv_held *h, const srv_found *found, const char *card_json, const srv_store_options *o, od_status *st)
{
    srv_model *m = &h->m;
    m->version = found->version;
    m->name = od_arena_strdup(&h->arena, found->name, strlen(found->name));
    m->path = od_arena_strdup(&h->arena, found->path, strlen(found->path));
    if (!m->name || !m->path) return od_fail(st, OD_NO_MEMORY, "no memory for a model's name");
    OD_TRY(ldr_onnx_load(found->path, &o->load, &m->model, st));
    OD_TRY(find_card(found->path, card_json, m->model, &h->arena, &h->card, st));
    m->card = &h->card;
    srv_batch_options batch = options_of(&o->batch, &h->card);
    OD_TRY(srv_batcher_create(&m->batcher, m->model, o->pool, &batch, st));
    m->max_batch_size = srv_batcher_rows(m->batcher) > 1 ? batch.max_batch_size : 0;
    /* weights that are packed are given back to the system: the larger of both is what stays */
    m->bytes = od_arena_bytes(&m->model->arena) +
               (m->model->packed_bytes > found->bytes ? m->model->packed_bytes : (size_t)found->bytes);
    return OD_OK;
}

od_code srv_held_create(srv_held **out, const srv_found *found, const char *card_json, const srv_store_options *o, od_status *st)
{
    int64_t from = od_now_ns();
    srv_held *h = calloc(1, sizeof *h);
    if (!h) return od_fail(st, OD_NO_MEMORY, "no memory for a model");
    atomic_init(&h->refs, 1);
    if (load(h, found, card_json, o, st) != OD_OK) {
        srv_held_destroy(h);
        return st->code;
    }
    h->m.load_seconds = (double)(od_now_ns() - from) / 1e9;
    *out = h;
    return OD_OK;
}

void srv_held_destroy(srv_held *h)
{
    if (!h) return;
    srv_batcher_destroy(h->m.batcher);
    eng_model_destroy(h->m.model);
    od_arena_fini(&h->arena);
    free(h);
}
