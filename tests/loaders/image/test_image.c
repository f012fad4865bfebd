/* Decoding, bounds, placement, tensors. Agreement with Pillow: tests/loaders/image/test_resize.py. */
#include "loaders/image.h"
#include "loaders/image/parts.h"
#include "loaders/image/rows.h"
#include "tests/test.h"

#include <jpeglib.h> /* wants stdio.h before it */

enum { SIDE = 40 };

static od_arena arena;

/* A picture whose channels tell where a pixel lies: x in red, y in green, both in blue. */
static ldr_pixels gradient(int64_t width, int64_t height, int channels)
{
    ldr_pixels p;
    CHECK_OK(ldr_image_alloc(&arena, width, height, channels, &p, &st));
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                p.data[y * p.stride + x * channels + c] = (uint8_t)(c == 0 ? x * 3 : c == 1 ? y * 5 : (x + y) * 2);
    return p;
}

static ldr_pixels noise(int64_t width, int64_t height, int channels)
{
    ldr_pixels p = gradient(width, height, channels);
    uint32_t x = 12345;
    for (int64_t i = 0; i < p.stride * height; i++) {
        x = x * 1664525u + 1013904223u;
        p.data[i] = (uint8_t)(x >> 24);
    }
    return p;
}

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static bytes jpeg_of(const ldr_pixels *p, bool progressive, int orientation)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &size);
    c.image_width = (JDIMENSION)p->width;
    c.image_height = (JDIMENSION)p->height;
    c.input_components = p->channels;
    c.in_color_space = p->channels == 1 ? JCS_GRAYSCALE : p->channels == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 95, TRUE);
    if (progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    uint8_t exif[] = {'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t)orientation, 0, 0};
    if (orientation) jpeg_write_marker(&c, JPEG_APP0 + 1, exif, sizeof exif);
    for (int64_t y = 0; y < p->height; y++) {
        JSAMPROW row = p->data + y * p->stride;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    bytes b = {od_arena_alloc(&arena, size), size};
    memcpy(b.data, out, size);
    free(out);
    return b;
}

static od_code decode(bytes b, ldr_decode_options o, ldr_pixels *out)
{
    if (!o.channels) o.channels = 3;
    return ldr_image_decode(b.data, b.size, &o, &arena, out, &st);
}

static int largest_difference(const ldr_pixels *a, const ldr_pixels *b)
{
    int worst = 0;
    CHECK_EQ(a->width, b->width);
    CHECK_EQ(a->height, b->height);
    CHECK_EQ(a->channels, b->channels);
    for (int64_t y = 0; y < a->height; y++)
        for (int64_t x = 0; x < a->width * a->channels; x++) {
            int d = abs(a->data[y * a->stride + x] - b->data[y * b->stride + x]);
            if (d > worst) worst = d;
        }
    return worst;
}

TEST(jpegs_of_every_kind_are_read)
{
    ldr_pixels p = gradient(SIDE, 30, 3), g = gradient(SIDE, 30, 1), out;
    for (int progressive = 0; progressive < 2; progressive++) {
        CHECK_OK(decode(jpeg_of(&p, progressive, 0), (ldr_decode_options){0}, &out));
        CHECK(largest_difference(&p, &out) <= 8);
        CHECK_OK(decode(jpeg_of(&g, progressive, 0), (ldr_decode_options){.channels = 1}, &out));
        CHECK(largest_difference(&g, &out) <= 8);
    }
    ldr_pixels inks = gradient(SIDE, 30, 4);
    CHECK_OK(decode(jpeg_of(&inks, false, 0), (ldr_decode_options){0}, &out));
    for (int c = 0; c < 3; c++) /* inverted, as Adobe does */
        CHECK_NEAR(out.data[10 * out.stride + 20 * 3 + c],
                   inks.data[10 * inks.stride + 80 + c] * inks.data[10 * inks.stride + 80 + 3] / 255.0, 4);
}

TEST(exif_turns_the_picture)
{
    ldr_pixels p = gradient(SIDE, 30, 3), out;
    for (int o = 1; o <= 8; o++) {
        CHECK_OK(decode(jpeg_of(&p, false, o), (ldr_decode_options){0}, &out));
        CHECK_EQ(out.width, o < 5 ? SIDE : 30);
        CHECK_EQ(out.full_width, o < 5 ? SIDE : 30);
        /* where the first pixel of the file goes: left or right, top or bottom */
        bool right = o == 2 || o == 3 || o == 6 || o == 7, bottom = o == 3 || o == 4 || o == 7 || o == 8;
        const uint8_t *at = out.data + (bottom ? out.height - 1 : 0) * out.stride + (right ? out.width - 1 : 0) * 3;
        CHECK(at[0] < 12 && at[1] < 12);
    }
}

TEST(large_jpegs_shrink_while_decoding)
{
    ldr_pixels p = gradient(81, 64, 3), out;
    bytes b = jpeg_of(&p, false, 0);
    CHECK_OK(decode(b, (ldr_decode_options){.need_width = 5, .need_height = 4}, &out));
    CHECK_EQ(out.width, 21);
    CHECK_EQ(out.full_width, 81);
    CHECK_OK(decode(b, (ldr_decode_options){.need_width = 11, .need_height = 4}, &out));
    CHECK_EQ(out.width, 81);
    CHECK_OK(decode(jpeg_of(&p, false, 6), (ldr_decode_options){.need_width = 4, .need_height = 10}, &out));
    CHECK_EQ(out.height, 41);
    CHECK_EQ(out.full_height, 81);
}

TEST(pngs_come_back_as_they_were_written)
{
    for (int channels = 1; channels <= 3; channels += 2) {
        ldr_pixels p = noise(SIDE, 7, channels), out;
        void *data;
        size_t size;
        CHECK_OK(ldr_png_encode(&p, &arena, &data, &size, &st));
        CHECK_OK(decode((bytes){data, size}, (ldr_decode_options){.channels = channels}, &out));
        CHECK_EQ(largest_difference(&p, &out), 0);
    }
}

TEST(files_cut_short_are_refused)
{
    ldr_pixels p = noise(SIDE, 30, 3), out;
    for (int progressive = 0; progressive < 2; progressive++) {
        bytes b = jpeg_of(&p, progressive, 0);
        for (size_t size = 0; size < b.size * 9 / 10; size += 13)
            CHECK(decode((bytes){b.data, size}, (ldr_decode_options){0}, &out) != OD_OK);
    }
    bytes whole = jpeg_of(&p, false, 0);
    CHECK_OK(decode((bytes){whole.data, whole.size - 2}, (ldr_decode_options){0}, &out)); /* only the end marker */
    void *data;
    size_t size;
    CHECK_OK(ldr_png_encode(&p, &arena, &data, &size, &st));
    for (size_t s = 0; s < size; s += 7) CHECK(decode((bytes){data, s}, (ldr_decode_options){0}, &out) != OD_OK);
}

TEST(what_is_no_picture_is_refused)
{
    ldr_pixels out;
    CHECK_CODE(decode((bytes){(uint8_t *)"hello, world", 12}, (ldr_decode_options){0}, &out), OD_UNSUPPORTED);
    CHECK_CODE(decode((bytes){(uint8_t *)"", 0}, (ldr_decode_options){0}, &out), OD_BAD_VALUE);
}

TEST(the_bound_on_pixels_comes_before_decoding)
{
    ldr_pixels p = gradient(SIDE, 30, 3), out;
    bytes b = jpeg_of(&p, false, 0);
    CHECK_CODE(decode(b, (ldr_decode_options){.max_pixels = SIDE * 30 - 1}, &out), OD_TOO_LARGE);
    CHECK_HAS(st.msg, "40 x 30");
    CHECK_OK(decode(b, (ldr_decode_options){.max_pixels = SIDE * 30}, &out));
    void *data;
    size_t size;
    CHECK_OK(ldr_png_encode(&p, &arena, &data, &size, &st));
    CHECK_CODE(decode((bytes){data, size}, (ldr_decode_options){.max_pixels = 100}, &out), OD_TOO_LARGE);
}

TEST(memory_that_ends_is_an_error)
{
    ldr_pixels p = gradient(SIDE, 30, 3), out;
    bytes b = jpeg_of(&p, false, 0);
    od_arena small;
    od_arena_init(&small, 1000);
    ldr_decode_options o = {.channels = 3};
    CHECK_CODE(ldr_image_decode(b.data, b.size, &o, &small, &out, &st), OD_NO_MEMORY);
    od_arena_fini(&small);
}

/* ---- placement ---------------------------------------------------------------------------- */

static ldr_placement place(ldr_preprocess p, int64_t w, int64_t h)
{
    ldr_placement out;
    CHECK_OK(ldr_image_place(&p, w, h, &out, &st));
    return out;
}

TEST(letterboxes_keep_proportions)
{
    ldr_preprocess p = {.fit = LDR_FIT_LETTERBOX, .width = 640, .height = 640, .centered = true, .enlarge = true};
    ldr_placement at = place(p, 1280, 720);
    CHECK_NEAR(at.scale_x, 0.5, 1e-9);
    CHECK_NEAR(at.offset_y, 140, 0);
    CHECK_NEAR(at.offset_x, 0, 0);
    CHECK_NEAR(place(p, 100, 50).scale_y, 6.4, 1e-9);
    p.enlarge = false;
    CHECK_NEAR(place(p, 100, 50).scale_y, 1, 1e-9);
    p.multiple = 32;
    at = place(p, 1280, 720);
    CHECK_EQ(at.input_height, 384);
    CHECK_NEAR(at.offset_y, 12, 0);
    p.centered = false;
    CHECK_NEAR(place(p, 1280, 720).offset_y, 0, 0);
}

TEST(crops_come_from_the_middle)
{
    ldr_preprocess p = {.fit = LDR_FIT_CROP, .shorter = 256, .width = 224, .height = 224};
    ldr_placement at = place(p, 640, 480);
    CHECK_NEAR(at.scale_x * 640, 341, 1e-9);
    CHECK_NEAR(at.offset_x, -58, 0); /* 58.5 rounds to even */
    CHECK_NEAR(at.offset_y, -16, 0);
    p = (ldr_preprocess){.fit = LDR_FIT_CROP, .resize_width = 200, .resize_height = 200, .width = 224, .height = 224};
    CHECK_NEAR(place(p, 640, 480).offset_x, 12, 0);
}

TEST(shorter_sides_are_bounded_by_longer_ones)
{
    ldr_preprocess p = {.fit = LDR_FIT_SHORTER, .shorter = 800, .longer = 1333, .multiple = 32};
    ldr_placement at = place(p, 640, 480);
    CHECK_EQ(at.input_width, 1088);
    CHECK_EQ(at.input_height, 800);
    at = place(p, 2000, 500);
    CHECK_NEAR(at.scale_x * 2000, 1333, 1.01);
    CHECK_EQ(at.input_height, 352);
}

TEST(inputs_without_bound_are_refused)
{
    ldr_preprocess p = {.fit = LDR_FIT_SHORTER, .shorter = 800};
    ldr_placement at;
    CHECK_CODE(ldr_image_place(&p, 60000000, 1, &at, &st), OD_TOO_LARGE);
}

/* ---- tensors ------------------------------------------------------------------------------ */

static eng_tensor tensor_for(const ldr_placement *at, int channels, bool nhwc, eng_layout layout, eng_dtype type)
{
    eng_tensor t = {.dtype = type, .layout = layout, .rank = 4, .pitch = layout == ENG_CL ? channels : 0,
                    .dims = {1, channels, at->input_height, at->input_width}};
    if (nhwc) t = (eng_tensor){.dtype = type, .rank = 4, .dims = {1, at->input_height, at->input_width, channels}};
    t.data = od_arena_zalloc(&arena, eng_tensor_bytes(&t));
    return t;
}

/* Each pixel of the input by its definition. */
static double warped(const ldr_pixels *p, const ldr_placement *at, bool sharp, int64_t x, int64_t y, int c, double pad)
{
    double u = ((double)x - at->offset_x) / at->scale_x, v = ((double)y - at->offset_y) / at->scale_y, sum = 0;
    if (sharp && (u < 0 || v < 0 || u > (double)(p->width - 1) || v > (double)(p->height - 1))) return pad;
    for (int i = 0; i < 4; i++) {
        double px = floor(u) + i % 2, py = floor(v) + i / 2;
        bool inside = px >= 0 && py >= 0 && px < (double)p->width && py < (double)p->height;
        double level = inside ? p->data[(int64_t)py * p->stride + (int64_t)px * 3 + c] : pad;
        sum += level * (1 - fabs(u - px)) * (1 - fabs(v - py));
    }
    return sum;
}

TEST(affine_pictures_lie_in_the_middle_with_their_margins)
{
    ldr_pixels p = noise(53, 31, 3);
    for (int sharp = 0; sharp < 2; sharp++) {
        ldr_preprocess pre = {.fit = LDR_FIT_AFFINE, .width = 24, .height = 32, .margin = 0.125f, .align_corners = sharp, .channels = 3,
                              .rescale = 1, .std = {1, 1, 1}, .pad = {7, 8, 9}};
        ldr_placement at = place(pre, 53, 31);
        double wide = 53 * 1.25;
        CHECK_NEAR(at.scale_x, (24 - sharp) / wide, 1e-9);
        CHECK_NEAR(at.scale_y, (32 - sharp) / (wide * 32 / 24), 1e-9);
        CHECK_NEAR(at.offset_x, at.scale_x * 53 * 0.125, 1e-9);
        CHECK_NEAR(at.offset_y + at.scale_y * 31.0 / 2, (32 - sharp) / 2.0, 1e-9);
        eng_tensor t = tensor_for(&at, 3, false, ENG_ROW, ENG_FLOAT);
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &t, &arena, &st));
        for (int c = 0; c < 3; c++)
            for (int64_t i = 0; i < 24 * 32; i++)
                CHECK_NEAR(((float *)t.data)[c * 24 * 32 + i], warped(&p, &at, sharp, i % 24, i / 24, c, 7 + c), 0.51);
    }
    ldr_preprocess one = {.fit = LDR_FIT_AFFINE, .width = 1, .height = 1, .align_corners = true, .channels = 3, .rescale = 1, .std = {1, 1, 1}};
    ldr_placement at = place(one, 53, 31);
    eng_tensor t = tensor_for(&at, 3, false, ENG_ROW, ENG_FLOAT);
    CHECK_OK(ldr_image_to_tensor(&p, &one, &at, false, &t, &arena, &st));
}

