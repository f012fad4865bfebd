/* views.c - several crops of a picture, whose mean is the answer (Krizhevsky et al., "ImageNet classification with deep
 * convolutional neural networks"): the centre, the corners of what the picture is resized to, and these five of its
 * mirror image. They lie where torchvision's FiveCrop and TenCrop cut. */
#include "server/tasks/parts.h"

#include <math.h>
#include <string.h>

enum { CROPS = 5 }; /* of one orientation */

od_code srv_views_count(const ldr_card *card, const eng_model *m, const srv_query *q, const ldr_placement *whole, int64_t *n, od_status *st)
{
    *n = q && q->crops ? q->crops : q && card->crops ? card->crops : 1;
    if (*n == 1) return OD_OK;
    if (card->task != LDR_TASK_CLASSIFY) return od_fail(st, OD_BAD_ARGUMENT, "crops are for classifiers");
    if (card->pre.fit != LDR_FIT_CROP) return od_fail(st, OD_BAD_ARGUMENT, "crops are cut where the card's 'fit' is crop; of other pictures all would be one");
    for (int i = 0; i < m->graph->n_inputs; i++)
        if (i != card->input && !m->graph->values[m->graph->inputs[i]].constant)
            return od_fail(st, OD_BAD_ARGUMENT, "crops are for models with no input beside the picture");
    if (whole->offset_x > 0 || whole->offset_y > 0)
        return od_fail(st, OD_BAD_ARGUMENT, "crops of %" PRId64 " x %" PRId64 " are larger than the resized picture, %.0f x %.0f", whole->input_width,
                       whole->input_height, whole->scale_x * (double)whole->image_width, whole->scale_y * (double)whole->image_height);
    return OD_OK;
}

/* Swap left and right: `rows` of `width` elements of `size` bytes. */
static void mirror_rows(uint8_t *at, int64_t rows, int64_t width, size_t size)
{
    uint8_t kept[16]; /* at most three floats */
    for (int64_t y = 0; y < rows; y++, at += (size_t)width * size)
        for (int64_t x = 0; x < width / 2; x++) {
            uint8_t *left = at + (size_t)x * size, *right = at + (size_t)(width - 1 - x) * size;
            memcpy(kept, left, size);
            memcpy(left, right, size);
            memcpy(right, kept, size);
        }
}

od_code srv_view_make(const ldr_card *card, const ldr_pixels *px, const ldr_placement *place, int64_t k, eng_tensor *to, od_arena *a, od_status *st)
{
    ldr_placement own = *place;
    int64_t corner = k % CROPS - 1, channels = card->pre.channels;
    double spare_x = (double)own.input_width - rint(own.scale_x * (double)own.image_width);
    double spare_y = (double)own.input_height - rint(own.scale_y * (double)own.image_height);
    if (corner >= 0) {
        own.offset_x = corner % 2 ? spare_x : 0;
        own.offset_y = corner / 2 ? spare_y : 0;
    }
    if (k < CROPS) return ldr_image_to_tensor(px, &card->pre, &own, card->nhwc, to, a, st);
    own.offset_x = spare_x - own.offset_x; /* the other way round in the mirror image, also where the centre is not quite one */
    OD_TRY(ldr_image_to_tensor(px, &card->pre, &own, card->nhwc, to, a, st));
    bool planes = !card->nhwc && to->layout == ENG_ROW;
    mirror_rows(to->data, own.input_height * (planes ? channels : 1), own.input_width, eng_dtype_size(to->dtype) * (size_t)(planes ? 1 : channels));
    return OD_OK;
}

void srv_picture_views(const srv_picture *p, int64_t first, int64_t n, eng_tensor *inputs)
{
    memcpy(inputs, p->inputs, (size_t)p->n_inputs * sizeof *inputs);
    eng_tensor *t = &inputs[p->input];
    t->data = (uint8_t *)t->data + (size_t)first * eng_tensor_bytes(t);
    if (n > 1) t->dims[0] = n;
}

od_code srv_picture_take(const srv_picture *p, const eng_tensor *run, int64_t first, int64_t n, eng_tensor *outputs, od_status *st)
{
    for (int i = 0; i < p->n_outputs; i++) {
        eng_tensor one = run[i];
        if (n > 1 && (one.rank < 1 || one.dims[0] != n))
            return od_fail(st, OD_BAD_SHAPE, "output %d has not a row for each of %" PRId64 " crops", i, n);
        if (n > 1) one.dims[0] = 1;
        for (int64_t k = 0; k < n; k++) {
            eng_tensor *to = &outputs[(first + k) * p->n_outputs + i];
            *to = one;
            if (one.data) to->data = (uint8_t *)one.data + (size_t)k * eng_tensor_bytes(&one);
        }
    }
    return OD_OK;
}
