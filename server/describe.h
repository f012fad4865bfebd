/* describe.h - a model and its profile in JSON and in order: for `onnxd inspect` and `bench`, and for the page. */
#ifndef SRV_DESCRIBE_H
#define SRV_DESCRIBE_H

#include "engine/session.h"

#include <cjson/cJSON.h>

/* Elements of all constants that are weights. */
int64_t srv_parameters(const eng_graph *g);

typedef struct srv_op_count {
    const char *name;
    int n;
} srv_op_count;

/* Operators of `g`, the most frequent first, into list[g->n_nodes]; how many there are. */
int srv_op_counts(const eng_graph *g, srv_op_count *list);

typedef struct srv_cost {
    bool known;
    int64_t macs;
    size_t planned; /* bytes of intermediate values */
    char why_not[240];
} srv_cost;

/* The cost of a run on `inputs`. */
void srv_cost_find(srv_cost *c, eng_model *m, const eng_tensor *inputs);

/* Everything about the model but its weights, as `onnxd inspect --json` prints it. The caller deletes it; NULL: no memory. */
cJSON *srv_describe(const eng_model *m, const srv_cost *cost, od_arena *a);

/* The rows of a profile, slowest first by the quickest run of each (the mean tells more of the machine's other work), in
 * `a`; `*total_ns`: their sum. NULL: no memory, or no row. */
eng_profile_row *srv_profile_sort(const eng_session *s, od_arena *a, int *n, int64_t *total_ns);

/* "Conv", or what a step without a node does. */
const char *srv_profile_operator(const eng_profile_row *row);

/* The times of all rows of one operator together, slowest first. */
typedef struct srv_op_time {
    const char *name;
    int64_t ns, count;
} srv_op_time;

/* Into list[n_rows]; how many there are. */
int srv_profile_by_operator(const eng_profile_row *rows, int n_rows, srv_op_time *list);

#endif