TEST(every_layout_and_type_holds_the_same_numbers)
{
    ldr_pixels p = noise(53, 31, 3);
    ldr_preprocess pre = {.fit = LDR_FIT_LETTERBOX, .width = 43, .height = 37, .centered = true, .filter = LDR_BILINEAR,
                          .antialias = true, .channels = 3, .rescale = 1, .std = {1, 1, 1}, .pad = {7, 8, 9}};
    for (int bgr = 0; bgr < 2; bgr++) {
        pre.bgr = bgr;
        ldr_placement at = place(pre, 53, 31);
        eng_tensor rows = tensor_for(&at, 3, false, ENG_ROW, ENG_FLOAT), cl = tensor_for(&at, 3, false, ENG_CL, ENG_FLOAT);
        eng_tensor nhwc = tensor_for(&at, 3, true, ENG_ROW, ENG_FLOAT), half = tensor_for(&at, 3, false, ENG_ROW, ENG_FLOAT16);
        eng_tensor byte = tensor_for(&at, 3, true, ENG_ROW, ENG_UINT8), whole = tensor_for(&at, 3, false, ENG_ROW, ENG_INT32);
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &rows, &arena, &st));
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &cl, &arena, &st));
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, true, &nhwc, &arena, &st));
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &half, &arena, &st));
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, true, &byte, &arena, &st));
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &whole, &arena, &st));
        for (int64_t c = 0; c < 3; c++)
            for (int64_t i = 0; i < 43 * 37; i++) {
                float want = ((float *)rows.data)[c * 43 * 37 + i];
                CHECK_NEAR(((float *)cl.data)[i * 3 + c], want, 0);
                CHECK_NEAR(((float *)nhwc.data)[i * 3 + c], want, 0);
                CHECK_NEAR(eng_tensor_double(&half, c * 43 * 37 + i), want, 0);
                CHECK_NEAR(((uint8_t *)byte.data)[i * 3 + c], want, 0);
                CHECK_NEAR(((int32_t *)whole.data)[c * 43 * 37 + i], want, 0);
                if (i < 43) CHECK_NEAR(want, 7 + (float)c, 0);
            }
    }
}

