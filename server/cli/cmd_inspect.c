/* cmd_inspect.c - `onnxd inspect`: what a model is, what it costs, what became of its graph; and with
 * --operators what onnxd can run at all. `onnxd version` too. */
#include "engine/base/cpu.h"
#include "engine/chain.h"
#include "engine/op.h"
#include "engine/session.h"
#include "loaders/onnx.h"
#include "server/cli/cli.h"
#include "server/describe.h"
#include "server/tasks/tasks.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES_MAX = 64 };

typedef struct inspect_options {
    const char *model;
    const char *shapes[SHAPES_MAX];
    int n_shapes;
    bool json, graph, card, operators, markdown;
    eng_load_options load;
} inspect_options;

static const char help[] =
    "usage: onnxd inspect MODEL [--json] [--graph] [--card] [--shape NAME=1x3x224x224]... [--no-passes] [--disable-passes A,B]\n"
    "       onnxd inspect --operators [--markdown]      every operator, with opsets and types\n"
    "What a model takes and gives, its operators, parameters, cost and memory; exit code 1 when onnxd cannot run it.\n"
    "--card     how pictures become its input and its output results, as a model.json to put beside it and change\n"
    "--graph    the nodes that run, after all rewrites (--no-passes: before them)\n"
    "--shape    extents to count with where the model leaves them free\n";

static const char *const domains[ENG_DOMAINS] = {"ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview", "onnxd"};

/* ---- the operator table ------------------------------------------------------------------- */

static int by_domain_and_name(const void *a, const void *b)
{
    const eng_op *x = *(const eng_op *const *)a, *y = *(const eng_op *const *)b;
    if (x->domain != y->domain) return (int)x->domain - (int)y->domain;
    int c = strcmp(x->name, y->name);
    return c ? c : x->since - y->since;
}

static void print_types(uint32_t types)
{
    const char *comma = "";
    if ((types & ENG_T_TENSOR) == ENG_T_TENSOR) {
        fputs("all", stdout);
        return;
    }
    for (int t = 1; t < ENG_DTYPES; t++) {
        if (!(types & ENG_T(t)) || !eng_dtype_size((eng_dtype)t)) continue;
        printf("%s%s", comma, eng_dtype_name((eng_dtype)t));
        comma = " ";
    }
}

static int print_operators(bool markdown)
{
    const eng_op **list = malloc((size_t)eng_ops_count * sizeof *list);
    if (!list) return 1;
    for (int i = 0; i < eng_ops_count; i++) list[i] = &eng_ops[i];
    qsort(list, (size_t)eng_ops_count, sizeof *list, by_domain_and_name);
    if (markdown)
        puts("# Operators\n\nWhat onnxd runs; made by `make docs`. \"Opsets\" are those at which a form of its own begins: each\n"
             "holds up to the next one, the last up to the newest opset. \"Types\" are those of the first input. Domain\n"
             "onnxd is its own: what its passes put in place of others.\n\n"
             "| domain | operator | opsets | types |\n|---|---|---|---|");
    for (int i = 0; i < eng_ops_count;) {
        const eng_op *op = list[i];
        char opsets[80];
        size_t at = 0;
        uint32_t types = 0;
        for (; i < eng_ops_count && list[i]->domain == op->domain && !strcmp(list[i]->name, op->name); i++) {
            int n = at < sizeof opsets ? snprintf(opsets + at, sizeof opsets - at, at ? " %d" : "%d", list[i]->since) : 0;
            at += (size_t)n;
            types |= list[i]->types;
        }
        printf(markdown ? "| %s | %s | %s | " : "%-14s %-28s %-12s ", domains[op->domain], op->name, opsets);
        print_types(types);
        puts(markdown ? " |" : "");
    }
    free(list);
    return 0;
}

/* ---- a model ------------------------------------------------------------------------------ */

static void value_text(const eng_graph *g, int v, char *text, size_t size)
{
    const eng_value *value = &g->values[v];
    size_t at = (size_t)snprintf(text, size, "%s[", eng_dtype_name(value->dtype));
    if (value->rank < 0) {
        snprintf(text, size, "%s, any rank", eng_dtype_name(value->dtype));
        return;
    }
    for (int d = 0; d < value->rank && at < size; d++) {
        const char *comma = d ? "," : "";
        if (value->dims[d] >= 0) at += (size_t)snprintf(text + at, size - at, "%s%" PRId64, comma, value->dims[d]);
        else at += (size_t)snprintf(text + at, size - at, "%s%s", comma, eng_dim_name(value, d) ? eng_dim_name(value, d) : "?");
    }
    if (at < size) snprintf(text + at, size - at, "]");
}

