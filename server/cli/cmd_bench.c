/* cmd_bench.c - `onnxd bench`: latency and throughput of one model on made-up input. */
#include "engine/base/cpu.h"
#include "engine/session.h"
#include "loaders/onnx.h"
#include "loaders/tensor.h"
#include "server/cli/cli.h"
#include "server/describe.h"

#include <cjson/cJSON.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SHAPES_MAX = 64, RUNS_MAX = 100000 };

typedef struct bench_options {
    const char *model;
    const char *shapes[SHAPES_MAX];
    int n_shapes, threads;
    int64_t batch, runs;
    double seconds;
    bool json, profile, paced;
    const char *inputs_from; /* folder of NAME.npy files; NULL: made-up input */
    eng_load_options load;
} bench_options;

typedef struct bench_result {
    double *ms; /* of each run, sorted */
    int64_t runs, macs;
    double load_ms, first_ms, total_s, peak; /* of all threads, GFLOP/s */
    long rss_before_kb, file_before_kb;
    uint64_t user_cycles_min; /* 0: the kernel counts none */
    size_t planned, packed;
} bench_result;

static const char help[] =
    "usage: onnxd bench MODEL [--batch N] [--threads N] [--seconds S] [--runs N] [--shape NAME=1x3x224x224]...\n"
    "                   [--json] [--profile] [--disable-passes A,B] [--no-passes] [--inputs DIR] [--paced] [--pack-cache DIR] [--tune]\n"
    "--inputs DIR  reads input i from DIR/i.npy instead of making it up\n"
    "--pack-cache  keeps packed weights in DIR for the next start\n"
    "--tune        measures the forms of convolutions instead of looking them up, and keeps what it finds in the pack cache\n"
    "--paced       after the first run, for each line on standard input: a number of runs to do, or a folder of inputs to\n"
    "              go on with, each answered by a line of JSON; to take turns with another program\n";

/* ---- measuring ---------------------------------------------------------------------------- */

/* A counter of the calling process's user cycles, -1 where the system offers none. It sees threads that
 * start after it. */
static int open_cycles(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE, .size = sizeof attr, .config = PERF_COUNT_HW_CPU_CYCLES,
                                   .exclude_kernel = 1, .exclude_hv = 1, .inherit = 1};
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static uint64_t read_cycles(int fd)
{
    uint64_t n = 0;
    return fd >= 0 && read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const bench_result *r, double p)
{
    int64_t at = (int64_t)(p / 100.0 * (double)(r->runs - 1) + 0.5);
    return r->ms[at];
}

static od_code measure(const bench_options *o, eng_session *s, const eng_tensor *inputs, eng_tensor *outputs, int cycles_fd,
                       bench_result *r, od_status *st)
{
    int64_t begin = od_now_ns();
    OD_TRY(eng_session_run(s, inputs, outputs, st));
    r->first_ms = (double)(od_now_ns() - begin) / 1e6;
    OD_TRY(eng_session_cost(s, inputs, &r->macs, &r->planned, st));
    if (o->profile) OD_TRY(eng_session_profile(s, true));
    int64_t end = od_now_ns() + (int64_t)(o->seconds * 1e9);
    begin = od_now_ns();
    while (r->runs < RUNS_MAX && (o->runs ? r->runs < o->runs : r->runs < 3 || od_now_ns() < end)) {
        uint64_t cycles = read_cycles(cycles_fd);
        int64_t from = od_now_ns();
        OD_TRY(eng_session_run(s, inputs, outputs, st));
        r->ms[r->runs++] = (double)(od_now_ns() - from) / 1e6;
        cycles = read_cycles(cycles_fd) - cycles;
        if (cycles && (!r->user_cycles_min || cycles < r->user_cycles_min)) r->user_cycles_min = cycles;
    }
    r->total_s = (double)(od_now_ns() - begin) / 1e9;
    qsort(r->ms, (size_t)r->runs, sizeof *r->ms, by_value);
    return OD_OK;
}

/* A line of /proc/self/status in kB. getrusage would count what the process held before exec too. */
static long status_kb(const char *name)
{
    char line[256];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && !kb && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name))) kb = strtol(line + strlen(name), NULL, 10);
    if (f) fclose(f);
    return kb;
}

