#include "server/settings.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

typedef struct setting {
    const char *name; /* of the key; --name with dashes and ONNXD_NAME follow from it */
    enum { TEXT, WHOLE, SIZE } kind;
    size_t at;        /* offset in srv_settings */
    const char *text; /* default */
    int64_t number, lo, hi;
    const char *what;
} setting;

#define AT(field) offsetof(srv_settings, field)

static const setting settings[] = {
    {"models", TEXT, AT(models), NULL, 0, 0, 0, "folder of models (or the command's one word)"},
    {"config", TEXT, AT(config), NULL, 0, 0, 0, "a file of these settings as JSON"},
    {"host", TEXT, AT(host), "127.0.0.1", 0, 0, 0, "address to listen on"},
    {"port", WHOLE, AT(port), NULL, 8000, 0, 65535, "port to listen on; 0: any free one"},
    {"socket", TEXT, AT(socket), NULL, 0, 0, 0, "listen on this unix socket instead"},
    {"api_prefix", TEXT, AT(prefix), "", 0, 0, 0, "in front of every path, such as /onnx"},
    {"cors_origin", TEXT, AT(cors_origin), NULL, 0, 0, 0, "let pages of this origin (or *) use the server"},
    {"tls_cert", TEXT, AT(tls_cert), NULL, 0, 0, 0, "PEM file: serve HTTPS with this certificate chain"},
    {"tls_key", TEXT, AT(tls_key), NULL, 0, 0, 0, "PEM file: the certificate's key"},
    {"tokens", TEXT, AT(tokens), NULL, 0, 0, 0, "file of bearer tokens: NAME TOKEN [admin] [rate=N] a line"},
    {"threads", WHOLE, AT(threads), NULL, 0, 0, 1024, "workers that run models; 0: as many as cores"},
    {"socket_threads", WHOLE, AT(socket_threads), NULL, 0, 0, 64, "threads that read and write sockets; 0: one for each four cores"},
    {"memory_budget", SIZE, AT(memory_budget), NULL, 0, 0, INT64_MAX, "bytes of models, their runs and requests together; 0: nine tenths of what there is"},
    {"run_memory", SIZE, AT(run_memory), NULL, 0, 0, INT64_MAX, "bytes of one run; 0: a worker's share of the memory there is"},
    {"max_body", SIZE, AT(max_body), NULL, 64 * MIB, 1, 2 * GIB - 1, "bytes of a request, also after decompression"},
    {"max_body_total", SIZE, AT(max_body_total), NULL, GIB, 0, INT64_MAX, "bytes of all requests at a time; 0: no bound"},
    {"max_header", SIZE, AT(max_header), NULL, 16 * KIB, 256, MIB, "bytes of a request's headers"},
    {"max_connections", WHOLE, AT(max_connections), NULL, 1024, 1, 65000, "open connections"},
    {"max_pixels", WHOLE, AT(max_pixels), NULL, 64000000, 1, 1000000000, "width times height of a picture"},
    {"max_json_depth", WHOLE, AT(max_json_depth), NULL, 100, 4, 1000, "brackets inside one another"},
    {"max_inflate_ratio", WHOLE, AT(max_inflate_ratio), NULL, 200, 1, 1100, "bytes out for a byte in of a compressed body"},
    {"compress_above", SIZE, AT(compress_above), NULL, 16 * KIB, 0, INT64_MAX, "bytes of a reply from which it is compressed if asked"},
    {"idle_timeout", WHOLE, AT(idle_timeout_s), NULL, 75, 1, 86400, "seconds that a connection may be without a request"},
    {"receive_timeout", WHOLE, AT(receive_timeout_s), NULL, 60, 1, 86400, "seconds from a request's first line to its last byte"},
    {"send_timeout", WHOLE, AT(send_timeout_s), NULL, 60, 1, 86400, "seconds to take a reply"},
    {"grace", WHOLE, AT(grace_s), NULL, 30, 0, 86400, "seconds for running work at SIGTERM"},
    {"model_control", TEXT, AT(model_control), "poll", 0, 0, 0, "none, poll (follow the folder), explicit (by request)"},
    {"load_models", TEXT, AT(load_models), NULL, 0, 0, 0, "with explicit: names to load at the start, with commas"},
    {"pack_cache", TEXT, AT(pack_cache), NULL, 0, 0, 0, "folder in which packed weights are kept for the next start"},
    {"tune", WHOLE, AT(tune), NULL, 0, 0, 1, "1: forms of convolutions are measured at load, and kept in pack_cache"},
    {"served_versions", WHOLE, AT(served_versions), NULL, 1, -1, 1000, "newest versions served of each model; -1: all"},
    {"load_threads", WHOLE, AT(load_threads), NULL, 0, 0, 64, "models loaded at one time; 0: as many as cores, 4 at most"},
    {"max_batch_size", WHOLE, AT(max_batch_size), NULL, 32, 0, 65536, "rows of a run, where a card does not say"},
    {"max_queue_delay_us", WHOLE, AT(max_queue_delay_us), NULL, 0, 0, 10000000, "microseconds to wait for company"},
    {"max_queue", WHOLE, AT(max_queue), NULL, 1000, 1, 1000000, "requests waiting for a model"},
    {"request_timeout", WHOLE, AT(request_timeout_ms), NULL, 30000, 0, 86400000, "milliseconds in the queue; 0: no bound"},
    {"log_level", TEXT, AT(log_level), "info", 0, 0, 0, "debug, info, warn, error, silent"},
    {"access_log", TEXT, AT(access_log), "off", 0, 0, 0, "a line a request: off, text, json"},
    {"access_log_file", TEXT, AT(access_log_file), "-", 0, 0, 0, "where to: a file, stderr, or - for standard output"},
    {"triton_metrics", WHOLE, AT(triton_metrics), NULL, 0, 0, 1, "1: /metrics has nv_inference_* names too"},
};

