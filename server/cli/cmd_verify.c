/* cmd_verify.c - `onnxd verify`: the test cases that ONNX defines operators with. Each case runs in a
 * process of its own, so that one that crashes or hangs is one failure and not the end. */
#include "engine/session.h"
#include "loaders/onnx.h"
#include "loaders/tensor.h"
#include "server/cli/cli.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, FOLDERS_DEEP = 16 };

static const char usage[] =
    "usage: onnxd verify [--threads N] [--rtol R] [--atol A] [--exceptions FILE] [--timeout SECONDS] PATH...\n\n"
    "Runs ONNX test cases: folders with a model.onnx and test_data_set_*/{input,output}_*.pb, or folders in\n"
    "which such are looked for. Numbers may differ by A + R * |wanted| (0.001 and 1e-7; a case's data.json\n"
    "overrides); everything else must be equal. FILE lists cases that are expected to fail, as lines\n"
    "`NAME reason`. Prints a line a case and `N passed, N failed, N skipped`.\n";

typedef struct verify_options {
    int threads;
    int timeout_s;
    double rtol, atol;
} verify_options;

typedef struct verify_exception {
    char *name, *reason;
} verify_exception;

typedef struct verify_run {
    verify_options options;
    char **cases;
    size_t n_cases;
    verify_exception *exceptions;
    size_t n_exceptions;
    int passed, failed, skipped;
} verify_run;

/* ---- comparing ---------------------------------------------------------------------------- */

static bool close_enough(double got, double want, const verify_options *o)
{
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return want == got;
    return fabs(got - want) <= o->atol + o->rtol * fabs(want);
}

static bool is_inexact(eng_dtype t)
{
    uint32_t set = ENG_T_FLOAT | ENG_T(ENG_FLOAT8E4M3FN) | ENG_T(ENG_FLOAT8E4M3FNUZ) | ENG_T(ENG_FLOAT8E5M2) |
                   ENG_T(ENG_FLOAT8E5M2FNUZ) | ENG_T(ENG_FLOAT4E2M1) | ENG_T(ENG_FLOAT6E2M3) | ENG_T(ENG_FLOAT6E3M2) | ENG_T(ENG_FLOAT8E8M0);
    return (set >> t & 1) != 0;
}

static od_code differ(int64_t i, double got, double want, int64_t count, od_status *st)
{
    return od_fail(st, OD_BAD_VALUE, "element %" PRId64 " of %" PRId64 " is %.9g, wanted %.9g", i, count, got, want);
}

static od_code compare_inexact(const eng_tensor *got, const eng_tensor *want, const verify_options *options,
                               od_status *st)
{
    const double bfloat16_rtol = 0x1p-6; /* two units in the last place */
    verify_options o = *options;
    int64_t count = eng_tensor_count(want);
    if (want->dtype == ENG_BFLOAT16 && o.rtol < bfloat16_rtol) o.rtol = bfloat16_rtol;
    for (int64_t i = 0; i < count; i++) {
        double g = eng_tensor_double(got, i), w = eng_tensor_double(want, i);
        if (!close_enough(g, w, &o)) return differ(i, g, w, count, st);
    }
    return OD_OK;
}

static od_code compare_complex(const eng_tensor *got, const eng_tensor *want, const verify_options *o, od_status *st)
{
    eng_tensor g = *got, w = *want; /* as twice as many real numbers */
    g.dtype = w.dtype = want->dtype == ENG_COMPLEX64 ? ENG_FLOAT : ENG_DOUBLE;
    g.rank = w.rank = 1;
    g.dims[0] = w.dims[0] = 2 * eng_tensor_count(want);
    return compare_inexact(&g, &w, o, st);
}

