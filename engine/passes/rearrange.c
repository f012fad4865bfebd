/* rearrange.c - Reshape and Transpose of an image, and the Reshape behind, become one copy that needs
 * no row-major tensor: shuffled channels, pixel shuffles, windows. */
#include "engine/passes/passes.h"

enum { IMAGE_RANK = 4 };

static bool is_image(const eng_rewrite *r, int v)
{
    const eng_tensor *t = eng_rewrite_type(r, v);
    return t && t->rank >= IMAGE_RANK;
}

static bool plain_reshape(const eng_node *n)
{
    return n && eng_node_is(n, "Reshape") && n->n_in == 2 && !eng_node_int(n, "allowzero", 0);
}

static od_code merge(eng_rewrite *r, eng_node *reshape, eng_node *turn, od_status *st)
{
    int64_t rank;
    const int64_t *perm = eng_node_ints(turn, "perm", &rank);
    eng_node *behind = eng_rewrite_only_reader(r, turn->out[0]), *last = turn;
    if (!perm) return OD_OK; /* reversed: its rank is not written down */
    if (plain_reshape(behind) && behind->in[0] == turn->out[0]) last = behind;
    int x = reshape->in[0], first = reshape->in[1], second = last == turn ? ENG_NONE : last->in[1];
    if (eng_rewrite_become(r, last, ENG_DOMAIN_OWN, "Rearrange", 1, 3, st) != OD_OK)
        return st->code == OD_UNSUPPORTED ? OD_OK : st->code;
    const int in[] = {x, first, second};
    for (int k = 0; k < 3; k++) {
        last->in[k] = in[k];
        if (in[k] >= 0 && in[k] < r->n_values) r->readers[in[k]]++;
    }
    OD_TRY(eng_node_set_ints(r->g, last, "perm", perm, rank, st));
    eng_rewrite_kill(r, reshape);
    if (last != turn) eng_rewrite_kill(r, turn);
    return OD_OK;
}

od_code eng_pass_rearrange(eng_rewrite *r, od_status *st)
{
    for (int i = 0; i < r->g->n_nodes; i++) {
        eng_node *turn = &r->g->nodes[i];
        if (turn->dead || !eng_node_is(turn, "Transpose")) continue;
        eng_node *reshape = eng_rewrite_maker(r, turn->in[0], "Reshape");
        if (!plain_reshape(reshape) || !eng_rewrite_private(r, turn->in[0]) || !is_image(r, reshape->in[0])) continue;
        OD_TRY(merge(r, reshape, turn, st));
    }
    return OD_OK;
}
