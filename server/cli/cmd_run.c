/* cmd_run.c - `onnxd run`: npy files in, a model's run, npy files out. */
#include "engine/base/cpu.h"
#include "engine/session.h"
#include "loaders/onnx.h"
#include "loaders/tensor.h"
#include "server/cli/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { INPUTS_MAX = 64 };

typedef struct run_options {
    const char *model, *output_dir;
    const char *inputs[INPUTS_MAX]; /* NAME=FILE */
    int n_inputs, threads;
    eng_load_options load;
} run_options;

static const char help[] =
    "usage: onnxd run MODEL --input NAME=FILE.npy ... --output-dir DIR [--threads N] [--pack-cache DIR] [--tune]\n"
    "                 [--disable-passes A,B] [--no-passes]\n"
    "MODEL            a .onnx file, or a folder that `onnxd serve` would take for a model\n"
    "--input          the tensor for input NAME; inputs with a default may be left out\n"
    "--output-dir     gets one file an output, in graph order: 0_NAME.npy, 1_NAME.npy, ... (made when missing)\n"
    "--pack-cache     keeps packed weights in DIR for the next start (ONNXD_PACK_CACHE)\n"
    "--tune           measures the forms of convolutions instead of looking them up\n"
    "--disable-passes, --no-passes: leave some or all rewrites of the graph out, to look for a wrong one\n";

static od_code read_inputs(const run_options *o, const eng_graph *g, od_arena *a, eng_tensor *inputs, od_status *st)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        inputs[i] = (eng_tensor){.dtype = v->dtype};
    }
    for (int i = 0; i < o->n_inputs; i++) {
        const char *eq = strchr(o->inputs[i], '=');
        if (!eq) return od_fail(st, OD_BAD_ARGUMENT, "--input %s: NAME=FILE.npy is wanted", o->inputs[i]);
        size_t len = (size_t)(eq - o->inputs[i]);
        int at = 0;
        while (at < g->n_inputs) {
            const char *name = g->values[g->inputs[at]].name;
            if (strlen(name) == len && !strncmp(name, o->inputs[i], len)) break;
            at++;
        }
        if (at == g->n_inputs) return od_fail(st, OD_NOT_FOUND, "the model has no input '%.*s'", (int)len, o->inputs[i]);
        if (ldr_npy_read(eq + 1, a, &inputs[at], st) != OD_OK) return od_note(st, "%s", eq + 1);
    }
    return OD_OK;
}

static od_code write_outputs(const run_options *o, const eng_graph *g, const eng_tensor *outputs, od_status *st)
{
    mkdir(o->output_dir, 0777); /* it may exist; writing tells */
    for (int k = 0; k < g->n_outputs; k++) {
        char path[4096], name[256];
        snprintf(name, sizeof name, "%s", g->values[g->outputs[k]].name);
        for (char *c = name; *c; c++)
            if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) *c = '_';
        snprintf(path, sizeof path, "%s/%d_%s.npy", o->output_dir, k, name);
        if (ldr_npy_write(path, &outputs[k], st) != OD_OK) return od_note(st, "%s", path);
    }
    return OD_OK;
}

static od_code run_model(const run_options *o, od_status *st)
{
    od_code rc;
    od_arena arena = {0};
    od_pool *pool = NULL;
    eng_model *model = NULL;
    eng_session *session = NULL;
    eng_load_options load = o->load;
    if ((rc = od_pool_create(&pool, o->threads - 1, st)) != OD_OK) goto done;
    load.pool = pool;
    if ((rc = ldr_onnx_load(o->model, &load, &model, st)) != OD_OK) goto done;
    if ((rc = eng_session_create(&session, model, pool, 0, st)) != OD_OK) goto done;
    eng_tensor *inputs = od_arena_array(&arena, eng_tensor, model->graph->n_inputs);
    eng_tensor *outputs = od_arena_array(&arena, eng_tensor, model->graph->n_outputs);
    if (!inputs || !outputs) {
        rc = od_fail(st, OD_NO_MEMORY, "no memory for the model's ports");
        goto done;
    }
    if ((rc = read_inputs(o, model->graph, &arena, inputs, st)) != OD_OK) goto done;
    if ((rc = eng_session_run(session, inputs, outputs, st)) != OD_OK) goto done;
    rc = write_outputs(o, model->graph, outputs, st);
done:
    eng_session_destroy(session);
    eng_model_destroy(model);
    od_pool_destroy(pool);
    od_arena_fini(&arena);
    return rc;
}

int srv_cmd_run(int argc, char **argv)
{
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    run_options o = {.threads = od_cpu_count(), .load = srv_cli_load_options()};
    od_status st;
    const char *word;
    while (a.at < argc && !a.failed) {
        if (srv_args_flag(&a, "--help")) return fputs(help, stdout), 0;
        else if (srv_args_flag(&a, "--input")) {
            const char *text = srv_args_text(&a, "--input");
            if (o.n_inputs < INPUTS_MAX) o.inputs[o.n_inputs++] = text;
        } else if (srv_args_flag(&a, "--output-dir")) o.output_dir = srv_args_text(&a, "--output-dir");
        else if (srv_args_flag(&a, "--threads")) o.threads = (int)srv_args_int(&a, "--threads", 1, 1024);
        else if (srv_args_load(&a, &o.load)) continue;
        else if (!o.model && (word = srv_args_word(&a))) o.model = word;
        else srv_args_unknown(&a);
    }
    if (a.failed || !o.model || !o.output_dir) return fputs(help, stderr), 2;
    return srv_cli_find_model(&o.model, &st) == OD_OK && run_model(&o, &st) == OD_OK ? 0 : srv_cli_fail(&st);
}