static od_code compare_exact(const eng_tensor *got, const eng_tensor *want, od_status *st)
{
    size_t size = eng_dtype_size(want->dtype);
    int64_t count = eng_tensor_count(want);
    for (int64_t i = 0; i < count; i++) {
        if (!memcmp((char *)got->data + (size_t)i * size, (char *)want->data + (size_t)i * size, size)) continue;
        return od_fail(st, OD_BAD_VALUE, "element %" PRId64 " of %" PRId64 " is %" PRId64 ", wanted %" PRId64, i, count,
                       eng_tensor_int(got, i), eng_tensor_int(want, i));
    }
    return OD_OK;
}

static od_code compare_strings(const eng_tensor *got, const eng_tensor *want, od_status *st)
{
    const eng_str *g = got->data, *w = want->data;
    for (int64_t i = 0; i < eng_tensor_count(want); i++)
        if (g[i].len != w[i].len || (w[i].len && memcmp(g[i].ptr, w[i].ptr, w[i].len)))
            return od_fail(st, OD_BAD_VALUE, "element %" PRId64 " is '%.*s', wanted '%.*s'", i,
                           (int)(g[i].len < 60 ? g[i].len : 60), g[i].ptr, (int)(w[i].len < 60 ? w[i].len : 60),
                           w[i].ptr);
    return OD_OK;
}

static od_code compare(const eng_tensor *got, const eng_tensor *want, const verify_options *o, od_status *st);

static od_code compare_lists(const eng_tensor *got, const eng_tensor *want, const verify_options *o, od_status *st)
{
    const eng_tensor *g = got->data, *w = want->data;
    for (int64_t i = 0; i < eng_tensor_count(want); i++)
        if (compare(&g[i], &w[i], o, st) != OD_OK) return od_note(st, "%s[%" PRId64 "]", eng_dtype_name(want->dtype), i);
    return OD_OK;
}

static od_code compare(const eng_tensor *got, const eng_tensor *want, const verify_options *o, od_status *st)
{
    char g[128], w[128];
    if (got->dtype != want->dtype || !eng_dims_equal(got, want))
        return od_fail(st, OD_BAD_SHAPE, "%s, wanted %s", eng_tensor_text(got, g, sizeof g),
                       eng_tensor_text(want, w, sizeof w));
    if (want->dtype >= ENG_SEQUENCE) return compare_lists(got, want, o, st);
    if (want->dtype == ENG_STRING) return compare_strings(got, want, st);
    if (want->dtype == ENG_COMPLEX64 || want->dtype == ENG_COMPLEX128) return compare_complex(got, want, o, st);
    return is_inexact(want->dtype) ? compare_inexact(got, want, o, st) : compare_exact(got, want, st);
}

/* ---- one case, in a process of its own ---------------------------------------------------- */

static bool exists(const char *path)
{
    struct stat info;
    return !stat(path, &info);
}

/* OD_NOT_FOUND, with no message, when the set has no such file. */
static od_code read_value(const char *set, const char *what, int i, eng_dtype kind, od_arena *a, eng_tensor *out,
                          od_status *st)
{
    char path[PATH_BYTES + 400];
    snprintf(path, sizeof path, "%s/%s_%d.pb", set, what, i);
    return exists(path) ? ldr_pb_read(path, a, kind, out, st) : OD_NOT_FOUND;
}

static od_code read_inputs(const eng_graph *g, const char *set, od_arena *a, eng_tensor *inputs, od_status *st)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const eng_value *v = &g->values[g->inputs[i]];
        od_code rc = read_value(set, "input", i, v->dtype, a, &inputs[i], st);
        if (rc == OD_NOT_FOUND && !v->constant)
            return od_fail(st, OD_NOT_FOUND, "no input_%d.pb for '%.60s'", i, v->name);
        if (rc != OD_NOT_FOUND) OD_TRY(rc);
    }
    return OD_OK;
}