typedef struct summary {
    srv_cost cost;
    srv_op_count *ops;
    int n_ops;
    const char *card_source;
    char *card; /* a model.json; NULL: card_why_not says */
    char card_why_not[240];
} summary;

static void print_json(const eng_model *m, const summary *s, od_arena *a)
{
    cJSON *root = srv_describe(m, &s->cost, a);
    if (s->card) {
        cJSON_AddStringToObject(root, "card_source", s->card_source);
        cJSON_AddItemToObject(root, "card", cJSON_Parse(s->card));
    }
    char *text = cJSON_Print(root);
    if (text) puts(text);
    free(text);
    cJSON_Delete(root);
}

static void print_text(const eng_model *m, const summary *s)
{
    const eng_graph *g = m->graph;
    char text[512];
    printf("producer     %s, IR %" PRId64 ", opset %d\n", m->info.producer ? m->info.producer : "?", m->info.ir_version,
           m->opset[ENG_DOMAIN_ONNX]);
    for (int i = 0; i < g->n_inputs; i++) {
        value_text(g, g->inputs[i], text, sizeof text);
        printf("input        %s %s%s\n", g->values[g->inputs[i]].name, text,
               g->values[g->inputs[i]].constant ? " (has a default)" : "");
    }
    for (int i = 0; i < g->n_outputs; i++) {
        value_text(g, g->outputs[i], text, sizeof text);
        printf("output       %s %s\n", g->values[g->outputs[i]].name, text);
    }
    printf("parameters   %.3f million\n", (double)srv_parameters(g) / 1e6);
    if (s->cost.known)
        printf("cost         %.3f GMACs, %.1f MiB planned for intermediate values\n", (double)s->cost.macs / 1e9,
               (double)s->cost.planned / 1048576.0);
    else
        printf("cost         not known: %s\n", s->cost.why_not);
    printf("packed       %.1f MiB of weights\n", (double)m->packed_bytes / 1048576.0);
    printf("nodes        %d after the passes:", g->n_nodes);
    for (int i = 0; i < s->n_ops; i++) printf(" %s %d%s", s->ops[i].name, s->ops[i].n, i + 1 < s->n_ops ? "," : "");
    putchar('\n');
    for (int i = 0; i < m->info.n_metadata; i++)
        printf("metadata     %s = %.200s\n", m->info.metadata_keys[i], m->info.metadata_values[i]);
    if (s->card) printf("card         from %s (--card shows it)\n", s->card_source);
    else printf("card         %s\n", s->card_why_not);
}

static const char *value_name(const eng_graph *g, int v, char *text, size_t size)
{
    if (v < 0) return "-";
    if (*g->values[v].name) return g->values[v].name;
    snprintf(text, size, "%%%d", v);
    return text;
}

/* The nodes, and those of the graphs in them behind each, further to the right. */
static void print_graph(const eng_graph *g, int depth)
{
    static const char *const acts[ENG_ACTS] = {"", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Swish", "HardSigmoid",
                                               "HardSwish", "Gelu", "Gelu-tanh", "Tanh", "Mish", "Elu", "Softplus"};
    char name[32], shape[160];
    for (int i = 0; i < g->n_nodes; i++) {
        const eng_node *n = &g->nodes[i];
        printf("%*d %s", 4 + 4 * depth, i, n->op_type);
        for (int k = 0; n->chain && k < n->chain->n_steps; k++) printf(" %s", n->chain->steps[k].op_type);
        if (n->fused.scale_in) fputs(" +scale", stdout);
        if (n->fused.residual == ENG_RES_BEFORE_ACT) fputs(" +residual", stdout);
        if (n->fused.act) printf(" +%s", acts[n->fused.act]);
        if (n->fused.residual == ENG_RES_AFTER_ACT) fputs(" +residual", stdout);
        fputs(" (", stdout);
        for (int k = 0; k < n->n_in; k++) {
            bool constant = n->in[k] >= 0 && g->values[n->in[k]].constant;
            printf("%s%s%s", k ? ", " : "", constant ? "=" : "", value_name(g, n->in[k], name, sizeof name));
            if (constant) printf(" %s", eng_tensor_text(g->values[n->in[k]].constant, shape, sizeof shape));
        }
        fputs(") ->", stdout);
        for (int k = 0; k < n->n_out; k++) {
            printf(" %s", value_name(g, n->out[k], name, sizeof name));
            if (g->probe && n->out[k] >= 0 && n->out[k] < g->n_probe &&
                g->probe[n->out[k]].rank >= 0)
                printf(" %s", eng_tensor_text(&g->probe[n->out[k]], shape, sizeof shape));
        }
        putchar('\n');
        for (int k = 0; k < n->n_attrs; k++)
            for (int64_t j = 0; n->attrs[k].name && n->attrs[k].graphs && j < n->attrs[k].n; j++) {
                printf("%*s%s:\n", 5 + 4 * depth, "", n->attrs[k].name);
                print_graph(n->attrs[k].graphs[j], depth + 1);
            }
    }
}