static double peak_rss_mb(void)
{
    return (double)status_kb("VmHWM:") / 1024.0;
}

/* From here on the peak counts anew. */
static void begin_memory(bench_result *r)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (f) fputs("5", f), fclose(f);
    r->rss_before_kb = status_kb("VmRSS:");
    r->file_before_kb = status_kb("RssFile:");
}

/* What the model took at most: the growth of the resident set, without the pages of the program's own file. */
static double growth_mb(const bench_result *r)
{
    return (double)(status_kb("VmHWM:") - r->rss_before_kb - (status_kb("RssFile:") - r->file_before_kb)) / 1024.0;
}

static uint64_t now_ns(void)
{
    return (uint64_t)od_now_ns();
}

static void find_rate(void *rates, int64_t chunk, int slot)
{
    (void)slot;
    ((double *)rates)[chunk] = od_fma_rate(now_ns);
}

/* What multiply-adds alone would reach on all threads at once. */
static double find_peak(od_pool *pool, int threads, od_arena *a)
{
    double sum = 0.0, *rates = od_arena_array(a, double, threads);
    if (!rates) return 0.0;
    od_pool_for(pool, threads, find_rate, rates);
    for (int i = 0; i < threads; i++) sum += rates[i];
    return sum;
}

/* Input i from DIR/i.npy. */
static od_code read_inputs(const char *dir, const eng_model *m, od_arena *a, eng_tensor *inputs, od_status *st)
{
    for (int i = 0; i < m->graph->n_inputs; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.npy", dir, i);
        if (ldr_npy_read(path, a, &inputs[i], st) != OD_OK) return od_note(st, "%s", path);
    }
    return OD_OK;
}

/* The first run on new inputs, and what there is to say of them. */
static od_code begin_inputs(eng_session *s, const bench_result *r, const eng_tensor *inputs, eng_tensor *outputs, od_status *st)
{
    int64_t macs, from = od_now_ns();
    size_t planned;
    OD_TRY(eng_session_run(s, inputs, outputs, st));
    double first = (double)(od_now_ns() - from) / 1e6;
    OD_TRY(eng_session_cost(s, inputs, &macs, &planned, st));
    printf("{\"load_ms\":%.3f,\"first_run_ms\":%.3f,\"gmacs\":%.6f,\"peak_gflops\":%.3f,\"growth_mb\":%.2f}\n", r->load_ms, first,
           (double)macs / 1e9, r->peak, growth_mb(r));
    fflush(stdout);
    return OD_OK;
}

/* Tells how loading and the first run went, then does what it is told to, line by line: "12" is so many runs,
 * anything else a folder with the next inputs. */
static od_code paced(eng_session *s, const eng_model *m, const bench_result *r, od_arena *a, eng_tensor *inputs,
                     eng_tensor *outputs, od_status *st)
{
    char line[4096], *end;
    od_arena_mark mark = od_arena_save(a);
    OD_TRY(begin_inputs(s, r, inputs, outputs, st));
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        long n = strtol(line, &end, 10);
        if (end == line || *end) {
            od_arena_rewind(a, mark);
            OD_TRY(read_inputs(line, m, a, inputs, st));
            OD_TRY(begin_inputs(s, r, inputs, outputs, st));
            continue;
        }
        double best = 1e30;
        for (long i = 0; i < n; i++) {
            int64_t from = od_now_ns();
            OD_TRY(eng_session_run(s, inputs, outputs, st));
            double ms = (double)(od_now_ns() - from) / 1e6;
            if (ms < best) best = ms;
        }
        printf("{\"min_ms\":%.6f,\"growth_mb\":%.2f}\n", best, growth_mb(r));
        fflush(stdout);
    }
    return OD_OK;
}

/* ---- telling ------------------------------------------------------------------------------ */

