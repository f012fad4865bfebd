#include "server/cli/cli.h"
#include "server/cli/load_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADERS_MOST = 16, BODY_MOST = 1 << 30 };

typedef enum form { FORM_TEXT, FORM_JSON, FORM_CSV } form;

typedef struct load_test {
    srv_load_options o;
    const char *url, *body, *type, *method;
    const char *headers[HEADERS_MOST];
    int n_headers;
    double within_ms; /* 0: any time */
    form form;
    char *request;
} load_test;

static int help(void)
{
    printf("usage: onnxd load-test URL [--flag VALUE]...\n\n"
           "  --connections N    connections that ask again when answered (default 16); with --rate: at most (default 1024)\n"
           "  --rate R           requests a second at fixed times; latency counts from when a request was due\n"
           "  --seconds S        measured time (default 10), after --warmup S (default 1)\n"
           "  --body FILE        POST this file; without it the URL is asked with GET\n"
           "  --type TEXT        Content-Type (by the file's name: image/jpeg, png, webp, application/json)\n"
           "  --header 'K: V'    one more header; may be repeated\n"
           "  --method NAME      instead of GET or POST\n"
           "  --within MS        goodput counts answers of status 200 within so many milliseconds\n"
           "  --json, --csv      instead of the table\n\n"
           "Exit code 1 when an answer was not 200, or a connection failed.\n");
    return 0;
}

static const char *type_of(const char *file)
{
    const char *dot = strrchr(file, '.');
    if (dot && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"))) return "image/jpeg";
    if (dot && !strcasecmp(dot, ".png")) return "image/png";
    if (dot && !strcasecmp(dot, ".webp")) return "image/webp";
    if (dot && !strcasecmp(dot, ".json")) return "application/json";
    return "application/octet-stream";
}

static od_code read_body(const char *path, char **out, size_t *len, od_status *st)
{
    FILE *f = fopen(path, "rbe");
    if (!f) return od_fail(st, OD_IO, "%s: %s", path, strerror(errno));
    size_t cap = 1 << 16, n = 0;
    char *data = malloc(cap);
    while (data && (n += fread(data + n, 1, cap - n, f)) == cap && cap < BODY_MOST) {
        char *more = realloc(data, cap *= 2);
        if (!more) free(data);
        data = more;
    }
    bool whole = feof(f) && !ferror(f);
    fclose(f);
    if (!data) return od_fail(st, OD_NO_MEMORY, "no memory for %s", path);
    if (!whole) {
        free(data);
        return od_fail(st, OD_IO, "%s cannot be read whole", path);
    }
    *out = data;
    *len = n;
    return OD_OK;
}

static od_code make_request(load_test *t, od_status *st)
{
    char head[8192], *body = NULL;
    size_t body_len = 0;
    if (t->body) OD_TRY(read_body(t->body, &body, &body_len, st));
    const char *path = t->o.url.path[0] ? t->o.url.path : "/";
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s:%s\r\n", t->method ? t->method : t->body ? "POST" : "GET", path, t->o.url.host,
                     t->o.url.port);
    for (int i = 0; i < t->n_headers && n < (int)sizeof head; i++) n += snprintf(head + n, sizeof head - (size_t)n, "%s\r\n", t->headers[i]);
    if (t->body && n < (int)sizeof head)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Type: %s\r\nContent-Length: %zu\r\n", t->type ? t->type : type_of(t->body), body_len);
    if (n < (int)sizeof head) n += snprintf(head + n, sizeof head - (size_t)n, "\r\n");
    t->request = n < (int)sizeof head ? malloc((size_t)n + body_len) : NULL;
    if (t->request) {
        memcpy(t->request, head, (size_t)n);
        if (body_len) memcpy(t->request + n, body, body_len);
        t->o.request = t->request;
        t->o.request_len = (size_t)n + body_len;
    }
    free(body);
    return t->request ? OD_OK : od_fail(st, OD_BAD_ARGUMENT, "headers of more than %zu bytes, or no memory", sizeof head);
}

/* ---- the report */

static double percentile_ms(const srv_load_result *r, double share)
{
    if (!r->n) return 0;
    size_t at = (size_t)(share * (double)r->n);
    return (double)r->latency_ns[at < r->n ? at : r->n - 1] / 1e6;
}

typedef struct figure {
    const char *name;
    double value;
} figure;

static int figures(const load_test *t, const srv_load_result *r, figure *f)
{
    size_t good = r->n;
    if (t->within_ms > 0)
        for (good = 0; good < r->n && (double)r->latency_ns[good] <= t->within_ms * 1e6;) good++;
    uint64_t answers = 0;
    double sum = 0;
    for (size_t i = 0; i < OD_COUNT(r->statuses); i++) answers += r->statuses[i];
    for (size_t i = 0; i < r->n; i++) sum += (double)r->latency_ns[i] / 1e6;
    const figure all[] = {
        {"requests_per_s", (double)answers / r->seconds}, {"goodput_per_s", (double)good / r->seconds},
        {"mean_ms", r->n ? sum / (double)r->n : 0}, {"p50_ms", percentile_ms(r, 0.5)}, {"p90_ms", percentile_ms(r, 0.9)},
        {"p95_ms", percentile_ms(r, 0.95)}, {"p99_ms", percentile_ms(r, 0.99)}, {"p99_9_ms", percentile_ms(r, 0.999)},
        {"max_ms", r->n ? (double)r->latency_ns[r->n - 1] / 1e6 : 0}, {"answers", (double)answers}, {"ok", (double)r->n},
        {"errors", (double)r->errors}, {"unanswered", (double)r->late}};
    memcpy(f, all, sizeof all);
    return (int)OD_COUNT(all);
}

