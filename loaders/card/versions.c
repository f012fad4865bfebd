/* versions.c - "versions" of a model.json, and where else it may be said which versions of a model are served. */
#include "loaders/card/parts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

enum { FILE_MAX = 16 << 20, VERSION_MAX = 1 << 30 };

static bool is_version(const cJSON *j)
{
    return cJSON_IsNumber(j) && j->valuedouble >= 1 && j->valuedouble <= VERSION_MAX && j->valuedouble == (double)(int64_t)j->valuedouble;
}

/* 2, "all", or [1, 3]. */
static bool read_value(const cJSON *j, ldr_versions *out)
{
    const cJSON *one;
    if (cJSON_IsString(j) && !strcmp(j->valuestring, "all")) {
        *out = (ldr_versions){.kind = LDR_VERSIONS_LATEST, .latest = -1};
        return true;
    }
    if (is_version(j)) {
        *out = (ldr_versions){.kind = LDR_VERSIONS_LATEST, .latest = (int64_t)j->valuedouble};
        return true;
    }
    if (!cJSON_IsArray(j) || !cJSON_GetArraySize(j) || cJSON_GetArraySize(j) > (int)OD_COUNT(out->list)) return false;
    *out = (ldr_versions){.kind = LDR_VERSIONS_SPECIFIC};
    cJSON_ArrayForEach(one, j) {
        if (!is_version(one)) return false;
        out->list[out->n++] = (int64_t)one->valuedouble;
    }
    return true;
}

static od_code read_card(const char *json, ldr_versions *out, od_status *st)
{
    cJSON *j = cJSON_ParseWithOpts(json, NULL, true);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(j, "versions");
    bool fine = !value || read_value(value, out);
    cJSON_Delete(j);
    return fine ? OD_OK : od_fail(st, OD_BAD_MODEL, "'versions': a number of newest ones, \"all\", or a list of up to %zu versions is wanted", OD_COUNT(out->list));
}

static od_code find(const char *folder, const char *json, od_arena *a, ldr_versions *out, od_status *st)
{
    char path[4096], *text;
    ldr_triton triton;
    if (json && ldr_triton_read_json(json, &triton)) {
        *out = triton.versions;
        if (out->kind) return OD_OK;
    } else if (json) {
        return read_card(json, out, st);
    }
    if (snprintf(path, sizeof path, "%s/model.onnx", folder) >= (int)sizeof path) return OD_OK;
    OD_TRY(ldr_card_read_beside(path, "model.json", FILE_MAX, a, &text, st));
    if (text) return read_card(text, out, st);
    OD_TRY(ldr_card_read_beside(path, "config.pbtxt", FILE_MAX, a, &text, st));
    if (!text) return OD_OK;
    OD_TRY(ldr_triton_read_text(text, &triton, st));
    *out = triton.versions;
    return OD_OK;
}

od_code ldr_versions_find(const char *folder, const char *json, ldr_versions *out, od_status *st)
{
    od_arena a;
    *out = (ldr_versions){0};
    od_arena_init(&a, 2 * (size_t)FILE_MAX);
    od_code rc = find(folder, json, &a, out, st);
    od_arena_fini(&a);
    return rc;
}
