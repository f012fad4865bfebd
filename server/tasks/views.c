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

/* Where view `k` lies, of one orientation. */
static void place_view(const ldr_placement *centre, int64_t k, double spare_x, double spare_y, ldr_placement *to)
{
    *to = *centre;
    if (k == 0) return;
    to->offset_x = (k - 1) % 2 ? spare_x : 0;
    to->offset_y = (k - 1) / 2 ? spare_y : 0;
}

od_code srv_view_make(const ldr_card *card, const ldr_pixels *px, const ldr_placement *centre, int64_t k, const eng_tensor *views, od_arena *a, od_status *st)
{
    eng_tensor to = *views;
    ldr_placement place;
    size_t bytes = eng_tensor_bytes(views), size = eng_dtype_size(views->dtype);
    double spare_x = (double)centre->input_width - rint(centre->scale_x * (double)centre->image_width);
    double spare_y = (double)centre->input_height - rint(centre->scale_y * (double)centre->image_height);
    to.data = (uint8_t *)views->data + (size_t)k * bytes;
    place_view(centre, k % CROPS, spare_x, spare_y, &place);
    if (k < CROPS) return ldr_image_to_tensor(px, &card->pre, &place, card->nhwc, &to, a, st);
    /* a corner of the mirror image is the other one of the picture; its centre is another one where the margin is odd */
    int64_t same = k == CROPS ? 0 : ((k - CROPS - 1) ^ 1) + 1, channels = card->pre.channels;
    place.offset_x = spare_x - place.offset_x;
    if (k > CROPS || place.offset_x == centre->offset_x) memcpy(to.data, (uint8_t *)views->data + (size_t)same * bytes, bytes);
    else OD_TRY(ldr_image_to_tensor(px, &card->pre, &place, card->nhwc, &to, a, st));
    bool planes = !card->nhwc && to.layout == ENG_ROW;
    mirror_rows(to.data, centre->input_height * (planes ? channels : 1), centre->input_width, size * (size_t)(planes ? 1 : channels));
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
