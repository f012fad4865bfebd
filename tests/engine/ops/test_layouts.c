/* Operators that move data give the same in every layout: random tensors, row-major as the reference,
 * then channels-last with a pitch where that is taken, through the layout and alias hooks as a plan does. */
#include "engine/plan.h"
#include "tests/engine/ops/op_case.h"

static uint32_t seed = 7;

static int64_t rnd(int64_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (int64_t)(seed >> 8) % n;
}

enum { OUTS = 3 };

typedef struct trial {
    const char *op;
    eng_domain domain;
    op_case c;
    int n_out;
    int64_t numbers[6][ENG_MAX_RANK * 2];
    bool as_view[OUTS];
} trial;

static void list(trial *t, int slot, const int64_t *v, int64_t n)
{
    memcpy(t->numbers[slot], v, (size_t)n * sizeof *v);
    t->c.in[slot] = (eng_tensor){.dtype = ENG_INT64, .rank = 1, .dims = {n}, .data = t->numbers[slot]};
    if (t->c.n_in <= slot) t->c.n_in = slot + 1;
}

static void ints(trial *t, const char *name, int64_t *v, int64_t n)
{
    t->c.attrs[t->c.n_attrs++] = (eng_attr){.name = name, .kind = ENG_ATTR_INTS, .n = n, .ints = v};
}

static eng_tensor *image(trial *t, int slot, int rank, const int64_t *dims)
{
    eng_tensor *x = &t->c.in[slot];
    *x = (eng_tensor){.dtype = ENG_INT32, .rank = rank};
    memcpy(x->dims, dims, (size_t)rank * sizeof *dims);
    int64_t n = eng_tensor_count(x);
    int32_t *data = od_arena_alloc(&t->c.arena, (size_t)n * sizeof *data + 1);
    for (int64_t i = 0; i < n; i++) data[i] = (int32_t)(i + 1000 * slot);
    x->data = data;
    if (t->c.n_in <= slot) t->c.n_in = slot + 1;
    return x;
}

/* `x` channels-last with `more` elements between pixels. */
static eng_tensor *channels_last(trial *t, const eng_tensor *x, int64_t more)
{
    eng_tensor *y = od_arena_array(&t->c.arena, eng_tensor, 1);
    *y = *x;
    y->layout = ENG_CL;
    y->pitch = x->dims[1] + more;
    y->data = od_arena_zalloc(&t->c.arena, eng_tensor_bytes(y) + 1);
    eng_tensor_relayout(y, x, NULL);
    return y;
}

/* Run as a plan would with these inputs; outputs as ENG_ROW. */
static od_code run(trial *t, const eng_tensor **in, eng_tensor *out, od_status *s)
{
    const eng_op *op = eng_op_find(t->domain, t->op, t->domain == ENG_DOMAIN_OWN ? 1 : 28);
    eng_layout want_in[CASE_MAX], want_out;
    eng_tensor *outs[OUTS] = {NULL}, made[OUTS];
    eng_node node = {.name = "n", .op_type = t->op, .domain = t->domain, .opset = 28, .n_attrs = t->c.n_attrs, .attrs = t->c.attrs,
                     .op = op};
    memset(made, 0, sizeof made);
    for (int k = 0; k < t->n_out; k++) outs[k] = &made[k];
    eng_ctx x = {.node = &node, .n_in = t->c.n_in, .n_out = t->n_out, .in = in, .out = outs, .scratch = &t->c.arena};
    OD_TRY(op->infer(&x, s));
    eng_layout_choose(&x, want_in, &want_out);
    for (int i = 0; i < x.n_in; i++) {
        if (!in[i] || in[i]->rank < 3) continue;
        bool pitched = in[i]->layout == ENG_CL && in[i]->pitch != in[i]->dims[1];
        if (want_in[i] == in[i]->layout && (!pitched || eng_accepts_pitch(&node, i))) continue;
        eng_tensor *y = od_arena_array(&t->c.arena, eng_tensor, 1);
        *y = *in[i];
        y->layout = want_in[i];
        y->pitch = y->layout == ENG_CL ? y->dims[1] : 0;
        y->data = od_arena_zalloc(&t->c.arena, eng_tensor_bytes(y) + 1);
        eng_tensor_relayout(y, in[i], NULL);
        in[i] = y;
    }
    bool all = true;
    for (int k = 0; k < t->n_out; k++) {
        int64_t offset = 0;
        made[k].layout = made[k].rank >= 3 ? want_out : ENG_ROW;
        made[k].pitch = made[k].layout == ENG_CL ? made[k].dims[1] : 0;
        t->as_view[k] = op->alias && op->alias(&x, k, &offset);
        if (t->as_view[k]) {
            made[k].data = (char *)in[0]->data + offset * (int64_t)eng_dtype_size(made[k].dtype);
            continue;
        }
        all = false;
        made[k].data = od_arena_alloc(&t->c.arena, eng_tensor_bytes(&made[k]) + 1);
        memset(made[k].data, 0x5a, eng_tensor_bytes(&made[k]));
    }
    if (!all) OD_TRY(op->run(&x, s));
    for (int k = 0; k < t->n_out; k++) OD_TRY(eng_tensor_copy(&out[k], &made[k], &t->c.arena, s));
    return OD_OK;
}

