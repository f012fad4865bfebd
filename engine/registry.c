/* registry.c - every operator onnxd runs, one line a variant: by name, then since. */
#include "engine/ops/ops.h"

#include <string.h>

/* columns: name, domain, since, types, flags, import, prepare, infer, layout, alias, run */
const eng_op eng_ops[] = {
};

const int eng_ops_count = (int)OD_COUNT(eng_ops);

const eng_op *eng_op_find(eng_domain domain, const char *name, int opset)
{
    const eng_op *best = NULL;
    for (int i = 0; i < eng_ops_count; i++) {
        const eng_op *op = &eng_ops[i];
        if (op->domain != domain || op->since > opset || strcmp(op->name, name)) continue;
        if (!best || op->since > best->since) best = op;
    }
    return best;
}
