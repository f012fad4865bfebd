/* cmd_predict.c - `onnxd predict`: pictures in, the server's answers out, with no server. */
#include "engine/base/cpu.h"
#include "engine/session.h"
#include "loaders/onnx.h"
#include "loaders/tensor.h"
#include "server/cli/cli.h"
#include "server/tasks/region.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: onnxd predict MODEL IMAGE... [--json] [--top-k N] [--score-threshold X] [--iou-threshold X]\n"
    "                     [--max-detections N] [--class-agnostic 1] [--soft-nms SIGMA] [--format png|floats|base64] \n"
    "                     [--mask rle|polygon|png|none] [--crops 1|5|10] [--crop-mean scores|outputs] [--card FILE.json]\n"
    "                     [--save-input FILE.npy] [--threads N] [--pack-cache DIR]\n"
    "Classes, boxes or masks of JPEG and PNG files; - is standard input. MODEL is a .onnx file with its model.json beside\n"
    "it, or a folder that `onnxd serve` would take for a model; those that its card's \"then\" names lie beside it. Exit code 1 when a picture could not be answered.\n"
    "--json        one JSON object a picture, as the server answers, instead of lines of text\n"
    "--card        use this card instead of model.json beside the model\n"
    "--top-k, --score-threshold, --iou-threshold, --max-detections, --class-agnostic, --soft-nms, --format, --mask, --crops, --crop-mean: as in\n"
    "              the query of /predict\n"
    "--save-input  write what the (last) picture became for the model\n";

typedef struct predict_options {
    const char *model, *card, *save_input;
    char **images;
    int n_images, threads;
    bool json;
    srv_query query;
    eng_load_options load;
} predict_options;

typedef struct chained {
    const char *path;
    eng_model *model;
    eng_session *session;
    ldr_card card;
    struct chained *behind; /* as many as the card has `then` */
} chained;

typedef struct predictor {
    const predict_options *o;
    od_pool *pool;
    chained first;
    od_arena kept, arena; /* for all pictures, for one */
} predictor;

static od_code read_file(const char *path, od_arena *a, char **bytes, size_t *size, od_status *st)
{
    enum { STEP = 1 << 16 };
    bool input = !strcmp(path, "-");
    FILE *f = input ? stdin : fopen(path, "rbe");
    size_t cap = STEP, n;
    if (!f) return od_fail(st, errno == ENOENT ? OD_NOT_FOUND : OD_IO, "%s", strerror(errno));
    *bytes = od_arena_alloc(a, cap + 1);
    *size = 0;
    while (*bytes && (n = fread(*bytes + *size, 1, cap - *size, f)) > 0) {
        *size += n;
        if (*size < cap) continue;
        char *more = od_arena_alloc(a, 2 * cap + 1);
        if (more) memcpy(more, *bytes, *size);
        *bytes = more;
        cap *= 2;
    }
    bool failed = ferror(f);
    if (!input) fclose(f);
    if (failed) return od_fail(st, OD_IO, "it cannot be read");
    if (!*bytes) return od_fail(st, OD_NO_MEMORY, "no memory to read it");
    (*bytes)[*size] = 0;
    return OD_OK;
}

/* ---- lines of text ------------------------------------------------------------------------ */

static const char *label_of(const cJSON *entry, char *number, size_t size)
{
    const cJSON *label = cJSON_GetObjectItem(entry, "label"), *index = cJSON_GetObjectItem(entry, "index");
    if (cJSON_IsString(label)) return label->valuestring;
    snprintf(number, size, "class %d", cJSON_IsNumber(index) ? index->valueint : -1);
    return number;
}

static void print_list(const cJSON *list)
{
    char number[32];
    for (const cJSON *e = list->child; e; e = e->next) {
        const cJSON *score = cJSON_GetObjectItem(e, "score"), *box = cJSON_GetObjectItem(e, "box");
        const cJSON *share = cJSON_GetObjectItem(e, "share");
        printf("  ");
        if (score) printf("%.4f  ", cJSON_IsNumber(score) ? score->valuedouble : 0.0);
        if (share) printf("%5.1f %%  ", 100 * share->valuedouble);
        printf("%s", label_of(e, number, sizeof number));
        for (const cJSON *x = box ? box->child : NULL; x; x = x->next) printf(x == box->child ? "  at %.1f" : " %.1f", x->valuedouble);
        puts("");
    }
}

