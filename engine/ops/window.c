#include "engine/ops/conv.h"

enum { EXTENT_MAX = 1 << 24 }; /* of strides, dilations and pads: keeps products far from overflow */

static od_code read_list(const eng_node *n, const char *name, int64_t least, int64_t otherwise, int64_t *to, int *given,
                         od_status *st)
{
    int64_t count;
    const int64_t *v = eng_node_ints(n, name, &count);
    for (int i = 0; i < 3; i++) to[i] = otherwise;
    if (!v || !count) return OD_OK;
    if (count > 3 || (*given && count != *given))
        return od_fail(st, OD_BAD_ARGUMENT, "%s has %" PRId64 " numbers", name, count);
    *given = (int)count;
    for (int i = 0; i < count; i++) {
        if (v[i] < least || v[i] > EXTENT_MAX)
            return od_fail(st, OD_BAD_ARGUMENT, "%s holds %" PRId64 ": from %" PRId64 " to %d is possible", name, v[i], least,
                           EXTENT_MAX);
        to[3 - count + i] = v[i];
    }
    return OD_OK;
}

static od_code read_pads(const eng_node *n, eng_window *w, od_status *st)
{
    int64_t count;
    const int64_t *v = eng_node_ints(n, "pads", &count);
    if (!v || !count) return OD_OK;
    if (count % 2 || count > 6 || (w->given && count != 2 * w->given))
        return od_fail(st, OD_BAD_ARGUMENT, "pads has %" PRId64 " numbers", count);
    int axes = w->given = (int)count / 2;
    for (int i = 0; i < count; i++) {
        if (v[i] < -EXTENT_MAX || v[i] > EXTENT_MAX) return od_fail(st, OD_BAD_ARGUMENT, "pads holds %" PRId64, v[i]);
        if (i < axes) w->before[3 - axes + i] = v[i];
        else w->after[3 - 2 * axes + i] = v[i];
    }
    return OD_OK;
}

od_code eng_window_read(const eng_node *n, eng_window *w, od_status *st)
{
    *w = (eng_window){.ceil_mode = eng_node_int(n, "ceil_mode", 0) != 0};
    OD_TRY(read_list(n, "strides", 1, 1, w->stride, &w->given, st));
    OD_TRY(read_list(n, "dilations", 1, 1, w->dilation, &w->given, st));
    OD_TRY(read_list(n, "kernel_shape", 1, 0, w->kernel, &w->given, st));
    if (eng_node_string_is(n, "auto_pad", "NOTSET", "SAME_UPPER")) w->auto_pad = ENG_PAD_SAME_UPPER;
    else if (eng_node_string_is(n, "auto_pad", "NOTSET", "SAME_LOWER")) w->auto_pad = ENG_PAD_SAME_LOWER;
    else if (eng_node_string_is(n, "auto_pad", "NOTSET", "VALID")) w->auto_pad = ENG_PAD_VALID;
    else if (!eng_node_string_is(n, "auto_pad", "NOTSET", "NOTSET"))
        return od_fail(st, OD_BAD_ARGUMENT, "auto_pad is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID");
    return w->auto_pad ? OD_OK : read_pads(n, w, st);
}

od_code eng_window_fit(eng_window *w, const eng_tensor *x, const int64_t *size, od_status *st)
{
    int axes = x->rank - 2;
    if (axes < 1 || axes > 3 || (w->given && w->given != axes))
        return od_fail(st, OD_BAD_SHAPE, "the input has %d spatial axes, the attributes name %d", axes, w->given);
    for (int i = 0; i < 3; i++) {
        int a = i - (3 - axes);
        w->in[i] = a < 0 ? 1 : x->dims[2 + a];
        w->size[i] = a < 0 ? 1 : size[a];
        if (w->kernel[i] && a >= 0 && w->kernel[i] != w->size[i])
            return od_fail(st, OD_BAD_SHAPE, "kernel_shape says %" PRId64 ", the weights %" PRId64, w->kernel[i], w->size[i]);
        if (w->size[i] < 1 || w->size[i] > EXTENT_MAX) return od_fail(st, OD_BAD_SHAPE, "a window of extent %" PRId64, w->size[i]);
        int64_t reach = (w->size[i] - 1) * w->dilation[i] + 1;
        if (w->auto_pad == ENG_PAD_SAME_UPPER || w->auto_pad == ENG_PAD_SAME_LOWER) {
            w->out[i] = od_ceil_div(w->in[i], w->stride[i]);
            int64_t pad = od_max_i64(0, (w->out[i] - 1) * w->stride[i] + reach - w->in[i]);
            w->before[i] = w->auto_pad == ENG_PAD_SAME_UPPER ? pad / 2 : pad - pad / 2;
            w->after[i] = pad - w->before[i];
            continue;
        }
        int64_t room = w->in[i] + w->before[i] + w->after[i] - reach;
        if (room < 0 && (!w->overhang || (w->in[i] < 1 && x->dims[0] && x->dims[1]) || room / w->stride[i] < -1))
            return od_fail(st, OD_BAD_SHAPE, "a window of %" PRId64 " does not fit %" PRId64 " padded by %" PRId64 " and %" PRId64,
                           reach, w->in[i], w->before[i], w->after[i]);
        /* Below 0 the division cuts off as for ONNX's shapes: one window, and none where a whole stride is missing. */
        w->out[i] = (w->ceil_mode && room > 0 ? od_ceil_div(room, w->stride[i]) : room / w->stride[i]) + 1;
        if (w->ceil_mode && (w->out[i] - 1) * w->stride[i] >= w->in[i] + w->before[i]) w->out[i]--;
    }
    return OD_OK;
}