static od_code check_outputs(const eng_graph *g, const char *set, od_arena *a, const eng_tensor *outputs,
                             const verify_options *o, od_status *st)
{
    for (int i = 0; i < g->n_outputs; i++) {
        const eng_value *v = &g->values[g->outputs[i]];
        eng_tensor want = {0};
        od_code rc = read_value(set, "output", i, v->dtype ? v->dtype : outputs[i].dtype, a, &want, st);
        if (rc == OD_NOT_FOUND) return od_fail(st, OD_NOT_FOUND, "no output_%d.pb for '%.60s'", i, v->name);
        OD_TRY(rc);
        if (compare(&outputs[i], &want, o, st) != OD_OK) return od_note(st, "output %d '%.40s'", i, v->name);
    }
    return OD_OK;
}

static od_code run_set(eng_session *s, const eng_model *m, const char *set, const verify_options *o, od_status *st)
{
    od_arena a = {0};
    const eng_graph *g = m->graph;
    eng_tensor *inputs = od_arena_array(&a, eng_tensor, g->n_inputs);
    eng_tensor *outputs = od_arena_array(&a, eng_tensor, g->n_outputs);
    od_code rc = inputs && outputs ? OD_OK : od_fail(st, OD_NO_MEMORY, "no memory for a test's values");
    if (rc == OD_OK) rc = read_inputs(g, set, &a, inputs, st);
    if (rc == OD_OK) rc = eng_session_run(s, inputs, outputs, st);
    if (rc == OD_OK) rc = check_outputs(g, set, &a, outputs, o, st);
    od_arena_fini(&a);
    return rc == OD_OK ? rc : od_note(st, "%.40s", strrchr(set, '/') + 1);
}

/* A case's own tolerances, where it has some. */
static void read_tolerances(const char *folder, verify_options *o)
{
    char path[PATH_BYTES + 16], text[4096];
    snprintf(path, sizeof path, "%s/data.json", folder);
    FILE *f = fopen(path, "re");
    if (!f) return;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    cJSON *json = cJSON_Parse(text);
    const cJSON *rtol = cJSON_GetObjectItem(json, "rtol"), *atol = cJSON_GetObjectItem(json, "atol");
    if (cJSON_IsNumber(rtol)) o->rtol = rtol->valuedouble;
    if (cJSON_IsNumber(atol)) o->atol = atol->valuedouble;
    cJSON_Delete(json);
}

static int is_set(const struct dirent *e)
{
    return !strncmp(e->d_name, "test_data_set", 13);
}

static od_code run_sets(eng_session *s, const eng_model *m, const char *folder, const verify_options *o, od_status *st)
{
    struct dirent **sets = NULL;
    od_code rc = OD_OK;
    int n = scandir(folder, &sets, is_set, alphasort);
    if (n <= 0) rc = od_fail(st, OD_NOT_FOUND, "no test_data_set_* beside the model");
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES + 300];
        snprintf(path, sizeof path, "%s/%s", folder, sets[i]->d_name);
        if (rc == OD_OK) rc = run_set(s, m, path, o, st);
        free(sets[i]);
    }
    free(sets);
    return rc;
}

static od_code run_case(const char *folder, verify_options o, od_status *st)
{
    char path[PATH_BYTES + 16];
    od_pool *pool = NULL;
    eng_model *model = NULL;
    eng_session *session = NULL;
    od_code rc;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    read_tolerances(folder, &o);
    if (o.threads > 1 && (rc = od_pool_create(&pool, o.threads - 1, st)) != OD_OK) goto done;
    if ((rc = ldr_onnx_load(path, &(eng_load_options){.pool = pool}, &model, st)) != OD_OK) {
        char prefix[PATH_BYTES + 20];
        size_t n = (size_t)snprintf(prefix, sizeof prefix, "%.100s: ", path); /* the case is named anyway */
        if (!strncmp(st->msg, prefix, n)) memmove(st->msg, st->msg + n, strlen(st->msg + n) + 1);
        goto done;
    }
    if ((rc = eng_session_create(&session, model, pool, 0, st)) != OD_OK) goto done;
    rc = run_sets(session, model, folder, &o, st);
done:
    eng_session_destroy(session);
    eng_model_destroy(model);
    od_pool_destroy(pool);
    return rc;
}