TEST(numbers_are_rescaled_then_centred_then_divided)
{
    ldr_pixels p = noise(5, 3, 3);
    ldr_preprocess pre = {.fit = LDR_FIT_NONE, .channels = 3, .rescale = 1 / 255.0f, .mean = {0.4f, 0.5f, 0.6f},
                          .std = {0.2f, 0.25f, 0.5f}, .filter = LDR_BILINEAR};
    ldr_placement at = place(pre, 5, 3);
    eng_tensor t = tensor_for(&at, 3, false, ENG_ROW, ENG_FLOAT);
    CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &t, &arena, &st));
    for (int c = 0; c < 3; c++)
        CHECK_NEAR(((float *)t.data)[c * 15 + 7], (p.data[7 * 3 + c] / 255.0 - pre.mean[c]) / pre.std[c], 1e-5);
}

TEST(half_numbers_round_to_even_and_end_in_infinity)
{
    ldr_pixels p = noise(2, 1, 1);
    p.data[0] = 1;
    p.data[1] = 200;
    static const struct { float scale; double first, second; } cases[] = {
        {1e-7f, 1.1920929e-07, 2.002716064453125e-05}, {400, 400, INFINITY}, {0.0005f, 0.000500202178955078, 0.0999755859375}};
    for (size_t i = 0; i < OD_COUNT(cases); i++) {
        ldr_preprocess pre = {.fit = LDR_FIT_NONE, .channels = 1, .rescale = cases[i].scale, .std = {1}, .filter = LDR_NEAREST};
        ldr_placement at = place(pre, 2, 1);
        eng_tensor t = tensor_for(&at, 1, false, ENG_ROW, ENG_FLOAT16);
        CHECK_OK(ldr_image_to_tensor(&p, &pre, &at, false, &t, &arena, &st));
        CHECK_NEAR(eng_tensor_double(&t, 0), cases[i].first, 1e-9);
        if (isinf(cases[i].second)) CHECK(isinf(eng_tensor_double(&t, 1)));
        else CHECK_NEAR(eng_tensor_double(&t, 1), cases[i].second, 1e-9);
    }
}

