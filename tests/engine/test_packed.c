#include "engine/packed.h"
#include "engine/base/pages.h"
#include "engine/graph.h"
#include "engine/lazy.h"
#include "tests/test.h"

#include <dirent.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int packs; /* how often something was packed */

static void negate(const eng_tensor *w, const eng_pack_part *part, const void *arg, void *to)
{
    const float *from = part->bytes;
    (void)w;
    packs++;
    for (int64_t i = 0; i < part->count; i++) ((float *)to)[part->first + i] = -from[i] * *(const float *)arg;
}

static int64_t unit; /* of the models that are made next */

/* A model with one node that reads one constant of `n` floats; `slot` is filled when packs are made. */
static eng_model *model_of(float *weights, int64_t n, float scale, const float **slot)
{
    eng_model *m;
    CHECK_OK(eng_model_create(&m, &st));
    eng_graph *g = m->graph;
    int w = eng_graph_value(g, "w");
    eng_tensor t = {.dtype = ENG_FLOAT, .rank = 1, .dims = {n}, .data = weights};
    CHECK_OK(eng_graph_set_constant(g, w, &t, &st));
    eng_node *node = eng_graph_add_node(g, "Neg", "", 1, 1, 0);
    node->in[0] = w;
    node->out[0] = eng_graph_value(g, "y");
    CHECK_OK(eng_model_pack(g, node, 0, "negated", &scale, sizeof scale, (size_t)n * sizeof(float), unit, negate, slot, &st));
    return m;
}

static float small[3] = {1, 2, 3};

TEST(the_same_weights_in_the_same_form_are_packed_once)
{
    const float *a, *b;
    packs = 0;
    eng_model *one = model_of(small, 3, 2, &a);
    float copy[3] = {1, 2, 3};
    eng_model *two = model_of(copy, 3, 2, &b);
    CHECK_OK(eng_packs_make(one, NULL, NULL, &st));
    CHECK_OK(eng_packs_make(two, NULL, NULL, &st));
    CHECK_EQ(packs, 1);
    CHECK(a == b);
    eng_model_destroy(one);
    CHECK_EQ(b[2], -6);
    eng_model_destroy(two);
}

TEST(other_numbers_of_a_form_make_another_one)
{
    const float *a, *b;
    packs = 0;
    eng_model *one = model_of(small, 3, 2, &a), *two = model_of(small, 3, 3, &b);
    CHECK_OK(eng_packs_make(one, NULL, NULL, &st));
    CHECK_OK(eng_packs_make(two, NULL, NULL, &st));
    CHECK_EQ(packs, 2);
    CHECK_EQ(a[0], -2);
    CHECK_EQ(b[0], -3);
    eng_model_destroy(one);
    eng_model_destroy(two);
}

enum { LARGE = 100000 };

static float *large(void)
{
    float *w = malloc(LARGE * sizeof *w);
    for (int i = 0; i < LARGE; i++) w[i] = (float)i;
    return w;
}

static int files_in(const char *folder, char *last, size_t size)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(last, size, "%s/%s", folder, e->d_name);
        n++;
    }
    if (d) closedir(d);
    return n;
}

TEST(a_large_form_is_kept_in_a_file_and_mapped_by_the_next_who_wants_it)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    CHECK(mkdtemp(folder));
    packs = 0;
    for (int round = 0; round < 4; round++) {
        const float *slot;
        float *w = large();
        eng_model *m = model_of(w, LARGE, 1, &slot);
        CHECK_OK(eng_packs_make(m, NULL, folder, &st));
        CHECK_EQ(slot[LARGE - 1], -(LARGE - 1));
        eng_model_destroy(m);
        free(w);
        CHECK_EQ(files_in(folder, path, sizeof path), 1);
        CHECK_EQ(packs, round < 2 ? 1 : 2); /* the second maps; the third finds a damaged file, the fourth a new one */
        if (round == 1) {
            FILE *f = fopen(path, "r+");
            fseek(f, 50000, SEEK_SET);
            fputc(1, f);
            fclose(f);
        }
    }
    unlink(path);
    rmdir(folder);
}

TEST(a_file_that_was_cut_short_is_made_anew)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    CHECK(mkdtemp(folder));
    packs = 0;
    for (int round = 0; round < 2; round++) {
        const float *slot;
        float *w = large();
        eng_model *m = model_of(w, LARGE, 1, &slot);
        CHECK_OK(eng_packs_make(m, NULL, folder, &st));
        CHECK_EQ(slot[1], -1);
        eng_model_destroy(m);
        free(w);
        files_in(folder, path, sizeof path);
        CHECK(!truncate(path, 9000));
    }
    CHECK_EQ(packs, 2);
    unlink(path);
    rmdir(folder);
}

