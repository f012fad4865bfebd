/* load.c - from a file to a model. */
#include "loaders/image.h"
#include "loaders/onnx.h"
#include "loaders/onnx/build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the message -------------------------------------------------------------------------- */

static od_code copy_text(eng_model *m, const char *from, const char **to, od_status *st)
{
    *to = od_arena_strdup(&m->arena, from ? from : "", from ? strlen(from) : 0);
    return *to ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for the model's description");
}

static od_code read_info(eng_model *m, const Onnx__ModelProto *p, od_status *st)
{
    eng_model_info *info = &m->info;
    OD_TRY(copy_text(m, p->producer_name, &info->producer, st));
    OD_TRY(copy_text(m, p->domain, &info->domain, st));
    OD_TRY(copy_text(m, p->doc_string, &info->description, st));
    info->ir_version = p->ir_version;
    info->model_version = p->model_version;
    info->metadata_keys = od_arena_calloc(&m->arena, p->n_metadata_props, sizeof(char *));
    info->metadata_values = od_arena_calloc(&m->arena, p->n_metadata_props, sizeof(char *));
    if (!info->metadata_keys || !info->metadata_values)
        return od_fail(st, OD_NO_MEMORY, "no memory for the model's metadata");
    for (size_t i = 0; i < p->n_metadata_props; i++) {
        OD_TRY(copy_text(m, p->metadata_props[i]->key, &info->metadata_keys[i], st));
        OD_TRY(copy_text(m, p->metadata_props[i]->value, &info->metadata_values[i], st));
        info->n_metadata = (int)i + 1;
    }
    return OD_OK;
}

/* Domains that the model uses without importing them are taken to be meant as they are now. */
static od_code read_opsets(const Onnx__ModelProto *p, int *opset, od_status *st)
{
    enum { IR_OPSETS = 3 }; /* from it on, operator sets must be imported */
    if (!p->has_ir_version || p->ir_version < 1)
        return od_fail(st, OD_BAD_MODEL, "no IR version: not an ONNX model");
    if (p->ir_version > LDR_IR_MAX)
        return od_fail(st, OD_UNSUPPORTED, "IR version %" PRId64 "; onnxd knows up to %d", p->ir_version, LDR_IR_MAX);
    OD_TRY(ldr_opsets(p->n_opset_import, p->opset_import, opset, st));
    if (!p->n_opset_import && p->ir_version >= IR_OPSETS)
        return od_fail(st, OD_BAD_MODEL, "the model imports no operator set");
    if (!p->n_opset_import) opset[ENG_DOMAIN_ONNX] = 1;
    for (int d = 0; d < ENG_DOMAINS; d++)
        if (!opset[d]) opset[d] = ldr_onnx_opset_max((eng_domain)d);
    return OD_OK;
}

static od_code build(ldr_build *b, ldr_file *f, od_status *st)
{
    ldr_scope scope = {.depth = 0};
    Onnx__ModelProto *p;
    OD_TRY(ldr_wire_model(b->heap, f->bytes, f->size, &p, st));
    b->proto = p;
    OD_TRY(read_opsets(p, scope.opset, st));
    memcpy(b->model->opset, scope.opset, sizeof scope.opset);
    OD_TRY(read_info(b->model, p, st));
    OD_TRY(ldr_functions_init(b, st));
    b->source.file = f;
    b->source.floor = f->bytes;
    OD_TRY(ldr_build_graph(b, b->model->graph, &scope, p->graph, 0, st));
    if (b->n_unknown)
        return od_fail(st, OD_UNSUPPORTED, "operators of domains that onnxd does not know: %s", b->unknown);
    return OD_OK;
}

/* A model from `f`, which is taken. */
static od_code take_file(ldr_file *f, const char *folder, const eng_load_options *options, eng_model **out, od_status *st)
{
    enum { HEAP_MIN = 64 << 20, HEAP_FACTOR = 40 }; /* messages of tiny parts take many times their bytes */
    od_code rc;
    ldr_heap heap;
    ldr_external external;
    ldr_build b = {.heap = &heap, .source = {.external = &external}};
    ldr_heap_init(&heap, f->size < SIZE_MAX / (2 * HEAP_FACTOR) ? HEAP_MIN + f->size * HEAP_FACTOR : SIZE_MAX / 2);
    ldr_external_init(&external, folder);
    ldr_image_decoder_install(); /* for the operator of that name */
    if ((rc = eng_model_create(&b.model, st)) != OD_OK) goto done;
    b.model->backing = f;
    b.model->backing_free = ldr_file_destroy;
    b.model->lazy_read = ldr_file_read;
    b.source.model = b.model;
    b.source.arena = &b.model->arena;
    f = NULL;
    if ((rc = build(&b, b.model->backing, st)) != OD_OK) goto done;
    const ldr_file *file = b.model->backing;
    if (b.source.in_place && *file->identity) b.model->identity = file->identity;
    if (!b.source.in_place) {
        ldr_file_destroy(b.model->backing);
        b.model->backing = NULL;
        b.model->backing_free = NULL;
    }
    ldr_heap_fini(&heap); /* before the weights are packed: that takes memory too */
    if ((rc = eng_model_finish(b.model, options, st)) != OD_OK) goto done;
    if (b.model->backing) ldr_file_close(b.model->backing);
    *out = b.model;
    b.model = NULL;
done:
    eng_model_destroy(b.model);
    ldr_file_destroy(f);
    ldr_external_fini(&external);
    ldr_heap_fini(&heap);
    return rc;
}

static od_code folder_of(const char *path, char **out, od_status *st)
{
    const char *slash = strrchr(path, '/');
    *out = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    return *out ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for a path");
}

/* `hole_min`: see ldr_file_open. */
static od_code load_file(int fd, size_t hole_min, const char *folder, const eng_load_options *options, eng_model **out, od_status *st)
{
    ldr_file *f = NULL;
    od_code rc = ldr_file_open(&f, fd, hole_min, st);
    if (rc == OD_OK) return take_file(f, folder, options, out, st);
    ldr_file_destroy(f);
    return rc;
}

od_code ldr_onnx_load(const char *path, const eng_load_options *options, eng_model **out, od_status *st)
{
    od_code rc;
    char *folder = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        rc = od_fail(st, errno == ENOENT ? OD_NOT_FOUND : OD_IO, "%s", strerror(errno));
        goto done;
    }
    if ((rc = folder_of(path, &folder, st)) != OD_OK) goto done;
    rc = load_file(fd, LDR_HOLE_MIN, folder, options, out, st);
done:
    free(folder);
    if (fd >= 0) close(fd);
    return rc == OD_OK ? rc : od_note(st, "%.100s", path);
}

od_code ldr_onnx_load_bytes(const void *bytes, size_t size, const char *folder, const eng_load_options *options,
                            eng_model **out, od_status *st)
{
    ldr_file *f = NULL;
    if (!size) return od_fail(st, OD_BAD_MODEL, "an empty file");
    OD_TRY(ldr_file_copy(&f, bytes, size, st));
    return take_file(f, folder, options, out, st);
}