static void print_json(const bench_options *o, const bench_result *r)
{
    cJSON *root = cJSON_CreateObject(), *ms = cJSON_AddObjectToObject(root, "latency_ms");
    cJSON_AddNumberToObject(ms, "min", r->ms[0]);
    cJSON_AddNumberToObject(ms, "p50", percentile(r, 50));
    cJSON_AddNumberToObject(ms, "p90", percentile(r, 90));
    cJSON_AddNumberToObject(ms, "p99", percentile(r, 99));
    cJSON_AddNumberToObject(root, "runs", (double)r->runs);
    cJSON_AddNumberToObject(root, "items_per_s", (double)(r->runs * o->batch) / r->total_s);
    cJSON_AddNumberToObject(root, "load_ms", r->load_ms);
    cJSON_AddNumberToObject(root, "first_run_ms", r->first_ms);
    cJSON_AddNumberToObject(root, "peak_rss_mb", peak_rss_mb());
    cJSON_AddNumberToObject(root, "gmacs", (double)r->macs / 1e9);
    cJSON_AddNumberToObject(root, "gflops", 2.0 * (double)r->macs / 1e6 / r->ms[0]);
    cJSON_AddNumberToObject(root, "peak_gflops", r->peak);
    cJSON_AddNumberToObject(root, "growth_mb", growth_mb(r));
    cJSON_AddNumberToObject(root, "planned_mb", (double)r->planned / 1048576.0);
    cJSON_AddNumberToObject(root, "packed_mb", (double)r->packed / 1048576.0);
    if (r->user_cycles_min) cJSON_AddNumberToObject(root, "user_cycles_min", (double)r->user_cycles_min);
    char *text = cJSON_PrintUnformatted(root);
    if (text) puts(text);
    free(text);
    cJSON_Delete(root);
}

static void print_table(const bench_options *o, const bench_result *r)
{
    printf("latency ms   min %.3f  p50 %.3f  p90 %.3f  p99 %.3f  (%" PRId64 " runs)\n", r->ms[0], percentile(r, 50),
           percentile(r, 90), percentile(r, 99), r->runs);
    printf("throughput   %.1f items/s, batch %" PRId64 ", %d threads\n", (double)(r->runs * o->batch) / r->total_s, o->batch,
           o->threads);
    double rate = 2.0 * (double)r->macs / 1e6 / r->ms[0];
    printf("work         %.3f GMACs, %.1f GFLOP/s, %.0f %% of the peak of multiply-adds\n", (double)r->macs / 1e9, rate,
           r->peak > 0 ? 100.0 * rate / r->peak : 0.0);
    printf("load         %.1f ms, first run %.1f ms\n", r->load_ms, r->first_ms);
    printf("memory       peak %.1f MiB, %.1f of it the model's; planned %.1f MiB, packed weights %.1f MiB\n", peak_rss_mb(), growth_mb(r),
           (double)r->planned / 1048576.0, (double)r->packed / 1048576.0);
    if (r->user_cycles_min) printf("cycles       %.3f million user cycles (min)\n", (double)r->user_cycles_min / 1e6);
}

static void print_profile(const eng_session *s, double peak, od_arena *a)
{
    int n;
    int64_t total;
    eng_profile_row *rows = srv_profile_sort(s, a, &n, &total);
    srv_op_time *all = rows ? od_arena_array(a, srv_op_time, n) : NULL;
    if (!all) return;
    printf("\n%8s %6s %9s %7s  %-22s %-10s %s\n", "us", "share", "GFLOP/s", "of peak", "operator", "", "node");
    for (int i = 0; i < n && i < 100; i++) {
        const eng_profile_row *p = &rows[i];
        double us = (double)p->least_ns / 1e3;
        double rate = 2.0 * (double)p->macs / us / 1e3;
        printf("%8.1f %5.1f%% %9.1f %6.0f%%  %-22s %-10s %s\n", us, 100.0 * (double)p->least_ns / (double)total, rate,
               peak > 0 ? 100.0 * rate / peak : 0.0, srv_profile_operator(p), p->what, p->node ? p->node->name : "");
    }
    printf("\n%8s %6s  %s\n", "us", "share", "all of an operator");
    int n_all = srv_profile_by_operator(rows, n, all);
    for (int i = 0; i < n_all; i++)
        printf("%8.1f %5.1f%%  %s x %" PRId64 "\n", (double)all[i].ns / 1e3, 100.0 * (double)all[i].ns / (double)total, all[i].name, all[i].count);
}

