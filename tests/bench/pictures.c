/* pictures.c - what a picture costs beside the bare decoder, and what YOLO v8's boxes cost; by turns in one run.
 *   pictures [PICTURE.jpg]     without one, a picture of 640 x 480 is made up */
#include "engine/base/cpu.h"
#include "server/tasks/tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h> /* wants stdio.h before it */

enum { ROUNDS = 300, SIDE = 224, BOXES = 8400, CLASSES = 80, WIDTH = 640, HEIGHT = 480 };

typedef struct bytes {
    unsigned char *data;
    unsigned long size;
} bytes;

/* Smooth shapes with some noise, so that it compresses like a photograph. */
static bytes made_up(void)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    static unsigned char row[WIDTH * 3];
    bytes b = {0};
    unsigned noise = 1;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &b.data, &b.size);
    c.image_width = WIDTH;
    c.image_height = HEIGHT;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++)
            for (int k = 0; k < 3; k++) {
                noise = noise * 1664525u + 1013904223u;
                row[x * 3 + k] = (unsigned char)(120 + 70 * sin(x / 37.0 + k) * cos(y / 23.0 - k) + (noise >> 24) % 32);
            }
        JSAMPROW rows[1] = {row};
        jpeg_write_scanlines(&c, rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return b;
}

static bytes read_file(const char *path)
{
    bytes b = {malloc(1 << 26), 0};
    FILE *f = fopen(path, "rb");
    if (f && b.data) b.size = fread(b.data, 1, 1 << 26, f);
    if (f) fclose(f);
    return b;
}

static void bare_decode(const bytes *b, unsigned char *to)
{
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    c.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&c);
    jpeg_mem_src(&c, b->data, b->size);
    jpeg_read_header(&c, TRUE);
    c.out_color_space = JCS_RGB;
    jpeg_start_decompress(&c);
    while (c.output_scanline < c.output_height) {
        JSAMPROW row[1] = {to + (size_t)c.output_scanline * c.output_width * 3};
        jpeg_read_scanlines(&c, row, 1);
    }
    jpeg_finish_decompress(&c);
    jpeg_destroy_decompress(&c);
}

static od_code whole_way(const bytes *b, const ldr_preprocess *p, od_arena *a, float *to, od_status *st)
{
    ldr_decode_options o = {.channels = 3};
    ldr_pixels px;
    ldr_placement at;
    od_arena_reset(a);
    OD_TRY(ldr_image_decode(b->data, b->size, &o, a, &px, st));
    OD_TRY(ldr_image_place(p, px.full_width, px.full_height, &at, st));
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 4, .dims = {1, 3, SIDE, SIDE}, .data = to};
    return ldr_image_to_tensor(&px, p, &at, false, &t, a, st);
}

static int upwards(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The lower tenth: what it takes when nobody disturbs. */
static double typical(double *x)
{
    qsort(x, ROUNDS, sizeof *x, upwards);
    return x[ROUNDS / 10];
}

static int bench_decode(const bytes *b, const char *name, ldr_filter filter)
{
    static double bare[ROUNDS], whole[ROUNDS];
    static float out[3 * SIDE * SIDE];
    od_status st;
    od_arena a = {0};
    ldr_preprocess p = {.fit = LDR_FIT_STRETCH, .width = SIDE, .height = SIDE, .filter = filter, .antialias = true, .channels = 3,
                        .rescale = 1 / 255.0f, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
    unsigned char *pixels = malloc((size_t)1 << 28);
    for (int i = 0; i < ROUNDS; i++) {
        int64_t begin = od_now_ns();
        bare_decode(b, pixels);
        int64_t middle = od_now_ns();
        if (whole_way(b, &p, &a, out, &st) != OD_OK) return puts(st.msg), 1;
        bare[i] = (double)(middle - begin) / 1e6;
        whole[i] = (double)(od_now_ns() - middle) / 1e6;
    }
    double x = typical(bare), y = typical(whole);
    printf("| JPEG to 3x%dx%d, %s | %.3f ms | %.3f ms bare | %.2f |\n", SIDE, SIDE, name, y, x, y / x);
    free(pixels);
    od_arena_fini(&a);
    return 0;
}

static int bench_yolo(void)
{
    static double times[ROUNDS];
    od_arena a = {0};
    od_status st;
    float *x = malloc((4 + CLASSES) * BOXES * sizeof *x);
    unsigned noise = 7;
    for (int i = 0; i < (4 + CLASSES) * BOXES; i++) { /* some twenty boxes pass the threshold */
        noise = noise * 1664525u + 1013904223u;
        float u = (float)(noise >> 8) / 16777216.0f;
        x[i] = i < 4 * BOXES ? u * 640 : u < 0.99997f ? u * 0.2f : 0.9f;
    }
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 3, .dims = {1, 4 + CLASSES, BOXES}, .data = x};
    ldr_card card = {.task = LDR_TASK_DETECT, .source = "", .decoder = "yolov8", .max_detections = 300, .score_threshold = 0.25,
                     .iou_threshold = 0.7};
    srv_query q;
    srv_query_init(&q);
    size_t length = 0;
    for (int i = 0; i < ROUNDS; i++) {
        od_arena_reset(&a);
        srv_picture p = {.placement = {1, 1, 0, 0, 640, 640, 640, 640}, .n_outputs = 1};
        srv_text json = {.arena = &a};
        int64_t begin = od_now_ns();
        if (srv_picture_answer(&card, &p, &t, &q, &a, &json, &st) != OD_OK) return puts(st.msg), 1;
        times[i] = (double)(od_now_ns() - begin) / 1e6;
        length = json.len;
    }
    printf("| YOLO v8 boxes of %d x %d to %zu bytes of JSON | %.3f ms | | |\n", BOXES, 4 + CLASSES, length, typical(times));
    free(x);
    od_arena_fini(&a);
    return 0;
}

int main(int argc, char **argv)
{
    bytes b = argc > 1 ? read_file(argv[1]) : made_up();
    puts("| what | time | beside | ratio |\n|---|--:|--:|--:|");
    int bad = bench_decode(&b, "bilinear", LDR_BILINEAR) || bench_decode(&b, "bicubic", LDR_BICUBIC) || bench_yolo();
    free(b.data);
    return bad;
}