/* ---- all cases ---------------------------------------------------------------------------- */

/* Wait for what the child has to say: its status, or nothing when it dies or hangs. */
static od_code await_child(pid_t child, int from, int timeout_s, od_status *st)
{
    od_status said;
    struct pollfd p = {.fd = from, .events = POLLIN};
    int wait_status, ready;
    do ready = poll(&p, 1, timeout_s * 1000);
    while (ready < 0 && errno == EINTR);
    ssize_t n = ready > 0 ? read(from, &said, sizeof said) : 0;
    if (ready == 0) kill(child, SIGKILL);
    while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR) {}
    if (ready == 0) return od_fail(st, OD_TIMEOUT, "not done after %d seconds", timeout_s);
    if (WIFSIGNALED(wait_status))
        return od_fail(st, OD_INTERNAL, "killed by signal %d (%s)", WTERMSIG(wait_status),
                       strsignal(WTERMSIG(wait_status)));
    if (n != (ssize_t)sizeof said || WEXITSTATUS(wait_status))
        return od_fail(st, OD_INTERNAL, "ended with exit code %d", WEXITSTATUS(wait_status));
    if (said.code != OD_OK) *st = said;
    return said.code;
}

static od_code run_apart(const char *folder, const verify_options *o, od_status *st)
{
    int ends[2];
    if (pipe(ends)) return od_fail(st, OD_IO, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return od_fail(st, OD_IO, "fork: %s", strerror(errno));
    }
    if (!child) {
        od_status mine = {0};
        mine.code = run_case(folder, *o, &mine);
        _exit(write(ends[1], &mine, sizeof mine) == (ssize_t)sizeof mine ? 0 : 1);
    }
    close(ends[1]);
    od_code rc = await_child(child, ends[0], o->timeout_s, st);
    close(ends[0]);
    return rc;
}

/* A listed name may be a case's folder name or the end of its path. */
static const verify_exception *find_exception(const verify_run *r, const char *folder)
{
    size_t len = strlen(folder);
    for (size_t i = 0; i < r->n_exceptions; i++) {
        size_t n = strlen(r->exceptions[i].name);
        if (n <= len && !strcmp(folder + len - n, r->exceptions[i].name) && (n == len || folder[len - n - 1] == '/'))
            return &r->exceptions[i];
    }
    return NULL;
}

static void verify_case(verify_run *r, const char *folder)
{
    od_status st = {0};
    const char *slash = strrchr(folder, '/'), *name = slash ? slash + 1 : folder;
    const verify_exception *listed = find_exception(r, folder);
    od_code rc = run_apart(folder, &r->options, &st);
    bool chance = listed && !strncmp(listed->reason, "either:", 7); /* may pass too */
    if (rc == OD_OK && listed && !chance) {
        printf("FAIL %s: passes, but is listed as an exception\n", name);
        r->failed++;
    } else if (rc == OD_OK) {
        printf("ok %s\n", name);
        r->passed++;
    } else if (listed) {
        printf("skip %s: %s\n", name, listed->reason);
        r->skipped++;
    } else {
        printf("FAIL %s: %s\n", name, st.msg);
        r->failed++;
    }
}