static void find_cost(const inspect_options *o, eng_model *m, od_arena *a, srv_cost *cost)
{
    od_status st = {0};
    eng_tensor *inputs = od_arena_array(a, eng_tensor, m->graph->n_inputs);
    if (inputs && srv_cli_make_inputs(m, o->shapes, o->n_shapes, 1, a, inputs, &st) == OD_OK) srv_cost_find(cost, m, inputs);
    else snprintf(cost->why_not, sizeof cost->why_not, "%s", st.msg);
}

/* What is known of the model's use, as a model.json. */
static void find_card(const inspect_options *o, const eng_model *m, od_arena *a, summary *s)
{
    od_status st;
    ldr_card card;
    bool fine = ldr_card_find(o->model, NULL, m, a, &card, &st) == OD_OK && srv_task_check(&card, m, &st) == OD_OK &&
                ldr_card_json(&card, m, a, &s->card, &st) == OD_OK;
    if (fine) s->card_source = strcmp(card.source, LDR_GUESSED) ? card.source : "a guess at the graph";
    else snprintf(s->card_why_not, sizeof s->card_why_not, "%s", st.msg);
}

static od_code inspect(const inspect_options *o, od_status *st)
{
    od_arena arena = {0};
    eng_model *m = NULL;
    summary s = {0};
    od_code rc = ldr_onnx_load(o->model, &o->load, &m, st);
    if (rc != OD_OK) goto done;
    s.ops = od_arena_array(&arena, srv_op_count, m->graph->n_nodes);
    if (s.ops) s.n_ops = srv_op_counts(m->graph, s.ops);
    find_card(o, m, &arena, &s);
    if (o->card) {
        if (s.card) puts(s.card);
        else rc = od_fail(st, OD_BAD_MODEL, "%s", s.card_why_not);
        goto done;
    }
    find_cost(o, m, &arena, &s.cost);
    if (o->json) print_json(m, &s, &arena);
    else print_text(m, &s);
    if (o->graph) {
        putchar('\n');
        print_graph(m->graph, 0);
    }
done:
    eng_model_destroy(m);
    od_arena_fini(&arena);
    return rc;
}

int srv_cmd_inspect(int argc, char **argv)
{
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    inspect_options o = {0};
    od_status st;
    const char *word;
    while (a.at < argc && !a.failed) {
        if (srv_args_flag(&a, "--help")) return fputs(help, stdout), 0;
        else if (srv_args_flag(&a, "--json")) o.json = true;
        else if (srv_args_flag(&a, "--graph")) o.graph = true;
        else if (srv_args_flag(&a, "--card")) o.card = true;
        else if (srv_args_flag(&a, "--operators")) o.operators = true;
        else if (srv_args_flag(&a, "--markdown")) o.markdown = true;
        else if (srv_args_flag(&a, "--shape")) {
            const char *text = srv_args_text(&a, "--shape");
            if (o.n_shapes < SHAPES_MAX) o.shapes[o.n_shapes++] = text;
        } else if (srv_args_load(&a, &o.load)) continue;
        else if (!o.model && (word = srv_args_word(&a))) o.model = word;
        else srv_args_unknown(&a);
    }
    if (!a.failed && o.operators) return print_operators(o.markdown);
    if (a.failed || !o.model) return fputs(help, stderr), 2;
    return srv_cli_find_model(&o.model, &st) == OD_OK && inspect(&o, &st) == OD_OK ? 0 : srv_cli_fail(&st);
}

int srv_cmd_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    unsigned isa = od_cpu_isa();
    printf("onnxd %s, %s kernels, %d cores, %d operator forms\n", SRV_VERSION, od_cpu_isa_name(isa), od_cpu_count(),
           eng_ops_count);
    return 0;
}