TEST(a_folder_that_cannot_be_written_is_done_without)
{
    const float *slot;
    float *w = large();
    eng_model *m = model_of(w, LARGE, 1, &slot);
    CHECK_OK(eng_packs_make(m, NULL, "/proc/nowhere", &st));
    CHECK_EQ(slot[1], -1);
    eng_model_destroy(m);
    free(w);
}

/* ---- weights in a file -------------------------------------------------------------------- */

/* A file of LARGE floats that is another from its `changes_at`th read on, or cannot be read then. */
typedef struct source {
    int reads, changes_at;
    bool fails;
} source;

static od_code read_source(void *backing, uint64_t where, size_t size, void *to, od_status *status)
{
    source *s = backing;
    bool changed = ++s->reads >= s->changes_at;
    if (changed && s->fails) return od_fail(status, OD_IO, "gone");
    for (size_t i = 0; i < size / sizeof(float); i++) ((float *)to)[i] = (float)(where / sizeof(float) + i) + (changed ? 1.0f : 0.0f);
    return OD_OK;
}

static eng_model *lazy_model_of(source *s, float *pages, int64_t n, const float **slot)
{
    eng_model *m = model_of(pages, n, 1, slot);
    m->graph->nodes[0].op = eng_op_find(ENG_DOMAIN_ONNX, "Neg", 13);
    m->backing = s;
    m->lazy_read = read_source;
    CHECK_OK(eng_model_leave_out(m, pages, (size_t)n * sizeof *pages, 0, &st));
    return m;
}

static eng_model *lazy_model(source *s, float *pages, const float **slot)
{
    return lazy_model_of(s, pages, LARGE, slot);
}

TEST(large_weights_in_a_file_are_packed_in_parts)
{
    enum { N = 400001, UNIT = 16 };
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    float *pages = od_pages_alloc(N * sizeof *pages), *w = malloc(N * sizeof *w);
    CHECK(mkdtemp(folder));
    for (int round = 0; round < 3; round++) { /* without a folder, then the file is made, then it is found */
        const float *slot, *other;
        source s = {.changes_at = 1000};
        packs = 0;
        unit = UNIT;
        eng_model *m = lazy_model_of(&s, pages, N, &slot);
        unit = 0;
        CHECK_OK(eng_packs_make(m, NULL, round ? folder : NULL, &st));
        CHECK(round < 2 ? packs > 1 : packs == 0);
        for (int i = 0; i < N; i++) CHECK(slot[i] == -(float)i);
        for (int i = 0; i < N; i++) w[i] = (float)i; /* packing lets go of them */
        eng_model *plain = model_of(w, N, 1, &other);
        CHECK_OK(eng_packs_make(plain, NULL, NULL, &st));
        CHECK(other == slot); /* they are the same however they came */
        eng_model_destroy(plain);
        eng_lazy_end(m);
        eng_model_destroy(m);
    }
    while (files_in(folder, path, sizeof path)) unlink(path);
    rmdir(folder);
    free(w);
    od_pages_free(pages, N * sizeof *pages);
}

TEST(weights_of_a_file_that_is_known_are_not_read_again)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    float *pages = od_pages_alloc(LARGE * sizeof *pages);
    CHECK(mkdtemp(folder));
    static const struct { const char *identity; bool read; } rounds[] = {
        {NULL, true}, {NULL, true}, {"one", true}, {"one", false}, {"two", true}, {"two", false}, {"one", false}, {"two", true}};
    for (size_t i = 0; i < OD_COUNT(rounds); i++) {
        const float *slot;
        source s = {.changes_at = 1000};
        eng_model *m = lazy_model(&s, pages, &slot);
        m->identity = rounds[i].identity;
        CHECK_OK(eng_packs_make(m, NULL, folder, &st));
        CHECK_EQ(s.reads > 0, rounds[i].read);
        CHECK_EQ(slot[LARGE - 1], -(LARGE - 1));
        eng_lazy_end(m);
        eng_model_destroy(m);
        while (i + 2 == OD_COUNT(rounds) && files_in(folder, path, sizeof path)) CHECK(!unlink(path));
    }
    while (files_in(folder, path, sizeof path)) unlink(path);
    rmdir(folder);
    od_pages_free(pages, LARGE * sizeof *pages);
}

TEST(sums_that_are_damaged_are_added_up_anew)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    float *pages = od_pages_alloc(LARGE * sizeof *pages);
    CHECK(mkdtemp(folder));
    for (int round = 0; round < 4; round++) {
        const float *slot;
        source s = {.changes_at = 1000};
        eng_model *m = lazy_model(&s, pages, &slot);
        m->identity = "one";
        CHECK_OK(eng_packs_make(m, NULL, folder, &st));
        CHECK_EQ(s.reads > 0, round != 3);
        CHECK_EQ(slot[5], -5);
        eng_lazy_end(m);
        eng_model_destroy(m);
        DIR *d = opendir(folder);
        for (struct dirent *e; (e = readdir(d));) {
            if (!strstr(e->d_name, ".sums")) continue;
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (round == 0) CHECK(!truncate(path, 50));
            FILE *f = round == 1 ? fopen(path, "r+") : NULL;
            if (!f) continue;
            fseek(f, -1, SEEK_END);
            fputc(1, f);
            fclose(f);
        }
        closedir(d);
    }
    while (files_in(folder, path, sizeof path)) unlink(path);
    rmdir(folder);
    od_pages_free(pages, LARGE * sizeof *pages);
}