static void print_text(const char *image, const char *json)
{
    cJSON *j = cJSON_Parse(json);
    printf("%s\n", image);
    for (const cJSON *k = j ? j->child : NULL; k; k = k->next) {
        const cJSON *size = cJSON_GetObjectItem(k, "size");
        if (!strcmp(k->string, "embedding")) printf("  a vector of %d numbers\n", cJSON_GetArraySize(cJSON_IsArray(k) ? k : cJSON_GetObjectItem(k, "shape")));
        else if (cJSON_IsArray(k)) print_list(k);
        else if (!strcmp(k->string, "image") && cJSON_GetArraySize(size) == 2)
            printf("  a picture of %d x %d\n", cJSON_GetArrayItem(size, 1)->valueint, cJSON_GetArrayItem(size, 0)->valueint);
        else if (!strcmp(k->string, "heads")) {
            for (const cJSON *h = k->child; h; h = h->next) {
                printf("  %s\n", h->string);
                print_list(h);
            }
        }
        else if (cJSON_GetObjectItem(k, "classes")) print_list(cJSON_GetObjectItem(k, "classes"));
        else if (cJSON_GetObjectItem(k, "segments")) print_list(cJSON_GetObjectItem(k, "segments"));
    }
    cJSON_Delete(j);
}

/* ------------------------------------------------------------------------------------------- */

/* The model `name` that lies beside the one at `path`: in the folder of its file, or one or two above that. */
static od_code find_beside(const char *path, const char *name, od_arena *a, const char **out, od_status *st)
{
    static const char *const endings[] = {"", ".onnx"};
    char *whole = realpath(path, NULL), *dir = whole ? od_arena_strdup(a, whole, strlen(whole)) : NULL;
    free(whole);
    if (!dir) return od_fail(st, OD_IO, "%s cannot be found again", path);
    size_t size = strlen(dir) + strlen(name) + 8;
    char *file = od_arena_alloc(a, size);
    if (!file) return od_fail(st, OD_NO_MEMORY, "no memory for a name");
    for (int up = 0; up < 3 && strrchr(dir, '/') && !strchr(name, '/'); up++) {
        *strrchr(dir, '/') = 0;
        for (size_t i = 0; i < OD_COUNT(endings); i++) {
            snprintf(file, size, "%s/%s%s", dir, name, endings[i]);
            *out = file;
            if (!access(file, R_OK)) return OD_OK;
        }
    }
    return od_fail(st, OD_NOT_FOUND, "there is no model '%.80s' beside it", name);
}

static od_code load(predictor *p, const char *path, const char *card, int depth, chained *l, od_status *st)
{
    eng_load_options options = p->o->load;
    const char *found = path;
    options.pool = p->pool;
    OD_TRY(srv_cli_find_model(&found, st));
    if (!(l->path = od_arena_strdup(&p->kept, found, strlen(found)))) return od_fail(st, OD_NO_MEMORY, "no memory for a name");
    OD_TRY(ldr_onnx_load(l->path, &options, &l->model, st));
    OD_TRY(ldr_card_find(l->path, card, l->model, &p->kept, &l->card, st));
    if (l->card.task == LDR_TASK_NONE)
        return od_fail(st, OD_UNSUPPORTED, "%s says no task for this model: write a model.json, or use `onnxd run`", l->card.source);
    OD_TRY(srv_task_check(&l->card, l->model, st));
    OD_TRY(eng_session_create(&l->session, l->model, p->pool, 0, st));
    if (!l->card.n_then) return OD_OK;
    if (depth == SRV_CHAIN_DEPTH) return od_fail(st, OD_BAD_MODEL, "more than %d models one behind the other", SRV_CHAIN_DEPTH);
    l->behind = od_arena_zalloc(&p->kept, (size_t)l->card.n_then * sizeof *l->behind);
    if (!l->behind) return od_fail(st, OD_NO_MEMORY, "no memory for a chain");
    for (int i = 0; i < l->card.n_then; i++) {
        const char *name = l->card.then[i].model, *next = NULL;
        od_code rc = find_beside(l->path, name, &p->kept, &next, st);
        if (rc == OD_OK) rc = load(p, next, NULL, depth + 1, &l->behind[i], st);
        if (rc != OD_OK) return od_note(st, "model '%.60s'", name);
    }
    return OD_OK;
}