/* What --help writes above a setting. */
static const struct { const char *first, *title; } groups[] = {
    {"models", "What"},
    {"host", "Where"},
    {"tls_cert", "Who may come in"},
    {"threads", "Threads and memory"},
    {"max_body", "Bounds of requests and connections"},
    {"idle_timeout", "Time"},
    {"model_control", "Models"},
    {"max_batch_size", "Batches and queues"},
    {"log_level", "Logs and metrics"},
};

/* SIGHUP reads these again. */
static const char *const again[] = {"tls_cert", "tls_key", "tokens", "log_level", "access_log", "access_log_file"};

static bool is_read_again(const setting *s)
{
    for (size_t i = 0; i < OD_COUNT(again); i++)
        if (!strcmp(s->name, again[i])) return true;
    return false;
}

static void dashed(const setting *s, char *flag, char *variable)
{
    strcpy(flag, "--");
    strcpy(variable, "ONNXD_");
    for (size_t i = 0; i <= strlen(s->name); i++) {
        flag[2 + i] = s->name[i] == '_' ? '-' : s->name[i];
        variable[6 + i] = (char)toupper((unsigned char)s->name[i]);
    }
}

/* Digits, for sizes with k, m or g behind (powers of 1024). */
static bool number(const setting *s, const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text) return false;
    if (s->kind == SIZE && *end) {
        int64_t unit = (*end | 32) == 'k' ? KIB : (*end | 32) == 'm' ? MIB : (*end | 32) == 'g' ? GIB : 0, product;
        if (!unit || end[1] || !od_mul_i64(n, unit, &product)) return false;
        n = product;
        end++;
    }
    if (*end || n < s->lo || n > s->hi) return false;
    *out = n;
    return true;
}

static od_code set(srv_settings *to, const setting *s, const char *text, const char *where, od_arena *a, od_status *st)
{
    char *field = (char *)to + s->at;
    if (s->kind == TEXT) {
        char *copy = od_arena_strdup(a, text, strlen(text));
        if (!copy) return od_fail(st, OD_NO_MEMORY, "no memory for settings");
        memcpy(field, &copy, sizeof copy);
        return OD_OK;
    }
    int64_t n;
    if (!number(s, text, &n))
        return od_fail(st, OD_BAD_ARGUMENT, "%s %.60s: a whole number from %" PRId64 " to %" PRId64 " is wanted", where, text, s->lo, s->hi);
    memcpy(field, &n, sizeof n);
    return OD_OK;
}

static const setting *find(const char *name, size_t len)
{
    for (size_t i = 0; i < OD_COUNT(settings); i++)
        if (strlen(settings[i].name) == len && !strncmp(settings[i].name, name, len)) return &settings[i];
    return NULL;
}

static od_code read_file(srv_settings *s, const char *path, od_arena *a, od_status *st)
{
    enum { MOST = 1 << 20 };
    FILE *f = fopen(path, "re");
    if (!f) return od_fail(st, errno == ENOENT ? OD_NOT_FOUND : OD_IO, "%s: %s", path, strerror(errno));
    char *text = od_arena_alloc(a, MOST + 1);
    size_t n = text ? fread(text, 1, MOST, f) : 0;
    fclose(f);
    if (!text) return od_fail(st, OD_NO_MEMORY, "no memory for %s", path);
    text[n] = '\0';
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    od_code rc = cJSON_IsObject(root) ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "%s: no JSON object", path);
    for (const cJSON *item = rc ? NULL : root->child; item && !rc; item = item->next) {
        const setting *d = find(item->string, strlen(item->string));
        char where[128], value[40];
        snprintf(where, sizeof where, "\"%.60s\"", item->string);
        if (!d) rc = od_fail(st, OD_BAD_ARGUMENT, "%s: no setting %s", path, where);
        else if (cJSON_IsString(item)) rc = set(s, d, item->valuestring, where, a, st);
        else if (cJSON_IsNumber(item) && d->kind != TEXT) {
            snprintf(value, sizeof value, "%.0f", item->valuedouble);
            rc = (double)(int64_t)item->valuedouble == item->valuedouble && item->valuedouble < 9e18
                     ? set(s, d, value, where, a, st)
                     : od_fail(st, OD_BAD_ARGUMENT, "%s: a whole number is wanted", where);
        } else rc = od_fail(st, OD_BAD_ARGUMENT, "%s: %s is wanted", where, d->kind == TEXT ? "text" : "a number");
        if (rc) od_note(st, "%s", path);
    }
    cJSON_Delete(root);
    return rc;
}

