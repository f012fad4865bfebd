#include "engine/tune.h"
#include "engine/base/cpu.h"
#include "engine/base/threads.h"
#include "engine/graph.h"
#include "engine/session.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { RUNS = 3, BUDGET_MS = 1000 };

static const eng_winograd_form forms[] = {ENG_WINOGRAD_NONE, ENG_WINOGRAD_F2, ENG_WINOGRAD_F4};

typedef struct found {
    struct found *next;
    eng_tune_layer layer;
    int threads;
    eng_winograd_form form;
} found;

struct eng_tuning {
    od_pool *pool;
    od_arena arena;
    found *all;
    char path[4096]; /* "": no file */
    char *crowd;     /* bytes to push weights out of the caches with */
    size_t crowd_bytes;
    int64_t until;
};

/* ---- the file ------------------------------------------------------------------------------ */

static void name_file(const char *folder, char *path, size_t size)
{
    char line[256] = "";
    uint64_t processor = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) || !strncmp(line, "CPU part", 8)) {
            processor = XXH3_64bits(line, strlen(line));
            break;
        }
    if (f) fclose(f);
    if (snprintf(path, size, "%s/tune_%s_%016llx.txt", folder, od_cpu_isa_name(od_cpu_isa()), (unsigned long long)processor) >= (int)size)
        path[0] = '\0';
}

static void remember(struct eng_tuning *t, const eng_tune_layer *l, int threads, eng_winograd_form form)
{
    found *f = od_arena_array(&t->arena, found, 1);
    if (!f) return;
    *f = (found){t->all, *l, threads, form};
    t->all = f;
}

static void read_file(struct eng_tuning *t)
{
    eng_tune_layer l;
    int threads, form;
    FILE *f = *t->path ? fopen(t->path, "re") : NULL;
    while (f && fscanf(f, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %d %d\n", &l.items, &l.height, &l.width,
                       &l.channels, &l.out, &threads, &form) == 7)
        for (size_t i = 0; i < OD_COUNT(forms); i++)
            if (form == (int)forms[i]) remember(t, &l, threads, forms[i]);
    if (f) fclose(f);
}

/* In one write, so that lines of several processes do not mix. */
static void append_line(const struct eng_tuning *t, const found *f)
{
    char line[256];
    int fd = *t->path ? open(t->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (fd < 0) return; /* it is measured again next time */
    int n = snprintf(line, sizeof line, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %d %d\n", f->layer.items,
                     f->layer.height, f->layer.width, f->layer.channels, f->layer.out, f->threads, (int)f->form);
    bool well = write(fd, line, (size_t)n) == n;
    (void)well;
    close(fd);
}

/* ---- measuring ----------------------------------------------------------------------------- */

static void crowd_out(void *arg, int64_t chunk, int slot)
{
    const struct eng_tuning *t = arg;
    size_t share = t->crowd_bytes / 8;
    (void)slot;
    for (size_t i = 0; i < share; i += 64) t->crowd[(size_t)chunk * share + i]++;
}

static float *made_up(od_arena *a, int64_t n)
{
    float *p = n > 0 ? od_arena_alloc(a, (size_t)n * sizeof *p) : NULL;
    uint32_t x = 1;
    for (int64_t i = 0; p && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (float)(x >> 8) / (1 << 24) - 0.5f;
    }
    return p;
}

/* A model of that layer alone. */
static od_code layer_model(eng_model *m, const eng_tune_layer *l, const eng_load_options *options, od_status *st)
{
    static const int64_t ones[4] = {1, 1, 1, 1};
    eng_graph *g = m->graph;
    int x = eng_graph_value(g, "x"), w = eng_graph_value(g, "w"), y = eng_graph_value(g, "y");
    eng_node *n = eng_graph_add_node(g, "Conv", "layer", 2, 1, 1);
    eng_tensor weights = {.dtype = ENG_FLOAT, .rank = 4, .dims = {l->out, l->channels, 3, 3}};
    weights.data = made_up(&m->arena, l->out * l->channels * 9);
    if (x < 0 || w < 0 || y < 0 || !n || !weights.data) return od_fail(st, OD_NO_MEMORY, "no memory to measure a layer");
    m->opset[ENG_DOMAIN_ONNX] = n->opset = 17;
    n->in[0] = x, n->in[1] = w, n->out[0] = y;
    n->attrs[0] = (eng_attr){.name = "pads", .kind = ENG_ATTR_INTS, .n = 4, .ints = ones};
    eng_value *v = &g->values[x];
    v->dtype = ENG_FLOAT;
    v->rank = 4;
    memcpy(v->dims, (int64_t[]){l->items, l->channels, l->height, l->width}, 4 * sizeof *v->dims);
    OD_TRY(eng_graph_add_input(g, x, st));
    OD_TRY(eng_graph_add_output(g, y, st));
    OD_TRY(eng_graph_set_constant(g, w, &weights, st));
    return eng_model_finish(m, options, st);
}

/* The shortest of some runs in `form`, in nanoseconds; INT64_MAX: it does not run. */
static int64_t time_of(struct eng_tuning *t, const eng_tune_layer *l, eng_winograd_form form)
{
    od_status st;
    eng_model *m = NULL;
    eng_session *s = NULL;
    int64_t least = INT64_MAX;
    const eng_load_options options = {.pool = t->pool, .keep_graph = true};
    if (eng_model_create(&m, &st) != OD_OK) return least;
    m->forced_form = 1 + (int)form;
    eng_tensor y, x = {.dtype = ENG_FLOAT, .rank = 4, .dims = {l->items, l->channels, l->height, l->width}};
    x.data = made_up(&m->arena, l->items * l->channels * l->height * l->width);
    if (!x.data || layer_model(m, l, &options, &st) != OD_OK || eng_session_create(&s, m, t->pool, 0, &st) != OD_OK) goto done;
    for (int i = 0; i <= RUNS; i++) { /* the first makes the plan */
        od_pool_for(t->pool, 8, crowd_out, t);
        int64_t from = od_now_ns();
        if (eng_session_run(s, &x, &y, &st) != OD_OK) break;
        int64_t ns = od_now_ns() - from;
        if (i && ns < least) least = ns;
    }
done:
    eng_session_destroy(s);
    eng_model_destroy(m);
    return least;
}

static size_t weights_of(const eng_graph *g)
{
    size_t n = 0;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant) n += eng_tensor_bytes(g->values[v].constant);
    return n;
}

