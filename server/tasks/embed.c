/* embed.c - a picture as one vector. Of [1, tokens, numbers] the first token's. Parameter normalize (1): to length one. */
#include "server/tasks/parts.h"

#include <math.h>

static od_code check(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    if (w->card->decoder) return od_fail(w->st, OD_BAD_MODEL, "'decoder' is '%.40s'; for task embed there is none", w->card->decoder);
    OD_TRY(srv_want_one(w));
    if (t->rank == 3) return srv_want(w, 0, 3, (int64_t[]){1, -1, -1});
    if (t->rank == 4) return srv_want(w, 0, 4, (int64_t[]){1, -1, 1, 1});
    return srv_want(w, 0, 2, (int64_t[]){1, -1});
}

static od_code answer(const srv_answer *w)
{
    const eng_tensor *t = &w->outputs[0];
    const float *x = srv_floats(w, 0);
    if (!x) return w->st->code;
    int64_t n = t->rank == 3 ? t->dims[2] : t->dims[1];
    if (eng_tensor_count(t) < n) n = 0; /* no token at all */
    double square = 0, scale = 1;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * (double)x[i];
    if (srv_number(w, "normalize", 1) != 0 && square > 0) scale = 1 / sqrt(square);
    float *y = od_arena_array(w->a, float, n);
    if (!y) return od_fail(w->st, OD_NO_MEMORY, "%" PRId64 " numbers", n);
    for (int64_t i = 0; i < n; i++) y[i] = (float)((double)x[i] * scale);
    srv_text_printf(w->json, "\"embedding\":");
    if (w->format == SRV_FORMAT_BASE64) {
        srv_text_add(w->json, "{", 1);
        srv_add_floats(w, y, 1, &n);
        srv_text_add(w->json, "}", 1);
    } else {
        srv_add_array(w->json, y, n);
    }
    return OD_OK;
}

const srv_task srv_embed = {check, answer};