static od_code read_environment(srv_settings *s, od_arena *a, od_status *st)
{
    char flag[64], variable[64];
    for (size_t i = 0; i < OD_COUNT(settings); i++) {
        dashed(&settings[i], flag, variable);
        const char *value = getenv(variable);
        if (value && *value) OD_TRY(set(s, &settings[i], value, variable, a, st));
    }
    return OD_OK;
}

static od_code read_words(srv_settings *s, int argc, char **argv, od_arena *a, bool *help, od_status *st)
{
    bool has_word = false;
    for (int i = 1; i < argc; i++) {
        const char *w = argv[i];
        if (!strcmp(w, "--help") || !strcmp(w, "-h")) {
            *help = true;
            continue;
        }
        if (w[0] != '-') {
            if (has_word) return od_fail(st, OD_BAD_ARGUMENT, "'%.60s': one folder of models is wanted", w);
            has_word = true;
            s->models = w;
            continue;
        }
        char name[64];
        size_t n = 0, len = strcspn(w, "=");
        for (size_t k = 2; k < len && n + 1 < sizeof name; k++) name[n++] = w[k] == '-' ? '_' : w[k];
        const setting *d = w[1] == '-' ? find(name, n) : NULL;
        if (!d) return od_fail(st, OD_BAD_ARGUMENT, "no flag '%.60s'; --help lists them", w);
        char flag[64], variable[64];
        dashed(d, flag, variable);
        const char *value = w[len] ? w + len + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value) return od_fail(st, OD_BAD_ARGUMENT, "%s needs a value", flag);
        OD_TRY(set(s, d, value, flag, a, st));
    }
    return OD_OK;
}

od_code srv_settings_read(srv_settings *s, int argc, char **argv, od_arena *a, bool *help, od_status *st)
{
    srv_settings first = {0};
    *s = (srv_settings){0};
    for (size_t i = 0; i < OD_COUNT(settings); i++) {
        char *field = (char *)s + settings[i].at;
        if (settings[i].kind == TEXT) memcpy(field, &settings[i].text, sizeof settings[i].text);
        else memcpy(field, &settings[i].number, sizeof settings[i].number);
    }
    /* the words say which file, and then win over it */
    OD_TRY(read_words(&first, argc, argv, a, help, st));
    const char *config = first.config ? first.config : getenv("ONNXD_CONFIG");
    if (config && *config) OD_TRY(read_file(s, config, a, st));
    OD_TRY(read_environment(s, a, st));
    return read_words(s, argc, argv, a, help, st);
}

void srv_settings_help(FILE *to)
{
    fprintf(to, "  %-24s %-30s %-22s %-12s %s\n", "flag", "environment", "key of --config", "default", "");
    for (size_t i = 0; i < OD_COUNT(settings); i++) {
        const setting *s = &settings[i];
        char flag[64], variable[64], value[32] = "";
        dashed(s, flag, variable);
        for (size_t g = 0; g < OD_COUNT(groups); g++)
            if (!strcmp(groups[g].first, s->name)) fprintf(to, "\n%s\n", groups[g].title);
        if (s->kind == TEXT) snprintf(value, sizeof value, "%s", s->text ? s->text : "");
        else if (s->kind == SIZE && s->number >= MIB && s->number % MIB == 0) snprintf(value, sizeof value, "%" PRId64 "m", s->number / MIB);
        else if (s->kind == SIZE && s->number >= KIB && s->number % KIB == 0) snprintf(value, sizeof value, "%" PRId64 "k", s->number / KIB);
        else snprintf(value, sizeof value, "%" PRId64, s->number);
        fprintf(to, "  %-24s %-30s %-22s %-12s %s%s\n", flag, variable, s->name, value, s->what, is_read_again(s) ? " *" : "");
    }
    fprintf(to, "\n* SIGHUP reads it again, and what its file holds; the others need a new start.\n");
}

static bool is_same(const setting *s, const srv_settings *a, const srv_settings *b)
{
    if (s->kind != TEXT) return !memcmp((const char *)a + s->at, (const char *)b + s->at, sizeof(int64_t));
    const char *x, *y;
    memcpy(&x, (const char *)a + s->at, sizeof x);
    memcpy(&y, (const char *)b + s->at, sizeof y);
    return x && y ? !strcmp(x, y) : x == y;
}

void srv_settings_changed(const srv_settings *a, const srv_settings *b, char *flags, size_t size)
{
    size_t n = 0;
    flags[0] = '\0';
    for (size_t i = 0; i < OD_COUNT(settings) && n < size; i++) {
        char flag[64], variable[64];
        if (is_read_again(&settings[i]) || is_same(&settings[i], a, b)) continue;
        dashed(&settings[i], flag, variable);
        n += (size_t)snprintf(flags + n, size - n, "%s%s", n ? " " : "", flag);
    }
}