static void check_layouts(trial *t)
{
    eng_tensor want[OUTS], got[OUTS];
    const eng_tensor *row[CASE_MAX], *cl[CASE_MAX];
    for (int i = 0; i < t->c.n_in; i++) {
        const eng_tensor *x = &t->c.in[i];
        row[i] = cl[i] = x->dtype ? x : NULL;
        if (x->dtype == ENG_INT32 && x->rank >= 3) cl[i] = channels_last(t, x, rnd(2) ? rnd(3) : 0);
    }
    CHECK_OK(run(t, row, want, &st));
    CHECK_OK(run(t, cl, got, &st));
    for (int k = 0; k < t->n_out; k++) {
        CHECK(eng_dims_equal(&want[k], &got[k]));
        CHECK(!memcmp(want[k].data, got[k].data, eng_tensor_bytes(&want[k])));
    }
    case_end(&t->c);
}

static void random_dims(int rank, int64_t *dims)
{
    for (int d = 0; d < rank; d++) dims[d] = 1 + rnd(5);
}

enum { ROUNDS = 300 };

TEST(slices_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "Slice", .n_out = 1};
        int rank = 3 + (int)rnd(3);
        int64_t dims[ENG_MAX_RANK], from[ENG_MAX_RANK], to[ENG_MAX_RANK], axes[ENG_MAX_RANK], step[ENG_MAX_RANK];
        random_dims(rank, dims);
        image(&t, 0, rank, dims);
        for (int d = 0; d < rank; d++) {
            axes[d] = rnd(2) ? d : d - rank;
            step[d] = rnd(3) ? 1 : rnd(2) ? 2 : -1;
            from[d] = step[d] < 0 ? INT64_MAX : rnd(dims[d]);
            to[d] = step[d] < 0 ? INT64_MIN : dims[d] + rnd(2) - 1;
        }
        list(&t, 1, from, rank);
        list(&t, 2, to, rank);
        list(&t, 3, axes, rank);
        list(&t, 4, step, rank);
        check_layouts(&t);
    }
}

TEST(parts_of_a_split_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "Split", .n_out = OUTS};
        int rank = 3 + (int)rnd(3), axis = (int)rnd(rank);
        int64_t dims[ENG_MAX_RANK], parts[OUTS];
        random_dims(rank, dims);
        dims[axis] = 0;
        for (int k = 0; k < OUTS; k++) dims[axis] += parts[k] = rnd(4);
        image(&t, 0, rank, dims);
        list(&t, 1, parts, OUTS);
        case_int(&t.c, "axis", axis - (int)rnd(2) * rank);
        check_layouts(&t);
    }
}

TEST(concatenations_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "Concat", .n_out = 1};
        int rank = 3 + (int)rnd(3), axis = (int)rnd(rank);
        int64_t dims[ENG_MAX_RANK];
        random_dims(rank, dims);
        for (int k = 0; k < 3; k++) {
            dims[axis] = rnd(4);
            image(&t, k, rank, dims);
        }
        case_int(&t.c, "axis", axis);
        check_layouts(&t);
    }
}

