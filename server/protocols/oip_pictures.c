/* oip_pictures.c - encoded pictures as BYTES [N] where a model wants [N, C, H, W]. */
#include "engine/base/cpu.h"
#include "server/protocols/oip_infer.h"
#include "server/settings.h"
#include "server/tasks/tasks.h"

#include <string.h>

bool srv_oip_takes_pictures(const srv_infer *i, int index)
{
    const ldr_card *card = i->model->card;
    return card->task != LDR_TASK_NONE && card->input == index && i->graph->values[i->graph->inputs[index]].rank == 4;
}

/* Put picture `k` of `n` behind the others. */
static od_code append(srv_infer *i, const eng_tensor *one, int64_t k, int64_t n, od_status *st)
{
    eng_tensor *all = &i->inputs[i->model->card->input];
    size_t bytes = eng_tensor_bytes(one), total;
    if (!k) {
        *all = *one;
        all->dims[0] = n;
        all->data = od_mul(bytes, (size_t)n, &total) ? od_arena_alloc(&i->r->arena, total) : NULL;
        if (!all->data) return od_fail(st, OD_NO_MEMORY, "no memory for %" PRId64 " pictures", n);
    }
    for (int d = 1; d < one->rank; d++)
        if (one->dims[d] != all->dims[d])
            return od_fail(st, OD_BAD_SHAPE, "its size gives another shape than the first picture's: send them one by one");
    memcpy((char *)all->data + (size_t)k * bytes, one->data, bytes);
    return OD_OK;
}

static od_code decode_one(srv_infer *i, const eng_str *bytes, int64_t k, int64_t n, od_arena *a, od_status *st)
{
    srv_picture p;
    srv_request *r = i->r;
    od_code rc = srv_picture_open(i->model->card, i->model->model, NULL, bytes->ptr, bytes->len, srv_server_of(r)->settings->max_pixels, a, &p, st);
    if (rc) {
        if (rc == OD_UNSUPPORTED) r->reply.status = 415;
        return rc;
    }
    r->decode_ns = od_max_i64(r->decode_ns, 0) + p.decode_ns;
    r->preprocess_ns = od_max_i64(r->preprocess_ns, 0) + p.preprocess_ns;
    return append(i, &p.inputs[i->model->card->input], k, n, st);
}

void srv_oip_decode_pictures(srv_request *r)
{
    srv_infer *i = r->state;
    od_status st = {0};
    od_arena a;
    const eng_tensor given = i->inputs[i->model->card->input];
    const eng_str *texts = given.data;
    int64_t n = eng_tensor_count(&given);
    od_arena_init(&a, 0);
    a.budget = r->arena.budget;
    if (given.rank < 1 || given.rank > 2 || given.dims[0] != n || !n)
        od_fail(&st, OD_BAD_SHAPE, "pictures have the shape [N] or [N,1], N from 1");
    i->job.since_ns = r->received_ns;
    i->waited_ns = od_now_ns() - r->received_ns;
    for (int64_t k = 0; k < n && !st.code; k++) {
        if (srv_batcher_still_wanted(i->model->batcher, &i->job, &st) != OD_OK) break;
        if (decode_one(i, &texts[k], k, n, &a, &st) != OD_OK) od_note(&st, "picture %" PRId64, k);
        od_arena_reset(&a);
    }
    od_arena_fini(&a);
    if (!st.code) {
        srv_infer_run(i);
        return;
    }
    srv_batcher_leave(i->model->batcher);
    srv_infer_fail(i, &st);
}