static od_code add_case(verify_run *r, const char *folder, od_status *st)
{
    char **more = realloc(r->cases, (r->n_cases + 1) * sizeof *more);
    char *copy = strdup(folder);
    if (more) r->cases = more;
    if (!more || !copy) {
        free(copy);
        return od_fail(st, OD_NO_MEMORY, "no memory for a list of cases");
    }
    r->cases[r->n_cases++] = copy;
    return OD_OK;
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static od_code collect(verify_run *r, const char *folder, int depth, od_status *st)
{
    char path[PATH_BYTES];
    struct dirent **entries;
    od_code rc = OD_OK;
    if ((size_t)snprintf(path, sizeof path, "%s/model.onnx", folder) >= sizeof path)
        return od_fail(st, OD_BAD_ARGUMENT, "%.100s...: the path is too long", folder);
    if (exists(path)) return add_case(r, folder, st);
    int n = scandir(folder, &entries, is_visible, alphasort);
    if (n < 0) return errno == ENOTDIR && depth ? OD_OK : od_fail(st, OD_IO, "%.100s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct stat info;
        snprintf(path, sizeof path, "%.700s/%s", folder, entries[i]->d_name);
        if (rc == OD_OK && depth < FOLDERS_DEEP && !stat(path, &info) && S_ISDIR(info.st_mode))
            rc = collect(r, path, depth + 1, st);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static od_code read_exceptions(verify_run *r, const char *path, od_status *st)
{
    char line[1024];
    FILE *f = fopen(path, "re");
    if (!f) return od_fail(st, OD_IO, "%.100s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        size_t n = strcspn(line, " \t");
        if (!n || line[0] == '#') continue;
        verify_exception *more = realloc(r->exceptions, (r->n_exceptions + 1) * sizeof *more);
        if (!more) break;
        r->exceptions = more;
        const char *reason = line + n + strspn(line + n, " \t");
        more[r->n_exceptions++] = (verify_exception){strndup(line, n), strdup(*reason ? reason : "no reason given")};
        if (!more[r->n_exceptions - 1].name || !more[r->n_exceptions - 1].reason) break;
    }
    bool whole = feof(f);
    fclose(f);
    return whole ? OD_OK : od_fail(st, OD_IO, "%.100s: not read to its end", path);
}

static void free_run(verify_run *r)
{
    for (size_t i = 0; i < r->n_cases; i++) free(r->cases[i]);
    for (size_t i = 0; i < r->n_exceptions; i++) {
        free(r->exceptions[i].name);
        free(r->exceptions[i].reason);
    }
    free(r->cases);
    free(r->exceptions);
}

static int verify_all(verify_run *r)
{
    for (size_t i = 0; i < r->n_cases; i++) verify_case(r, r->cases[i]);
    printf("%d passed, %d failed, %d skipped\n", r->passed, r->failed, r->skipped);
    return r->failed != 0;
}

int srv_cmd_verify(int argc, char **argv)
{
    enum { THREADS_MAX = 1024, DAY_S = 86400 };
    od_status st = {0};
    verify_run r = {.options = {.threads = 1, .timeout_s = 300, .rtol = 1e-3, .atol = 1e-7}};
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    int code = 0;
    while (a.at < argc && !a.failed && !code) {
        const char *word;
        if (srv_args_flag(&a, "--help")) {
            fputs(usage, stdout);
            free_run(&r);
            return 0;
        }
        if (srv_args_flag(&a, "--threads")) r.options.threads = (int)srv_args_int(&a, "--threads", 1, THREADS_MAX);
        else if (srv_args_flag(&a, "--timeout")) r.options.timeout_s = (int)srv_args_int(&a, "--timeout", 1, DAY_S);
        else if (srv_args_flag(&a, "--rtol")) r.options.rtol = srv_args_number(&a, "--rtol", 0, 1e9);
        else if (srv_args_flag(&a, "--atol")) r.options.atol = srv_args_number(&a, "--atol", 0, 1e9);
        else if (srv_args_flag(&a, "--exceptions")) {
            const char *path = srv_args_text(&a, "--exceptions");
            if (!a.failed && read_exceptions(&r, path, &st) != OD_OK) code = srv_cli_fail(&st);
        } else if ((word = srv_args_word(&a))) {
            if (collect(&r, word, 0, &st) != OD_OK) code = srv_cli_fail(&st);
        } else srv_args_unknown(&a);
    }
    if (a.failed) code = 2;
    if (!code && !r.n_cases) {
        fputs("onnxd: no test cases\n", stderr);
        fputs(usage, stderr);
        code = 2;
    }
    if (!code) code = verify_all(&r);
    free_run(&r);
    return code;
}