TEST(tensors_that_do_not_fit_are_refused)
{
    ldr_pixels p = noise(5, 3, 3);
    ldr_preprocess pre = {.fit = LDR_FIT_NONE, .channels = 3, .rescale = 1, .std = {1, 1, 1}};
    ldr_placement at = place(pre, 5, 3), other = place(pre, 6, 3);
    eng_tensor t = tensor_for(&other, 3, false, ENG_ROW, ENG_FLOAT), i = tensor_for(&at, 3, false, ENG_ROW, ENG_INT64);
    CHECK_CODE(ldr_image_to_tensor(&p, &pre, &at, false, &t, &arena, &st), OD_BAD_SHAPE);
    CHECK_CODE(ldr_image_to_tensor(&p, &pre, &at, false, &i, &arena, &st), OD_BAD_TYPE);
}

TEST(padding_mirrors_the_picture_behind_its_end)
{
    uint8_t levels[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    ldr_pixels from = {.data = levels, .width = 4, .height = 4, .channels = 1, .stride = 4, .full_width = 4, .full_height = 4};
    ldr_preprocess p = {.fit = LDR_FIT_NONE, .channels = 1, .rescale = 1, .std = {1}, .multiple = 4, .above = true, .mirror = true, .filter = LDR_BILINEAR, .antialias = true};
    ldr_placement at;
    CHECK_OK(ldr_image_place(&p, 4, 4, &at, &st));
    CHECK_EQ(at.input_width, 8); /* though 4 is a multiple */
    CHECK_EQ(at.input_height, 8);
    float out[64];
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 4, .dims = {1, 1, 8, 8}, .data = out};
    CHECK_OK(ldr_image_to_tensor(&from, &p, &at, false, &t, &arena, &st));
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) CHECK(out[y * 8 + x] == levels[(y < 4 ? y : 7 - y) * 4 + (x < 4 ? x : 7 - x)]);
    p.above = false;
    CHECK_OK(ldr_image_place(&p, 4, 4, &at, &st));
    CHECK_EQ(at.input_width, 4);
    from.width = from.full_width = 3; /* more padding than picture reads it forwards again */
    p.multiple = 8;
    CHECK_OK(ldr_image_place(&p, 3, 4, &at, &st));
    CHECK_OK(ldr_image_to_tensor(&from, &p, &at, false, &t, &arena, &st));
    static const int places[] = {0, 1, 2, 2, 1, 0, 0, 1};
    for (int x = 0; x < 8; x++) CHECK(out[x] == levels[places[x]]);
}

