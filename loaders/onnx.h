/* onnx.h - ONNX files into models.
 *
 * Nothing in a file is trusted: its wire format, sizes, names, nesting and paths are checked before
 * they are used, and a message names what was wrong. Model-local functions are inlined, Constant
 * nodes become constants, packed and sparse tensors become plain ones. Known are IR versions up to
 * 14 and the operator sets that ldr_onnx_opset_max tells.
 *
 * Files are read, not mapped: a model file that is overwritten while it is served changes nothing
 * for the model in memory. Large weights are read last, and those that are packed leave no copy of themselves. */
#ifndef LDR_ONNX_H
#define LDR_ONNX_H

#include "engine/model.h"

/* The model in the file at `path`, checked and finished by eng_model_finish with `options` (NULL: the
 * usual). External data is looked for beside the file and nowhere else. The caller destroys *out.
 * OD_NOT_FOUND, OD_IO; OD_BAD_MODEL: not an ONNX file, or one that contradicts itself;
 * OD_UNSUPPORTED: newer than onnxd, or operators and types it lacks; OD_TOO_LARGE: nested or expanded
 * beyond all reason; OD_NO_MEMORY. Any thread. */
od_code ldr_onnx_load(const char *path, const eng_load_options *options, eng_model **out, od_status *st);

/* The same from memory, which is only read during the call. External data is looked for in `folder`;
 * NULL: a model that needs it is refused. */
od_code ldr_onnx_load_bytes(const void *bytes, size_t size, const char *folder, const eng_load_options *options,
                            eng_model **out, od_status *st);

/* The newest operator set of `domain` that onnxd knows. */
int ldr_onnx_opset_max(eng_domain domain);

#endif