static double stage_mean(const srv_load_result *r, int k)
{
    return r->staged ? r->stage_ms[k] / (double)r->staged : 0;
}

static void report(const load_test *t, const srv_load_result *r)
{
    figure f[24];
    int n = figures(t, r, f);
    if (t->form == FORM_CSV) {
        for (int i = 0; i < n; i++) printf("%s,", f[i].name);
        for (int k = 0; k < SRV_LOAD_STAGES; k++) printf("%s_ms%s", srv_load_stages[k], k + 1 < SRV_LOAD_STAGES ? "," : "\n");
        for (int i = 0; i < n; i++) printf("%.10g,", f[i].value);
        for (int k = 0; k < SRV_LOAD_STAGES; k++) printf("%.6g%s", stage_mean(r, k), k + 1 < SRV_LOAD_STAGES ? "," : "\n");
        return;
    }
    if (t->form == FORM_JSON) {
        printf("{");
        for (int i = 0; i < n; i++) printf("\"%s\":%.10g,", f[i].name, f[i].value);
        printf("\"statuses\":{");
        bool first = true;
        for (size_t i = 0; i < OD_COUNT(r->statuses); i++) {
            if (!r->statuses[i]) continue;
            printf("%s\"%zu\":%" PRIu64, first ? "" : ",", i, r->statuses[i]);
            first = false;
        }
        printf("},\"server_ms\":{");
        for (int k = 0; k < SRV_LOAD_STAGES; k++) printf("%s\"%s\":%.6g", k ? "," : "", srv_load_stages[k], stage_mean(r, k));
        printf("}}\n");
        return;
    }
    for (int i = 0; i < n; i++) printf("%-16s %12.*f\n", f[i].name, f[i].value == (double)(int64_t)f[i].value ? 0 : 3, f[i].value);
    for (size_t i = 0; i < OD_COUNT(r->statuses); i++)
        if (r->statuses[i]) printf("status %-9zu %12" PRIu64 "\n", i, r->statuses[i]);
    for (int k = 0; k < SRV_LOAD_STAGES && r->staged; k++) printf("server %-9s %12.3f ms, mean\n", srv_load_stages[k], stage_mean(r, k));
}

static bool parse(load_test *t, srv_args *a)
{
    int connections = 0;
    const char *word;
    while (a->at < a->argc && !a->failed) {
        if (srv_args_flag(a, "--connections")) connections = (int)srv_args_int(a, "--connections", 1, 60000);
        else if (srv_args_flag(a, "--rate")) t->o.rate = srv_args_number(a, "--rate", 0.001, 1e7);
        else if (srv_args_flag(a, "--seconds")) t->o.seconds = srv_args_number(a, "--seconds", 0.01, 86400);
        else if (srv_args_flag(a, "--warmup")) t->o.warmup_s = srv_args_number(a, "--warmup", 0, 86400);
        else if (srv_args_flag(a, "--within")) t->within_ms = srv_args_number(a, "--within", 0.001, 1e9);
        else if (srv_args_flag(a, "--body")) t->body = srv_args_text(a, "--body");
        else if (srv_args_flag(a, "--type")) t->type = srv_args_text(a, "--type");
        else if (srv_args_flag(a, "--method")) t->method = srv_args_text(a, "--method");
        else if (t->n_headers < HEADERS_MOST && srv_args_flag(a, "--header")) t->headers[t->n_headers++] = srv_args_text(a, "--header");
        else if (srv_args_flag(a, "--json")) t->form = FORM_JSON;
        else if (srv_args_flag(a, "--csv")) t->form = FORM_CSV;
        else if (!t->url && (word = srv_args_word(a))) t->url = word;
        else srv_args_unknown(a);
    }
    if (!a->failed && !t->url) {
        fprintf(stderr, "onnxd: load-test of which URL? --help says more\n");
        a->failed = true;
    }
    t->o.connections = connections ? connections : t->o.rate > 0 ? 1024 : 16;
    return !a->failed;
}

int srv_cmd_load_test(int argc, char **argv)
{
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    load_test t = {.o = {.seconds = 10, .warmup_s = 1}};
    od_status st = {0};
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help")) return help();
    if (!parse(&t, &a)) return 2;
    if (srv_url_parse(t.url, &t.o.url, &st) != OD_OK) {
        srv_cli_fail(&st);
        return 2;
    }
    static srv_load_result r;
    int code = 0;
    if (make_request(&t, &st) != OD_OK || srv_load_run(&t.o, &r, &st) != OD_OK) {
        code = srv_cli_fail(&st);
    } else {
        report(&t, &r);
        uint64_t bad = r.errors;
        for (size_t i = 0; i < OD_COUNT(r.statuses); i++) bad += i == 200 ? 0 : r.statuses[i];
        code = bad || !r.n;
        srv_load_free(&r);
    }
    free(t.request);
    return code;
}