static void unload(chained *l)
{
    for (int i = 0; l->behind && i < l->card.n_then; i++) unload(&l->behind[i]);
    eng_session_destroy(l->session);
    eng_model_destroy(l->model);
}

/* ------------------------------------------------------------------------------------------- */

static od_code add_behind(predictor *p, chained *l, const srv_picture *picture, srv_text *json, od_status *st);

/* A session's outputs last until its next run. */
static od_code run_views(predictor *p, chained *l, const srv_picture *picture, eng_tensor **outputs, od_status *st)
{
    int n = picture->n_outputs;
    eng_tensor *inputs = od_arena_array(&p->arena, eng_tensor, picture->n_inputs);
    *outputs = od_arena_array(&p->arena, eng_tensor, picture->n_views * n);
    if (!inputs || !*outputs) return od_fail(st, OD_NO_MEMORY, "no memory for outputs");
    for (int64_t k = 0; k < picture->n_views; k++) {
        eng_tensor *own = *outputs + k * n;
        srv_picture_views(picture, k, 1, inputs);
        OD_TRY(eng_session_run(l->session, inputs, own, st));
        for (int i = 0; i < n && picture->n_views > 1; i++) {
            const eng_tensor lent = own[i];
            OD_TRY(eng_tensor_copy(&own[i], &lent, &p->arena, st));
        }
    }
    return OD_OK;
}

/* Runs the model and appends its answer's members. */
static od_code add_answer(predictor *p, chained *l, srv_picture *picture, const srv_query *q, srv_text *json, od_status *st)
{
    srv_text own = {.arena = &p->arena};
    eng_tensor *outputs;
    OD_TRY(run_views(p, l, picture, &outputs, st));
    OD_TRY(srv_picture_answer(&l->card, picture, outputs, q, &p->arena, &own, st));
    if (l->behind) OD_TRY(add_behind(p, l, picture, &own, st));
    srv_text_add(json, own.data, own.len);
    return OD_OK;
}

static od_code add_part(predictor *p, chained *l, const struct ldr_card_then *then, const ldr_pixels *from, srv_onward *part, od_status *st)
{
    ldr_pixels cut;
    srv_picture picture;
    srv_query q;
    srv_query_init(&q);
    part->json.arena = &p->arena;
    OD_TRY(srv_region_cut(part->region, then->margin, from, 4 * from->width * from->height, &p->arena, &cut, st));
    OD_TRY(srv_picture_open_pixels(&l->card, l->model, &q, &cut, &p->arena, &picture, st));
    return add_answer(p, l, &picture, &q, &part->json, st);
}

/* What the models behind say of each part goes into its detection. */
static od_code add_behind(predictor *p, chained *l, const srv_picture *picture, srv_text *json, od_status *st)
{
    srv_onward *parts;
    int64_t n;
    OD_TRY(srv_onward_list(&l->card, picture, &p->arena, &parts, &n, st));
    for (int64_t i = 0; i < n; i++) {
        const struct ldr_card_then *then = &l->card.then[parts[i].then];
        if (add_part(p, &l->behind[parts[i].then], then, &picture->pixels, &parts[i], st) != OD_OK) return od_note(st, "model '%.60s'", then->model);
    }
    return srv_onward_join(&l->card, parts, n, &p->arena, json, st);
}

