/* anchors.c - boxes that are known beforehand, from what a card says of them: see ssd.c for the parameters. */
#include "server/tasks/parts.h"

#include <math.h>

/* Anchors of a RetinaNet as torchvision has it: 32 at stride 8 and two steps to the next level's, cut to whole pixels. */
static const double usual_strides[] = {8, 16, 32, 64, 128}, usual_ratios[] = {0.5, 1, 2};
static const double usual_sizes[] = {32, 40, 50, 64, 80, 101, 128, 161, 203, 256, 322, 406, 512, 645, 812};

typedef struct rules {
    const double *strides, *sizes, *ratios, *counts;
    int levels, n_sizes, n_ratios, n_counts;
    bool default_boxes, round, sizes_first;
    double offset;
} rules;

static rules rules_of(const srv_answer *w)
{
    rules r = {.default_boxes = srv_number(w, "default_boxes", 0) != 0};
    r.strides = ldr_card_param(w->card, "strides", &r.levels);
    r.sizes = ldr_card_param(w->card, "sizes", &r.n_sizes);
    r.ratios = ldr_card_param(w->card, "ratios", &r.n_ratios);
    r.counts = ldr_card_param(w->card, "ratio_counts", &r.n_counts);
    if (!r.strides) r.strides = usual_strides, r.levels = OD_COUNT(usual_strides);
    bool usual = !r.sizes; /* rounded as torchvision's, unless the card says otherwise */
    if (!r.sizes) r.sizes = usual_sizes, r.n_sizes = OD_COUNT(usual_sizes);
    if (!r.ratios) r.ratios = usual_ratios, r.n_ratios = OD_COUNT(usual_ratios);
    r.round = srv_number(w, "round", usual) != 0;
    r.sizes_first = srv_number(w, "sizes_first", 0) != 0;
    r.offset = srv_number(w, "offset", r.default_boxes ? 0.5 : 0);
    return r;
}

/* How many of the ratios are level `k`'s, and which is its first. */
static int ratios_of(const rules *r, int k, int *first)
{
    *first = 0;
    if (!r->counts) return r->n_ratios;
    for (int i = 0; i < k; i++) *first += (int)r->counts[i];
    return (int)r->counts[k];
}

static int each_of(const rules *r, int k)
{
    int first, n = ratios_of(r, k, &first);
    return r->default_boxes ? 2 + 2 * n : n * (r->n_sizes / r->levels);
}

static bool all_positive(const double *x, int n)
{
    for (int i = 0; i < n; i++)
        if (!(x[i] > 0 && x[i] < 1e6)) return false;
    return true;
}

od_code srv_anchors_check(const srv_answer *w)
{
    rules r = rules_of(w);
    double sum = 0;
    if (r.levels < 1 || r.levels > SRV_LEVELS_MAX || !all_positive(r.strides, r.levels))
        return od_fail(w->st, OD_BAD_MODEL, "'strides' are %d; 1 to %d numbers above 0 are wanted", r.levels, SRV_LEVELS_MAX);
    for (int i = 0; i < r.levels; i++)
        if (r.strides[i] < 1) return od_fail(w->st, OD_BAD_MODEL, "'strides': %.9g; at least 1 is wanted", r.strides[i]);
    bool sizes = r.default_boxes ? r.n_sizes == r.levels + 1 : r.n_sizes > 0 && r.n_sizes % r.levels == 0;
    if (!sizes || !all_positive(r.sizes, r.n_sizes))
        return od_fail(w->st, OD_BAD_MODEL, "'sizes' are %d; %s numbers above 0 are wanted for %d strides", r.n_sizes,
                       r.default_boxes ? "one more" : "as many, or twice, three times so many,", r.levels);
    if (!all_positive(r.ratios, r.n_ratios)) return od_fail(w->st, OD_BAD_MODEL, "'ratios': numbers above 0 are wanted");
    if (!r.counts) return OD_OK;
    for (int i = 0; i < r.n_counts; i++) {
        if (!(r.counts[i] >= 0 && r.counts[i] <= r.n_ratios)) return od_fail(w->st, OD_BAD_MODEL, "'ratio_counts': %.9g", r.counts[i]);
        sum += floor(r.counts[i]);
    }
    if (r.n_counts == r.levels && sum == (double)r.n_ratios) return OD_OK;
    return od_fail(w->st, OD_BAD_MODEL, "'ratio_counts' are %d with a sum of %.9g; %d with that of the %d 'ratios' are wanted", r.n_counts, sum,
                   r.levels, r.n_ratios);
}