static od_code bench(const bench_options *o, od_status *st)
{
    od_code rc;
    od_arena arena = {0};
    od_pool *pool = NULL;
    eng_model *model = NULL;
    eng_session *session = NULL;
    bench_result r = {0};
    eng_load_options load = o->load;
    int cycles_fd = open_cycles();
    if ((rc = od_pool_create(&pool, o->threads - 1, st)) != OD_OK) goto done;
    load.pool = pool;
    r.peak = find_peak(pool, o->threads, &arena);
    begin_memory(&r);
    int64_t from = od_now_ns();
    if ((rc = ldr_onnx_load(o->model, &load, &model, st)) != OD_OK) goto done;
    if ((rc = eng_session_create(&session, model, pool, 0, st)) != OD_OK) goto done;
    r.load_ms = (double)(od_now_ns() - from) / 1e6;
    r.packed = model->packed_bytes;
    r.ms = od_arena_alloc(&arena, o->paced ? 0 : RUNS_MAX * sizeof *r.ms); /* not touched before it is needed */
    eng_tensor *inputs = od_arena_array(&arena, eng_tensor, model->graph->n_inputs);
    eng_tensor *outputs = od_arena_array(&arena, eng_tensor, model->graph->n_outputs);
    if (!r.ms || !inputs || !outputs) {
        rc = od_fail(st, OD_NO_MEMORY, "no memory for the model's ports");
        goto done;
    }
    rc = o->inputs_from ? read_inputs(o->inputs_from, model, &arena, inputs, st)
                        : srv_cli_make_inputs(model, o->shapes, o->n_shapes, o->batch, &arena, inputs, st);
    if (rc != OD_OK) goto done;
    if (o->paced) {
        rc = paced(session, model, &r, &arena, inputs, outputs, st);
        goto done;
    }
    if ((rc = measure(o, session, inputs, outputs, cycles_fd, &r, st)) != OD_OK) {
        if (!o->inputs_from && !o->n_shapes) od_note(st, "on made-up input, whose free extents --shape or --inputs set");
        goto done;
    }
    if (o->json) print_json(o, &r);
    else print_table(o, &r);
    if (o->profile) print_profile(session, r.peak, &arena);
done:
    if (cycles_fd >= 0) close(cycles_fd);
    eng_session_destroy(session);
    eng_model_destroy(model);
    od_pool_destroy(pool);
    od_arena_fini(&arena);
    return rc;
}

int srv_cmd_bench(int argc, char **argv)
{
    srv_args a = {.argc = argc, .at = 1, .argv = argv};
    bench_options o = {.threads = od_cpu_count(), .batch = 1, .seconds = 2.0, .load = srv_cli_load_options()};
    od_status st;
    const char *word;
    while (a.at < argc && !a.failed) {
        if (srv_args_flag(&a, "--help")) return fputs(help, stdout), 0;
        else if (srv_args_flag(&a, "--batch")) o.batch = srv_args_int(&a, "--batch", 1, 65536);
        else if (srv_args_flag(&a, "--threads")) o.threads = (int)srv_args_int(&a, "--threads", 1, 1024);
        else if (srv_args_flag(&a, "--seconds")) o.seconds = srv_args_number(&a, "--seconds", 0, 3600);
        else if (srv_args_flag(&a, "--runs")) o.runs = srv_args_int(&a, "--runs", 1, RUNS_MAX);
        else if (srv_args_flag(&a, "--shape")) {
            const char *text = srv_args_text(&a, "--shape");
            if (o.n_shapes < SHAPES_MAX) o.shapes[o.n_shapes++] = text;
        } else if (srv_args_flag(&a, "--json")) o.json = true;
        else if (srv_args_flag(&a, "--inputs")) o.inputs_from = srv_args_text(&a, "--inputs");
        else if (srv_args_flag(&a, "--paced")) o.paced = true;
        else if (srv_args_flag(&a, "--profile")) o.profile = true;
        else if (srv_args_load(&a, &o.load)) continue;
        else if (!o.model && (word = srv_args_word(&a))) o.model = word;
        else srv_args_unknown(&a);
    }
    if (a.failed || !o.model) return fputs(help, stderr), 2;
    return srv_cli_find_model(&o.model, &st) == OD_OK && bench(&o, &st) == OD_OK ? 0 : srv_cli_fail(&st);
}