TEST(sides_go_to_multiples)
{
    ldr_placement at;
    ldr_preprocess p = {.fit = LDR_FIT_MULTIPLES, .multiple = 32, .channels = 3};
    CHECK_OK(ldr_image_place(&p, 810, 1085, &at, &st)); /* the next below, as GLPN */
    CHECK_EQ(at.input_width, 800);
    CHECK_EQ(at.input_height, 1056);
    p = (ldr_preprocess){.fit = LDR_FIT_MULTIPLES, .multiple = 14, .width = 70, .height = 70, .channels = 3};
    CHECK_OK(ldr_image_place(&p, 1280, 720, &at, &st)); /* proportions kept, near the extents, as Depth Anything */
    CHECK_EQ(at.input_height, 70);
    CHECK_EQ(at.input_width, 126);
    p = (ldr_preprocess){.fit = LDR_FIT_MULTIPLES, .multiple = 32, .shorter = 800, .longer = 1333, .channels = 3};
    CHECK_OK(ldr_image_place(&p, 810, 1080, &at, &st)); /* 800 x 1066 stretched to the next above, as MaskFormer */
    CHECK_EQ(at.input_width, 800);
    CHECK_EQ(at.input_height, 1088);
    CHECK(at.scale_y == 1088.0 / 1080);
}

