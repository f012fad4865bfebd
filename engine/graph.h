/* graph.h - what the engine's own files do to graphs, beside model.h. Private to engine/. */
#ifndef ENG_GRAPH_H
#define ENG_GRAPH_H

#include "engine/op.h"

/* Make `g`, in any memory, an empty graph of `m`. false: no memory. */
bool eng_graph_init(eng_graph *g, eng_model *m, eng_graph *parent, const char *name);

/* Room for as many values and nodes in an empty graph. false: no memory. */
bool eng_graph_reserve(eng_graph *g, int values, int nodes);

/* A new value, whose name none has yet. ENG_NONE: no memory. */
int eng_graph_add_value(eng_graph *g, const char *name);

/* Set every value's producer. OD_BAD_MODEL: made twice, or made and given. */
od_code eng_graph_link(eng_graph *g, od_status *st);

/* Drop dead nodes and put the rest in an order in which they can run, near the order they have.
 * Links afresh. OD_BAD_MODEL: a cycle. */
od_code eng_graph_sort(eng_graph *g, od_status *st);

/* Room for `n` inputs or outputs of a node. A few more behind them are ENG_NONE, so that a pass may ask for
 * input 1 of an operator that has two, whatever a file says. NULL: no memory. */
int *eng_ports(eng_graph *g, int n);

/* Make room for `count` inputs; new ones are omitted. false: no memory. */
bool eng_node_set_inputs(eng_graph *g, eng_node *n, int count);

/* Call `fn` for each read of a constant by nodes (their attributes too), outputs and defaults of `g` and the graphs below it. */
void eng_graph_each_read(const eng_graph *g, void (*fn)(const eng_tensor *t, void *arg), void *arg);

/* How often the nodes, outputs and defaults of `g` and the graphs below it read bytes of the constant `w`. */
int eng_graph_uses(const eng_graph *g, const eng_tensor *w);

/* Infer types and shapes of every value of every graph into graph->probe, with sizes of its own
 * choice for extents the inputs leave free. Nodes whose inputs are all constant become constants.
 * Needs params: calls prepare with model->probing set. OD_BAD_TYPE, OD_UNSUPPORTED and, when no extent is
 * free, every error that a run would meet for certain. */
od_code eng_model_probe(eng_model *m, od_status *st);

/* Replace nodes whose inputs are all constants by their results, in every graph. */
od_code eng_model_fold(eng_model *m, od_status *st);

/* Add the output ENG_CLASS_MAP to a graph that was not looked at yet, where its end has the form. */
od_code eng_class_map_add(eng_model *m, od_status *st);

/* Let go of what loading and passes have left: values that nobody reads or writes, guesses, the arena's garbage. Values
 * are numbered anew; operators must be prepared anew. OD_NO_MEMORY: the model is as it was. */
od_code eng_model_compact(eng_model *m, od_status *st);

/* Run every pass that `options` leaves on, until none changes anything. */
od_code eng_passes_run(eng_model *m, const eng_load_options *options, od_status *st);

#endif