typedef struct shape {
    double w, h;
} shape;

/* Liu et al., "SSD: single shot multibox detector": a square of this size, one between this and the next, and of each ratio a lying
 * and a standing box; nothing larger than the input. */
static void default_shapes(const srv_answer *w, const rules *r, int k, shape *out)
{
    int first, n = ratios_of(r, k, &first);
    double size = r->sizes[k], between = sqrt(size * r->sizes[k + 1]);
    *out++ = (shape){size, size};
    *out++ = (shape){between, between};
    for (int i = 0; i < n; i++) {
        double root = sqrt(r->ratios[first + i]);
        *out++ = (shape){size * root, size / root};
        *out++ = (shape){size / root, size * root};
    }
    for (int i = -2 - 2 * n; i < 0; i++)
        out[i] = (shape){fmin(out[i].w, (double)w->place->input_width), fmin(out[i].h, (double)w->place->input_height)};
}

static void anchor_shapes(const rules *r, int k, shape *out)
{
    int first, n_ratios = ratios_of(r, k, &first), n_sizes = r->n_sizes / r->levels;
    for (int i = 0; i < n_ratios * n_sizes; i++) {
        double size = r->sizes[k * n_sizes + (r->sizes_first ? i / n_ratios : i % n_sizes)];
        double root = sqrt(r->ratios[first + (r->sizes_first ? i % n_ratios : i / n_sizes)]);
        out[i] = (shape){size / root, size * root};
        if (r->round) out[i] = (shape){2 * rint(out[i].w / 2), 2 * rint(out[i].h / 2)};
    }
}

od_code srv_anchors_make(const srv_answer *w, int64_t boxes, srv_anchors *out)
{
    const double a_little = 1e-6; /* strides may be given as decimals */
    rules r = rules_of(w);
    *out = (srv_anchors){.levels = r.levels};
    int64_t columns[SRV_LEVELS_MAX], most = 1;
    for (int k = 0; k < r.levels; k++) {
        columns[k] = (int64_t)ceil((double)w->place->input_width / r.strides[k] - a_little);
        out->cells[k] = columns[k] * (int64_t)ceil((double)w->place->input_height / r.strides[k] - a_little);
        out->each[k] = each_of(&r, k);
        out->n += out->cells[k] * out->each[k];
        most = od_max_i64(most, out->each[k]);
    }
    if (out->n != boxes)
        return od_fail(w->st, OD_BAD_SHAPE, "decoder '%s': %" PRId64 " boxes where the card makes %" PRId64 " anchors for an input of %" PRId64
                       " x %" PRId64, w->card->decoder, boxes, out->n, w->place->input_width, w->place->input_height);
    srv_anchor *to = od_arena_array(w->a, srv_anchor, out->n);
    shape *shapes = od_arena_array(w->a, shape, most);
    if (!to || !shapes) return od_fail(w->st, OD_NO_MEMORY, "no memory for %" PRId64 " anchors", out->n);
    out->list = to;
    for (int k = 0; k < r.levels; k++) {
        if (r.default_boxes) default_shapes(w, &r, k, shapes);
        else anchor_shapes(&r, k, shapes);
        for (int64_t i = 0; i < out->cells[k]; i++)
            for (int64_t a = 0; a < out->each[k]; a++)
                *to++ = (srv_anchor){(float)(((double)(i % columns[k]) + r.offset) * r.strides[k]),
                                     (float)(((double)(i / columns[k]) + r.offset) * r.strides[k]), (float)shapes[a].w, (float)shapes[a].h};
    }
    return OD_OK;
}