TEST(a_crop_may_keep_the_longer_side)
{
    ldr_placement at;
    ldr_preprocess p = {.fit = LDR_FIT_CROP, .width = 100, .height = 100, .longer = 110, .channels = 3}; /* timm's border */
    CHECK_OK(ldr_image_place(&p, 220, 110, &at, &st));
    CHECK_EQ((int)at.offset_x, -5);
    CHECK_EQ((int)at.offset_y, 22);
}

/* ---- the loops ---------------------------------------------------------------------------- */

#if defined(__x86_64__)
TEST(the_avx2_rows_equal_the_reference)
{
    if (!__builtin_cpu_supports("avx2")) return;
    static const ldr_filter filters[] = {LDR_NEAREST, LDR_BILINEAR, LDR_BICUBIC, LDR_LANCZOS, LDR_BOX};
    static const int sizes[][2] = {{1, 1}, {1, 17}, {3, 2}, {5, 64}, {33, 7}, {100, 31}, {64, 64}, {97, 200}, {640, 33}};
    for (size_t f = 0; f < OD_COUNT(filters); f++)
        for (size_t s = 0; s < OD_COUNT(sizes); s++)
            for (int way = 0; way < 8; way++) {
                int in = sizes[s][0], out = sizes[s][1], channels = way & 1 ? 3 : 1, keep = way & 4 ? 6 : 0;
                ldr_pixels p = noise(in, 9, channels);
                ldr_taps t;
                CHECK(ldr_taps_make(&t, filters[f], way & 2, !keep && f == 2, in, out, 0, out, &arena));
                size_t n = (size_t)(out * channels) + LDR_ROW_SLACK;
                int16_t *a[9], *b = od_arena_array(&arena, int16_t, (int64_t)n);
                for (int y = 0; y < 9; y++) {
                    a[y] = od_arena_array(&arena, int16_t, (int64_t)n);
                    ldr_rows_ref.across(p.data + y * p.stride, in, channels, &t, keep, a[y]);
                    ldr_rows_avx2.across(p.data + y * p.stride, in, channels, &t, keep, b);
                    CHECK(!memcmp(a[y], b, (size_t)(out * channels) * sizeof *b));
                }
                int16_t k[9] = {-1000, 3000, 5000, 9000, 8000, -500, 700, 2000, 6568};
                uint8_t *x = od_arena_alloc(&arena, n), *y = od_arena_alloc(&arena, n);
                for (int taps = 1; taps <= 9; taps++) {
                    ldr_rows_ref.down((const int16_t *const *)a, k, taps, 15 + keep, out * channels, x);
                    ldr_rows_avx2.down((const int16_t *const *)a, k, taps, 15 + keep, out * channels, y);
                    CHECK(!memcmp(x, y, (size_t)(out * channels)));
                }
                if (keep && filters[f] == LDR_BILINEAR)
                    for (int part = 0; part <= 2048; part += 256) {
                        ldr_rows_ref.down_pair(a[0], a[1], (int16_t)(2048 - part), (int16_t)part, out * channels, x);
                        ldr_rows_avx2.down_pair(a[0], a[1], (int16_t)(2048 - part), (int16_t)part, out * channels, y);
                        CHECK(!memcmp(x, y, (size_t)(out * channels)));
                    }
                ldr_levels l = {.scale = {0.5f, 2, 3}, .bias = {1, -1, 0.25f}, .channels = channels, .bgr = channels == 3 && way & 2};
                float *g = od_arena_array(&arena, float, (int64_t)n), *h = od_arena_array(&arena, float, (int64_t)n);
                ldr_rows_ref.to_pixels(x, out, &l, g);
                ldr_rows_avx2.to_pixels(x, out, &l, h);
                CHECK(!memcmp(g, h, (size_t)(out * channels) * sizeof *g));
                float *gp[3] = {g, g + out, g + 2 * out}, *hp[3] = {h, h + out, h + 2 * out};
                ldr_rows_ref.to_planes(x, out, &l, gp);
                ldr_rows_avx2.to_planes(x, out, &l, hp);
                CHECK(!memcmp(g, h, (size_t)(out * channels) * sizeof *g));
                od_arena_reset(&arena);
            }
}
#endif

