#include "server/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t srv_parameters(const eng_graph *g)
{
    int64_t n = 0;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant && ENG_T(g->values[v].constant->dtype) & (ENG_T_FLOAT | ENG_T(ENG_INT8) | ENG_T(ENG_UINT8)))
            n += eng_tensor_count(g->values[v].constant);
    return n;
}

static int more_first(const void *a, const void *b)
{
    const srv_op_count *x = a, *y = b;
    return x->n != y->n ? y->n - x->n : strcmp(x->name, y->name);
}

int srv_op_counts(const eng_graph *g, srv_op_count *list)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        int k = 0;
        while (k < n && strcmp(list[k].name, g->nodes[i].op_type)) k++;
        if (k == n) list[n++] = (srv_op_count){g->nodes[i].op_type, 0};
        list[k].n++;
    }
    if (n) qsort(list, (size_t)n, sizeof *list, more_first);
    return n;
}

void srv_cost_find(srv_cost *c, eng_model *m, const eng_tensor *inputs)
{
    od_status st = {0};
    eng_session *session = NULL;
    if (eng_session_create(&session, m, NULL, 0, &st) == OD_OK)
        c->known = eng_session_cost(session, inputs, &c->macs, &c->planned, &st) == OD_OK;
    snprintf(c->why_not, sizeof c->why_not, "%s", c->known ? "" : st.msg);
    eng_session_destroy(session);
}

static void add_ports(cJSON *root, const char *key, const eng_graph *g, const int *list, int n)
{
    cJSON *ports = cJSON_AddArrayToObject(root, key);
    for (int i = 0; i < n; i++) {
        const eng_value *v = &g->values[list[i]];
        cJSON *p = cJSON_CreateObject(), *shape;
        cJSON_AddStringToObject(p, "name", v->name);
        cJSON_AddStringToObject(p, "type", eng_dtype_name(v->dtype));
        if (v->rank >= 0) {
            shape = cJSON_AddArrayToObject(p, "shape");
            for (int d = 0; d < v->rank; d++) {
                if (v->dims[d] < 0 && eng_dim_name(v, d)) cJSON_AddItemToArray(shape, cJSON_CreateString(eng_dim_name(v, d)));
                else cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)v->dims[d]));
            }
        }
        cJSON_AddItemToArray(ports, p);
    }
}

cJSON *srv_describe(const eng_model *m, const srv_cost *cost, od_arena *a)
{
    const eng_graph *g = m->graph;
    cJSON *root = cJSON_CreateObject();
    srv_op_count *list = od_arena_array(a, srv_op_count, g->n_nodes);
    cJSON_AddStringToObject(root, "producer", m->info.producer ? m->info.producer : "");
    cJSON_AddNumberToObject(root, "ir_version", (double)m->info.ir_version);
    cJSON_AddNumberToObject(root, "opset", m->opset[ENG_DOMAIN_ONNX]);
    add_ports(root, "inputs", g, g->inputs, g->n_inputs);
    add_ports(root, "outputs", g, g->outputs, g->n_outputs);
    cJSON_AddNumberToObject(root, "parameters", (double)srv_parameters(g));
    cJSON_AddNumberToObject(root, "nodes", g->n_nodes);
    if (cost->known) {
        cJSON_AddNumberToObject(root, "gmacs", (double)cost->macs / 1e9);
        cJSON_AddNumberToObject(root, "planned_mb", (double)cost->planned / 1048576.0);
    }
    cJSON_AddNumberToObject(root, "packed_mb", (double)m->packed_bytes / 1048576.0);
    cJSON *ops = cJSON_AddObjectToObject(root, "operators");
    int n = list ? srv_op_counts(g, list) : 0;
    for (int i = 0; i < n; i++) cJSON_AddNumberToObject(ops, list[i].name, list[i].n);
    cJSON *meta = cJSON_AddObjectToObject(root, "metadata");
    for (int i = 0; i < m->info.n_metadata; i++)
        cJSON_AddStringToObject(meta, m->info.metadata_keys[i], m->info.metadata_values[i]);
    return root;
}

static int slower_first(const void *a, const void *b)
{
    const eng_profile_row *x = a, *y = b;
    return x->least_ns < y->least_ns ? 1 : x->least_ns > y->least_ns ? -1 : 0;
}

eng_profile_row *srv_profile_sort(const eng_session *s, od_arena *a, int *n, int64_t *total_ns)
{
    const eng_profile_row *rows;
    *n = eng_session_profile_rows(s, &rows);
    *total_ns = 0;
    eng_profile_row *sorted = *n ? od_arena_array(a, eng_profile_row, *n) : NULL;
    if (!sorted) return NULL;
    memcpy(sorted, rows, (size_t)*n * sizeof *rows);
    for (int i = 0; i < *n; i++) *total_ns += rows[i].least_ns;
    qsort(sorted, (size_t)*n, sizeof *sorted, slower_first);
    return sorted;
}

const char *srv_profile_operator(const eng_profile_row *row)
{
    return row->node ? row->node->op_type : "relayout";
}

static int more_time_first(const void *a, const void *b)
{
    const srv_op_time *x = a, *y = b;
    return x->ns < y->ns ? 1 : x->ns > y->ns ? -1 : strcmp(x->name, y->name);
}

int srv_profile_by_operator(const eng_profile_row *rows, int n_rows, srv_op_time *list)
{
    int n = 0;
    for (int i = 0; i < n_rows; i++) {
        const char *name = srv_profile_operator(&rows[i]);
        int k = 0;
        while (k < n && strcmp(list[k].name, name)) k++;
        if (k == n) list[n++] = (srv_op_time){.name = name};
        list[k].ns += rows[i].least_ns;
        list[k].count++;
    }
    if (n) qsort(list, (size_t)n, sizeof *list, more_time_first);
    return n;
}
