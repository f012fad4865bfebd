#include "server/store/held.h"
#include "engine/base/cpu.h"
#include "loaders/onnx.h"
#include "server/tasks/explain.h"

#include <stdlib.h>
#include <string.h>

static bool has_free_picture(const eng_model *m, const ldr_card *card)
{
    if (card->task == LDR_TASK_NONE || card->pre.width <= 0 || card->pre.height <= 0) return false;
    const eng_value *v = &m->graph->values[m->graph->inputs[card->input]];
    return v->rank == 4 && (v->dims[1] < 0 || v->dims[2] < 0 || v->dims[3] < 0);
}

/* What the card says goes before the server's defaults. */
static srv_batch_options options_of(const srv_batch_options *defaults, const eng_model *m, const ldr_card *card)
{
    srv_batch_options o = *defaults;
    if (card->max_batch_size >= 0) o.max_batch_size = card->max_batch_size;
    if (card->max_queue_delay_us >= 0) o.max_queue_delay_us = card->max_queue_delay_us;
    if (card->max_queue >= 0) o.max_queue = card->max_queue;
    if (card->timeout_us >= 0) o.timeout_us = card->timeout_us;
    if (has_free_picture(m, card)) {
        const int64_t c = card->pre.channels, h = card->pre.height, w = card->pre.width;
        const int64_t dims[4] = {1, card->nhwc ? h : c, card->nhwc ? w : h, card->nhwc ? c : w};
        o.picture_input = card->input;
        memcpy(o.picture_dims, dims, sizeof dims);
    }
    return o;
}

static od_code load(srv_held *h, const srv_found *found, const char *card_json, const srv_store_options *o, od_status *st)
{
    srv_model *m = &h->m;
    m->version = found->version;
    m->name = od_arena_strdup(&h->arena, found->name, strlen(found->name));
    m->path = od_arena_strdup(&h->arena, found->path, strlen(found->path));
    if (!m->name || !m->path) return od_fail(st, OD_NO_MEMORY, "no memory for a model's name");
    OD_TRY(ldr_onnx_load(found->path, &o->load, &m->model, st));
    OD_TRY(ldr_card_find(found->path, card_json, m->model, &h->arena, &h->card, st));
    OD_TRY(srv_task_check(&h->card, m->model, st));
    m->card = &h->card;
    if (h->card.task == LDR_TASK_CLASSIFY) OD_TRY(srv_class_maps_create(&m->class_maps, m->path, st));
    srv_batch_options batch = options_of(&o->batch, m->model, &h->card);
    OD_TRY(srv_batcher_create(&m->batcher, m->model, o->pool, &batch, st));
    m->max_batch_size = srv_batcher_can_batch(m->batcher) ? batch.max_batch_size : 0;
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
    srv_class_maps_destroy(h->m.class_maps);
    eng_model_destroy(h->m.model);
    od_arena_fini(&h->arena);
    free(h);
}