TEST(transposes_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "Transpose", .n_out = 1};
        int rank = 3 + (int)rnd(3);
        int64_t dims[ENG_MAX_RANK], perm[ENG_MAX_RANK];
        random_dims(rank, dims);
        image(&t, 0, rank, dims);
        for (int d = 0; d < rank; d++) {
            int64_t at = rnd(d + 1);
            perm[d] = perm[at];
            perm[at] = d;
        }
        ints(&t, "perm", perm, rank);
        check_layouts(&t);
    }
}

TEST(padded_tensors_are_the_same_in_every_layout) {
    static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "Pad", .n_out = 1};
        int rank = 3 + (int)rnd(3);
        int64_t dims[ENG_MAX_RANK], pads[2 * ENG_MAX_RANK];
        int32_t value = 77;
        random_dims(rank, dims);
        image(&t, 0, rank, dims);
        for (int d = 0; d < 2 * rank; d++) pads[d] = rnd(2) ? 0 : rnd(4) - (dims[d % rank] > 2);
        list(&t, 1, pads, 2 * rank);
        t.c.in[t.c.n_in++] = (eng_tensor){.dtype = ENG_INT32, .data = &value};
        case_string(&t.c, "mode", modes[rnd(4)]);
        check_layouts(&t);
    }
}

TEST(repeated_tensors_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        bool tile = rnd(2);
        trial t = {.op = tile ? "Tile" : "Expand", .n_out = 1};
        int rank = 3 + (int)rnd(3);
        int64_t dims[ENG_MAX_RANK], more[ENG_MAX_RANK];
        random_dims(rank, dims);
        for (int d = 0; d < rank; d++) {
            if (!tile && rnd(2)) dims[d] = 1;
            more[d] = tile ? rnd(4) : dims[d] == 1 ? 1 + rnd(4) : rnd(2) ? 1 : dims[d];
        }
        image(&t, 0, rank, dims);
        list(&t, 1, more, rank);
        check_layouts(&t);
    }
}

TEST(gathered_slices_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "Gather", .n_out = 1};
        int rank = 3 + (int)rnd(2), axis = (int)rnd(rank);
        int64_t dims[ENG_MAX_RANK], at[8], n = 1 + rnd(6);
        random_dims(rank, dims);
        image(&t, 0, rank, dims);
        bool even = rnd(2);
        for (int k = 0; k < n; k++) at[k] = even ? k % dims[axis] : rnd(2 * dims[axis]) - dims[axis];
        list(&t, 1, at, n);
        if (n == 6) {
            t.c.in[1].rank = 2;
            t.c.in[1].dims[0] = 3;
            t.c.in[1].dims[1] = 2;
        }
        case_int(&t.c, "axis", axis);
        check_layouts(&t);
    }
}

TEST(shuffled_pixels_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        bool deep = rnd(2);
        int64_t b = 1 + rnd(3);
        trial t = {.op = deep ? "SpaceToDepth" : "DepthToSpace", .n_out = 1};
        int64_t dims[4];
        random_dims(4, dims);
        if (deep) dims[2] *= b, dims[3] *= b;
        else dims[1] *= b * b;
        image(&t, 0, 4, dims);
        case_int(&t.c, "blocksize", b);
        if (!deep) case_string(&t.c, "mode", rnd(2) ? "CRD" : "DCR");
        check_layouts(&t);
    }
}

TEST(cropped_and_padded_centers_are_the_same_in_every_layout) {
    for (int i = 0; i < ROUNDS; i++) {
        trial t = {.op = "CenterCropPad", .n_out = 1};
        int64_t dims[4], shape[4];
        random_dims(4, dims);
        random_dims(4, shape);
        image(&t, 0, 4, dims);
        list(&t, 1, shape, 4);
        check_layouts(&t);
    }
}

/* A random shape over the same elements: axes split at divisors, or neighbours joined. */
static int regroup(int rank, const int64_t *dims, int64_t *out)
{
    int n = 0;
    for (int d = 0; d < rank; d++) {
        int64_t f = rnd(3) && dims[d] % 2 == 0 ? 2 : dims[d] % 3 == 0 ? 3 : 1;
        if (n && !rnd(3)) out[n - 1] *= dims[d];
        else if (f > 1 && n < 6 && rnd(2)) out[n++] = f, out[n++] = dims[d] / f;
        else out[n++] = dims[d];
    }
    return n;
}