od_code eng_tune_begin(eng_model *m, const eng_load_options *options, od_status *st)
{
    struct eng_tuning *t = calloc(1, sizeof *t);
    if (!t) return od_fail(st, OD_NO_MEMORY, "no memory to tune");
    m->tuning = t;
    t->pool = options->pool;
    t->until = od_now_ns() + BUDGET_MS * INT64_C(1000000);
    size_t all = weights_of(m->graph), most = 2 * od_cpu_cache_sizes().l3;
    t->crowd_bytes = all < most ? all : most;
    t->crowd = od_arena_zalloc(&t->arena, t->crowd_bytes);
    if (!t->crowd) return od_fail(st, OD_NO_MEMORY, "no memory to tune");
    if (!options->pack_cache) return OD_OK;
    mkdir(options->pack_cache, 0777); /* it may exist; writing tells */
    name_file(options->pack_cache, t->path, sizeof t->path);
    read_file(t);
    return OD_OK;
}

void eng_tune_end(eng_model *m)
{
    if (!m->tuning) return;
    od_arena_fini(&m->tuning->arena);
    free(m->tuning);
    m->tuning = NULL;
}

eng_winograd_form eng_tune_choose(eng_model *m, const eng_tune_layer *l)
{
    struct eng_tuning *t = m->probing ? NULL : m->tuning;
    const eng_winograd_window window = {.size = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}};
    eng_winograd_form best = eng_winograd_choose(&window, 1, l->items, l->height, l->width, l->channels, l->out);
    if (m->forced_form) return (eng_winograd_form)(m->forced_form - 1);
    if (!t || l->items < 1 || l->channels < 8 || l->out < 8) return best; /* nothing but the direct form pays for so few */
    int threads = od_pool_slots(t->pool);
    for (const found *f = t->all; f; f = f->next)
        if (f->threads == threads && !memcmp(&f->layer, l, sizeof *l)) return f->form;
    if (od_now_ns() > t->until) return best;
    int64_t least = time_of(t, l, best) / 32 * 31; /* another must be clearly quicker */
    const eng_winograd_form usual = best;
    for (size_t i = 0; i < OD_COUNT(forms); i++) {
        int64_t ns = forms[i] == usual ? INT64_MAX : time_of(t, l, forms[i]);
        if (ns < least) least = ns, best = forms[i];
    }
    remember(t, l, threads, best);
    if (t->all) append_line(t, t->all);
    return best;
}
