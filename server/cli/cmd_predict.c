/* cmd_predict.c - `onnxd predict`: pictures in, the server's answers out, with no server. */
#include "engine/base/cpu.h"
#include "engine/session.h"
#include "loaders/onnx.h"
#include "loaders/tensor.h"
#include "server/cli/cli.h"
#include "server/tasks/tasks.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: onnxd predict MODEL IMAGE... [--json] [--top-k N] [--score-threshold X] [--iou-threshold X]\n"
    "                     [--max-detections N] [--mask rle|polygon|png|none] [--card FILE.json]\n"
    "                     [--save-input FILE.npy] [--threads N] [--pack-cache DIR]\n"
    "Classes, boxes or masks of JPEG and PNG files; - is standard input. MODEL is a .onnx file with its model.json beside\n"
    "it, or a folder that `onnxd serve` would take for a model. Exit code 1 when a picture could not be answered.\n"
    "--json        one JSON object a picture, as the server answers, instead of lines of text\n"
    "--card        use this card instead of model.json beside the model\n"
    "--top-k, --score-threshold, --iou-threshold, --max-detections, --mask: as in the query of /predict\n"
    "--save-input  write what the (last) picture became for the model\n";

typedef struct predict_options {
    const char *model, *card, *save_input;
    char **images;
    int n_images, threads;
    bool json;
    srv_query query;
    eng_load_options load;
} predict_options;

typedef struct predictor {
    const predict_options *o;
    od_pool *pool;
    eng_model *model;
    eng_session *session;
    ldr_card card;
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
        if (cJSON_IsArray(k)) print_list(k);
        else if (cJSON_GetObjectItem(k, "classes")) print_list(cJSON_GetObjectItem(k, "classes"));
        else if (cJSON_GetObjectItem(k, "segments")) print_list(cJSON_GetObjectItem(k, "segments"));
    }
    cJSON_Delete(j);
}

/* ------------------------------------------------------------------------------------------- */

static od_code load(predictor *p, od_status *st)
{
    const predict_options *o = p->o;
    const char *model = o->model;
    char *card = NULL;
    size_t size;
    eng_load_options options = o->load;
    OD_TRY(od_pool_create(&p->pool, o->threads - 1, st));
    options.pool = p->pool;
    OD_TRY(srv_cli_find_model(&model, st));
    OD_TRY(ldr_onnx_load(model, &options, &p->model, st));
    if (o->card && read_file(o->card, &p->kept, &card, &size, st) != OD_OK) return od_note(st, "%s", o->card);
    OD_TRY(ldr_card_find(model, card, p->model, &p->kept, &p->card, st));
    if (p->card.task == LDR_TASK_NONE)
        return od_fail(st, OD_UNSUPPORTED, "%s says no task for this model: write a model.json, or use `onnxd run`", p->card.source);
    OD_TRY(srv_task_check(&p->card, p->model, st));
    return eng_session_create(&p->session, p->model, p->pool, 0, st);
}

static od_code predict(predictor *p, const char *image, od_status *st)
{
    char *bytes;
    size_t size;
    srv_picture picture;
    od_arena *a = &p->arena;
    od_arena_reset(a);
    OD_TRY(read_file(image, a, &bytes, &size, st));
    OD_TRY(srv_picture_open(&p->card, p->model, bytes, size, 0, a, &picture, st));
    if (p->o->save_input) {
        eng_tensor row;
        OD_TRY(eng_tensor_copy(&row, &picture.inputs[p->card.input], a, st));
        if (ldr_npy_write(p->o->save_input, &row, st) != OD_OK) return od_note(st, "%s", p->o->save_input);
    }
    eng_tensor *outputs = od_arena_array(a, eng_tensor, p->model->graph->n_outputs);
    if (!outputs) return od_fail(st, OD_NO_MEMORY, "no memory for outputs");
    OD_TRY(eng_session_run(p->session, picture.inputs, outputs, st));
    srv_text json = {.arena = a};
    srv_text_add(&json, "{", 1);
    if (p->o->json && p->o->n_images > 1) {
        srv_text_printf(&json, "\"image\":");
        srv_text_json(&json, image, strlen(image));
        srv_text_add(&json, ",", 1);
    }
    OD_TRY(srv_picture_answer(&p->card, &picture, outputs, &p->o->query, a, &json, st));
    srv_text_add(&json, "}", 2); /* with the zero behind it */
    if (json.full) return od_fail(st, OD_NO_MEMORY, "no memory for the answer");
    if (p->o->json) puts(json.data);
    else print_text(image, json.data);
    return OD_OK;
}

static int predict_all(const predict_options *o)
{
    od_status st;
    predictor p = {.o = o};
    int failed = 0;
    if (load(&p, &st) != OD_OK) failed = srv_cli_fail(&st);
    for (int i = 0; i < o->n_images && p.session; i++) {
        if (predict(&p, o->images[i], &st) == OD_OK) continue;
        od_note(&st, "%s", o->images[i]);
        failed = srv_cli_fail(&st);
    }
    eng_session_destroy(p.session);
    eng_model_destroy(p.model);
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
                                           {"--mask", "mask"}};
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