TEST(rearranged_images_are_the_same_in_every_layout_as_three_operators_give) {
    for (int i = 0; i < 6 * ROUNDS; i++) {
        static const int64_t sizes[] = {1, 2, 3, 4, 6};
        int64_t dims[4], first[16], turned[16], second[16], perm[16];
        for (int d = 0; d < 4; d++) dims[d] = sizes[rnd(5)];
        if (rnd(3) == 0) dims[0] = dims[2] = 1;
        int n = regroup(4, dims, first);
        for (int d = 0; d < n; d++) {
            int64_t at = rnd(d + 1);
            perm[d] = perm[at];
            perm[at] = d;
        }
        for (int d = 0; d < n; d++) turned[d] = first[perm[d]];
        int m = regroup(n, turned, second);
        trial t = {.op = "Rearrange", .domain = ENG_DOMAIN_OWN, .n_out = 1};
        eng_tensor x = *image(&t, 0, 4, dims), y, want;
        list(&t, 1, first, n);
        if (rnd(4)) list(&t, 2, second, m);
        bool reshaped = t.c.n_in > 2;
        ints(&t, "perm", perm, n);

        x.rank = n;
        memcpy(x.dims, first, (size_t)n * sizeof *first);
        trial u = {.op = "Transpose", .n_out = 1};
        ints(&u, "perm", perm, n);
        u.c.n_in = 1;
        const eng_tensor *in[] = {&x};
        CHECK_OK(run(&u, in, &want, &st));
        const eng_tensor *own[] = {&t.c.in[0], &t.c.in[1], &t.c.in[2]};
        CHECK_OK(run(&t, own, &y, &st));
        CHECK_EQ(y.rank, reshaped ? m : n);
        CHECK(!memcmp(y.dims, reshaped ? second : turned, (size_t)y.rank * sizeof *second));
        CHECK(!memcmp(y.data, want.data, eng_tensor_bytes(&want)));
        case_end(&u.c);
        check_layouts(&t);
    }
}

TEST(pixels_regrouped_stay_channels_last) {
    trial t = {.op = "Reshape", .n_out = 1};
    const eng_tensor *x = image(&t, 0, 4, (int64_t[]){2, 3, 4, 5}), *in[] = {channels_last(&t, x, 2), &t.c.in[1]};
    eng_tensor y;
    list(&t, 1, (int64_t[]){0, 0, -1}, 3);
    CHECK_OK(run(&t, in, &y, &st));
    CHECK(t.as_view[0]);
    CHECK_EQ(y.dims[2], 20);
    CHECK(!memcmp(y.data, x->data, eng_tensor_bytes(x)));
    case_end(&t.c);
}

TEST(nhwc_is_a_view_of_channels_last_and_back) {
    trial t = {.op = "Transpose", .n_out = 1};
    const eng_tensor *x = image(&t, 0, 4, (int64_t[]){2, 3, 4, 5}), *in[] = {channels_last(&t, x, 0)}, *row[] = {x};
    eng_tensor y;
    ints(&t, "perm", (int64_t[]){0, 2, 3, 1}, 4);
    CHECK_OK(run(&t, in, &y, &st));
    CHECK(t.as_view[0]);
    t.c.n_attrs = 0;
    ints(&t, "perm", (int64_t[]){0, 3, 1, 2}, 4);
    CHECK_OK(run(&t, row, &y, &st));
    CHECK(t.as_view[0]);
    case_end(&t.c);
}

TEST(channels_of_a_split_are_views) {
    trial t = {.op = "Split", .n_out = 2};
    const eng_tensor *x = image(&t, 0, 4, (int64_t[]){2, 6, 4, 5}), *in[] = {channels_last(&t, x, 0)};
    eng_tensor y[OUTS];
    case_int(&t.c, "axis", 1);
    CHECK_OK(run(&t, in, y, &st));
    CHECK(t.as_view[0] && t.as_view[1]);
    case_end(&t.c);
}

TEST_MAIN
