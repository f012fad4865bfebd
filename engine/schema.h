/* schema.h - what a node of each operator may have: how many inputs and outputs, which attributes.
 *
 * The table is made from the ONNX project's own description (tools/make_schemas.py), one line for each opset at
 * which one of these changed. An operator it lacks may have anything. */
#ifndef ENG_SCHEMA_H
#define ENG_SCHEMA_H

#include "engine/model.h"

typedef struct eng_schema {
    const char *name;
    eng_domain domain;
    int since;
    uint8_t min_in, max_in, min_out, max_out; /* 255: any number */
    const char *attrs; /* "axis:i perm:I!": name, kind (i f s t g, capital: a list), ! where it must be there */
} eng_schema;

extern const eng_schema eng_schemas[]; /* by name */
extern const int eng_schemas_count;

/* OD_BAD_MODEL: the node, as the loader built it, has other inputs, outputs or attributes than its operator. */
od_code eng_schema_check(const eng_node *n, od_status *st);

#endif
