/* conv_squeeze.c - factors of channels, as squeeze and excitation makes them (Hu et al., 2018), that a 1x1 convolution takes
 * into its weights instead of its input. */
#include "engine/kernels/reduce.h"
#include "engine/ops/conv_job.h"
#include "engine/ops/ops.h"

bool eng_conv_scales(const eng_ctx *first, const eng_ctx *second)
{
    enum { RATIO = 4 }; /* so many times as much input as weights pays: it lies near, they come from far */
    conv_job j;
    if (first->node->op->run != eng_mul_run || eng_mul_of_channels(first) < 0) return false;
    if (!eng_conv_is_packed(second, &j) || !eng_conv_in_place(&j) || j.form.group > 1) return false;
    return j.form.out * RATIO <= j.pixels / first->out[0]->dims[0];
}

typedef struct scale_job {
    const float *b, *by;
    float *to;
    int64_t rows, panels, part; /* panels of a part */
} scale_job;

static void scale_part(void *arg, int64_t chunk, int slot)
{
    const scale_job *j = arg;
    const int64_t first = chunk * j->part, at = first * j->rows * ENG_NR;
    (void)slot;
    const float zero = -0.0f; /* what leaves every product as it is */
    const int64_t rows = j->rows * od_min_i64(j->part, j->panels - first);
    for (int64_t i = 0; i < rows; i++)
        eng_reduce_get()->affine(j->b + at + i * ENG_NR, 0, j->to + at + i * ENG_NR, 0, 1, ENG_NR, &j->by[i % j->rows], &zero, 0);
}

od_code eng_conv_scaled_run(eng_ctx *c, od_status *st)
{
    enum { GRAIN = 16384 }; /* floats */
    const int which = eng_mul_of_channels(c->ahead);
    const eng_tensor *x = c->ahead->in[which], *by = c->ahead->in[1 - which];
    conv_job j;
    OD_TRY(eng_conv_setup(c, &j, st));
    j.x = x->data;
    j.x_pitch = x->pitch;
    const eng_gemm all = eng_conv_product(&j);
    scale_job s = {.b = all.b, .rows = all.length, .panels = od_ceil_div(all.n, ENG_NR)};
    const int64_t sets = by->dims[0], pixels = j.pixels / sets, step = by->layout == ENG_CL ? by->pitch : by->dims[1];
    s.part = od_max_i64(GRAIN / (s.rows * ENG_NR), 1);
    s.to = od_arena_alloc(c->scratch, (size_t)eng_packed_floats(s.rows, all.n) * sizeof(float));
    if (!s.to) return od_fail(st, OD_NO_MEMORY, "no memory for weights with factors");
    for (int64_t i = 0; i < sets; i++) {
        const od_arena_mark mark = od_arena_save(c->scratch);
        eng_gemm g = eng_gemm_part(&all, i * pixels, pixels, 0, all.n);
        s.by = (const float *)by->data + i * step;
        od_pool_for(c->pool, od_ceil_div(s.panels, s.part), scale_part, &s);
        g.b = s.to;
        eng_gemm_parallel(&g, c->scratch, c->pool);
        od_arena_rewind(c->scratch, mark);
    }
    return OD_OK;
}