TEST(nodes_that_want_the_same_of_the_same_weights_share_it)
{
    const float *a, *b, *c;
    float other = 3, two = 2;
    packs = 0;
    eng_model *m = model_of(small, 3, 2, &a);
    const eng_node *n = m->graph->nodes;
    CHECK_OK(eng_model_pack(m->graph, n, 0, "negated", &two, sizeof two, sizeof small, 0, negate, &b, &st));
    CHECK_OK(eng_model_pack(m->graph, n, 0, "negated", &other, sizeof other, sizeof small, 0, negate, &c, &st));
    CHECK_OK(eng_packs_make(m, NULL, NULL, &st));
    CHECK(a == b && a != c);
    CHECK_EQ(packs, 2);
    CHECK_EQ(c[1], -6);
    eng_model_destroy(m);
}

TEST(weights_in_a_file_are_packed_as_others_are)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    float *pages = od_pages_alloc(LARGE * sizeof *pages);
    CHECK(mkdtemp(folder));
    packs = 0;
    for (int round = 0; round < 3; round++) {
        const float *slot, *other;
        float *w = large();
        source s = {.changes_at = 1000};
        eng_model *m = lazy_model(&s, pages, &slot);
        CHECK_OK(eng_packs_make(m, NULL, round ? folder : NULL, &st));
        CHECK_EQ(slot[LARGE - 1], -(LARGE - 1));
        CHECK(eng_lazy(m, m->graph->values[0].constant)); /* they never came to where they would lie */
        eng_model *plain = model_of(w, LARGE, 1, &other);
        CHECK_OK(eng_packs_make(plain, NULL, NULL, &st));
        CHECK(other == slot);
        eng_model_destroy(plain);
        eng_lazy_end(m);
        eng_model_destroy(m);
        free(w);
        CHECK_EQ(packs, round ? 2 : 1);
    }
    CHECK_EQ(files_in(folder, path, sizeof path), 1);
    unlink(path);
    rmdir(folder);
    od_pages_free(pages, LARGE * sizeof *pages);
}

TEST(a_file_that_changes_while_it_is_packed_is_not_kept_as_what_it_was)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX", path[300];
    float *pages = od_pages_alloc(LARGE * sizeof *pages), *w = large();
    const float *slot;
    source s = {.changes_at = 2};
    CHECK(mkdtemp(folder));
    eng_model *m = lazy_model(&s, pages, &slot);
    CHECK_OK(eng_packs_make(m, NULL, folder, &st));
    CHECK_EQ(slot[5], -6);
    eng_lazy_end(m);
    eng_model_destroy(m);
    eng_model *plain = model_of(w, LARGE, 1, &slot);
    CHECK_OK(eng_packs_make(plain, NULL, folder, &st));
    CHECK_EQ(slot[5], -5);
    eng_model_destroy(plain);
    while (files_in(folder, path, sizeof path)) unlink(path);
    rmdir(folder);
    free(w);
    od_pages_free(pages, LARGE * sizeof *pages);
}

TEST(a_file_that_cannot_be_read_to_its_end_is_no_model)
{
    char folder[] = "/tmp/onnxd-packs-XXXXXX";
    float *pages = od_pages_alloc(LARGE * sizeof *pages);
    CHECK(mkdtemp(folder));
    for (int at = 1; at < 3; at++) {
        const float *slot;
        source s = {.changes_at = at, .fails = true};
        eng_model *m = lazy_model(&s, pages, &slot);
        CHECK_CODE(eng_packs_make(m, NULL, at == 1 ? NULL : folder, &st), OD_IO);
        CHECK_HAS(st.msg, "gone");
        eng_lazy_end(m);
        eng_model_destroy(m);
    }
    source s = {.changes_at = 1, .fails = true}; /* and when a node wants them */
    const float *slot;
    eng_model *m = lazy_model(&s, pages, &slot);
    CHECK(!eng_node_constant(m->graph, m->graph->nodes, 0));
    CHECK_CODE(eng_lazy_check(m, &st), OD_IO);
    eng_lazy_end(m);
    eng_model_destroy(m);
    rmdir(folder);
    od_pages_free(pages, LARGE * sizeof *pages);
}

TEST_MAIN