static od_code predict(predictor *p, const char *image, od_status *st)
{
    char *bytes;
    size_t size;
    srv_picture picture;
    chained *l = &p->first;
    od_arena *a = &p->arena;
    od_arena_reset(a);
    OD_TRY(read_file(image, a, &bytes, &size, st));
    OD_TRY(srv_picture_open(&l->card, l->model, &p->o->query, bytes, size, 0, a, &picture, st));
    if (p->o->save_input) {
        eng_tensor row;
        OD_TRY(eng_tensor_copy(&row, &picture.inputs[l->card.input], a, st));
        if (ldr_npy_write(p->o->save_input, &row, st) != OD_OK) return od_note(st, "%s", p->o->save_input);
    }
    srv_text json = {.arena = a};
    srv_text_add(&json, "{", 1);
    if (p->o->json && p->o->n_images > 1) {
        srv_text_printf(&json, "\"image\":");
        srv_text_json(&json, image, strlen(image));
        srv_text_add(&json, ",", 1);
    }
    OD_TRY(add_answer(p, l, &picture, &p->o->query, &json, st));
    srv_text_add(&json, "}", 2); /* with the zero behind it */
    if (json.full) return od_fail(st, OD_NO_MEMORY, "no memory for the answer");
    if (p->o->json) puts(json.data);
    else print_text(image, json.data);
    return OD_OK;
}

/* All models, from the one that the command names. */
static od_code load_all(predictor *p, od_status *st)
{
    char *card = NULL;
    size_t size;
    OD_TRY(od_pool_create(&p->pool, p->o->threads - 1, st));
    if (p->o->card && read_file(p->o->card, &p->kept, &card, &size, st) != OD_OK) return od_note(st, "%s", p->o->card);
    return load(p, p->o->model, card, 1, &p->first, st);
}

static int predict_all(const predict_options *o)
{
    od_status st;
    predictor p = {.o = o};
    int failed = 0;
    bool loaded = load_all(&p, &st) == OD_OK;
    if (!loaded) failed = srv_cli_fail(&st);
    for (int i = 0; i < o->n_images && loaded; i++) {
        if (predict(&p, o->images[i], &st) == OD_OK) continue;
        od_note(&st, "%s", o->images[i]);
        failed = srv_cli_fail(&st);
    }
    unload(&p.first);
    od_pool_destroy(p.pool);
    od_arena_fini(&p.arena);
    od_arena_fini(&p.kept);
    return failed;
}

/* --top-k and its like: the query's key has underscores. */
static bool query_flag(srv_args *a, srv_query *q)
{
    static const char *const flags[][2] = {{"--top-k", "top_k"}, {"--score-threshold", "score_threshold"},
                                           {"--iou-threshold", "iou_threshold"}, {"--max-detections", "max_detections"},
                                           {"--mask", "mask"}, {"--class-agnostic", "class_agnostic"}, {"--soft-nms", "soft_nms"},
                                           {"--format", "format"}, {"--crops", "crops"}, {"--crop-mean", "crop_mean"}};
    od_status st;
    for (size_t i = 0; i < OD_COUNT(flags); i++) {
        if (!srv_args_flag(a, flags[i][0])) continue;
        const char *value = srv_args_text(a, flags[i][0]);
        if (!a->failed && srv_query_set(q, flags[i][1], value, &st) != OD_OK) {
            srv_cli_fail(&st);
            a->failed = true;
        }
        return true;
    }
    return false;
}

int srv_cmd_predict(int argc, char **argv)
{
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    predict_options o = {.threads = od_cpu_count(), .load = srv_cli_load_options(), .images = calloc((size_t)argc, sizeof *o.images)};
    const char *word;
    int code = 2;
    srv_query_init(&o.query);
    while (o.images && a.at < argc && !a.failed) {
        if (srv_args_flag(&a, "--help")) {
            fputs(help, stdout);
            free(o.images);
            return 0;
        }
        if (srv_args_flag(&a, "--json")) o.json = true;
        else if (srv_args_flag(&a, "--card")) o.card = srv_args_text(&a, "--card");
        else if (srv_args_flag(&a, "--save-input")) o.save_input = srv_args_text(&a, "--save-input");
        else if (srv_args_flag(&a, "--threads")) o.threads = (int)srv_args_int(&a, "--threads", 1, 1024);
        else if (srv_args_load(&a, &o.load)) continue;
        else if (query_flag(&a, &o.query)) continue;
        else if ((word = srv_args_word(&a))) {
            if (!o.model) o.model = word;
            else o.images[o.n_images++] = argv[a.at - 1];
        } else srv_args_unknown(&a);
    }
    if (a.failed || !o.model || !o.n_images) fputs(help, stderr);
    else code = predict_all(&o);
    free(o.images);
    return code;
}