TEST(weights_add_up_to_one)
{
    static const int sizes[][2] = {{1, 1}, {1, 50}, {2, 3}, {1000, 3}, {60000, 1}, {3, 1000}};
    for (int f = LDR_NEAREST; f <= LDR_BOX; f++)
        for (size_t s = 0; s < OD_COUNT(sizes); s++)
            for (int antialias = 0; antialias < 2; antialias++) {
                ldr_taps t;
                int in = sizes[s][0], out = sizes[s][1];
                CHECK(ldr_taps_make(&t, (ldr_filter)f, antialias, false, in, out, 0, out, &arena));
                for (int i = 0; i < out; i++) {
                    int64_t sum = 0;
                    CHECK(t.start[i] >= 0 && t.len[i] >= 1 && t.start[i] + t.len[i] <= in && t.len[i] <= t.n);
                    CHECK(i == 0 || t.start[i] >= t.start[i - 1]);
                    for (int j = 0; j < t.n; j++) sum += t.k[i * t.n + j];
                    CHECK_EQ(sum, 1 << t.bits);
                }
                od_arena_reset(&arena);
            }
}

TEST(resizing_to_the_same_size_changes_nothing)
{
    ldr_pixels p = noise(31, 17, 3), out;
    for (int f = LDR_NEAREST; f <= LDR_BOX; f++) {
        CHECK_OK(ldr_image_alloc(&arena, 31, 17, 3, &out, &st));
        CHECK_OK(ldr_image_resize(&p, (ldr_filter)f, true, &out, &arena, &st));
        CHECK_EQ(largest_difference(&p, &out), 0);
    }
}

TEST_MAIN
