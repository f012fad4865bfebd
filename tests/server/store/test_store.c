/* The store: layouts, versions, exchange under load, broken files, unloading, following changes. */
#include "server/store/store.h"
#include "engine/base/cpu.h"
#include "engine/base/log.h"
#include "engine/base/threads.h"
#include "tests/server/store/files.h"

#include <pthread.h>
#include <time.h>

static od_pool *pool;
static srv_store *store;

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void start(srv_store_options o)
{
    od_log_level(OD_SILENT);
    CHECK_OK(od_pool_create(&pool, 2, &st));
    o.dir = files_dir;
    o.pool = pool;
    o.settle_ms = 50;
    o.batch.max_batch_size = 8;
    CHECK_OK(srv_store_create(&store, &o, &st));
}

static void end(void)
{
    srv_store_destroy(store);
    od_pool_destroy(pool);
    files_end();
}

static void wait_ready(void)
{
    for (int i = 0; i < 2000 && !srv_store_ready(store); i++) sleep_ms(5);
    CHECK(srv_store_ready(store));
}

typedef struct call {
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool done;
} call;

static void on_done(srv_job *job)
{
    call *c = job->arg;
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->told);
    pthread_mutex_unlock(&c->lock);
}

/* The constant that the model adds, asked through its batcher. */
static od_code ask(const char *name, int64_t version, float *constant, od_status *status)
{
    srv_model *m = NULL;
    float x[4] = {0};
    eng_tensor in = {.dtype = ENG_FLOAT, .rank = 2, .dims = {1, 4}, .data = x};
    od_arena arena = {0};
    call c = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};
    srv_job job = {.inputs = &in, .arena = &arena, .done = on_done, .arg = &c};
    OD_TRY(srv_store_acquire(store, name, version, &m, status));
    od_code rc = srv_batcher_submit(m->batcher, &job, status);
    if (rc == OD_OK) {
        pthread_mutex_lock(&c.lock);
        while (!c.done) pthread_cond_wait(&c.told, &c.lock);
        pthread_mutex_unlock(&c.lock);
        rc = job.st.code;
        if (rc == OD_OK) *constant = ((float *)job.outputs[0].data)[3];
        else *status = job.st;
    }
    srv_model_release(m);
    od_arena_fini(&arena);
    return rc;
}

static float answer(const char *name, int64_t version)
{
    float c = -1;
    CHECK_OK(ask(name, version, &c, &st));
    return c;
}

static srv_entry line(const char *name, int64_t version)
{
    srv_entry *list = NULL, found = {.version = -1};
    int n = 0;
    CHECK_OK(srv_store_index(store, &list, &n, &st));
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name) && list[i].version == version) found = list[i];
    free(list);
    return found;
}

static bool becomes(const char *name, float want)
{
    for (int i = 0; i < 1000; i++) {
        float c = -1;
        od_status own = {0};
        if (ask(name, 0, &c, &own) == OD_OK && c == want) return true;
        sleep_ms(5);
    }
    return false;
}

TEST(all_layouts_are_found_and_the_newest_version_is_served)
{
    files_begin();
    files_model("plain/model.onnx", 1, 0);
    files_model("other_name/net.onnx", 2, 0);
    files_model("versions/1/model.onnx", 3, 0);
    files_model("versions/2/model.onnx", 4, 0);
    files_model("versions/10/model.onnx", 5, 0);
    files_model("file.onnx", 6, 0);
    files_model("hub/onnx/model.onnx", 7, 0);
    files_model(".hidden/model.onnx", 8, 0);
    files_write("notes.txt", "x", 1);
    files_write("empty/README", "x", 1);
    start((srv_store_options){0});
    wait_ready();
    CHECK_EQ(answer("plain", 0), 1);
    CHECK_EQ(answer("other_name", 1), 2);
    CHECK_EQ(answer("versions", 0), 5);
    CHECK_EQ(answer("versions", 10), 5);
    CHECK_EQ(answer("file", 0), 6);
    CHECK_EQ(answer("hub", 0), 7);
    float c;
    CHECK_CODE(ask("versions", 1, &c, &st), OD_UNAVAILABLE);
    CHECK_CODE(ask("versions", 3, &c, &st), OD_NOT_FOUND);
    CHECK_CODE(ask(".hidden", 0, &c, &st), OD_NOT_FOUND);
    CHECK_CODE(ask("../plain", 0, &c, &st), OD_NOT_FOUND);
    CHECK_CODE(ask("empty", 0, &c, &st), OD_NOT_FOUND);
    CHECK_CODE(ask("", 0, &c, &st), OD_NOT_FOUND);
    CHECK_EQ(line("plain", 1).state, SRV_STATE_READY);
    end();
}

TEST(all_versions_are_served_when_that_is_wanted)
{
    files_begin();
    files_model("m/1/model.onnx", 1, 0);
    files_model("m/7/model.onnx", 7, 0);
    start((srv_store_options){.versions = -1});
    wait_ready();
    CHECK_EQ(answer("m", 1), 1);
    CHECK_EQ(answer("m", 7), 7);
    CHECK_EQ(answer("m", 0), 7);
    end();
}

/* The newest is loaded first: are `n` served soon? */
static bool has_versions(const char *name, int n)
{
    int64_t list[SRV_VERSIONS_MOST];
    for (int i = 0; i < 2000 && srv_store_versions(store, name, list, SRV_VERSIONS_MOST) < n; i++) sleep_ms(5);
    return srv_store_versions(store, name, list, SRV_VERSIONS_MOST) == n;
}

TEST(a_card_or_a_configuration_says_which_versions_are_served)
{
    static const char card[] = "{\"versions\": [1, 7]}", all[] = "{\"versions\": \"all\"}", bad[] = "{\"versions\": 0}";
    static const char triton[] = "name: \"t\"\nversion_policy: { specific { versions: [ 2, 9 ] } }\n";
    static const char latest[] = "version_policy { latest { num_versions: 2 } }";
    float c;
    files_begin();
    for (int v = 1; v <= 9; v += 2) {
        char name[32];
        snprintf(name, sizeof name, "m/%d/model.onnx", v);
        files_model(name, (float)v, 0);
    }
    files_write("m/model.json", card, sizeof card - 1);
    files_model("t/2/model.onnx", 2, 0);
    files_model("t/3/model.onnx", 3, 0);
    files_write("t/config.pbtxt", triton, sizeof triton - 1);
    files_model("two/1/model.onnx", 1, 0);
    files_model("two/2/model.onnx", 2, 0);
    files_model("two/3/model.onnx", 3, 0);
    files_write("two/config.pbtxt", latest, sizeof latest - 1);
    files_model("bad/1/model.onnx", 1, 0);
    start((srv_store_options){.control = SRV_CONTROL_POLL, .loaders = 2});
    CHECK(becomes("m", 7) && becomes("t", 2) && becomes("two", 3) && becomes("bad", 1));
    CHECK(has_versions("m", 2) && has_versions("two", 2));
    CHECK_EQ(answer("m", 1), 1);
    CHECK_CODE(ask("m", 9, &c, &st), OD_UNAVAILABLE);
    CHECK_CODE(ask("m", 3, &c, &st), OD_UNAVAILABLE);
    CHECK_CODE(ask("t", 3, &c, &st), OD_UNAVAILABLE);
    CHECK_EQ(answer("two", 2), 2);
    CHECK_CODE(ask("two", 1, &c, &st), OD_UNAVAILABLE);
    int64_t list[SRV_VERSIONS_MOST];
    CHECK_EQ(srv_store_versions(store, "m", list, SRV_VERSIONS_MOST), 2);
    CHECK(list[0] == 7 && list[1] == 1);
    files_write("m/model.json", all, sizeof all - 1);
    CHECK(becomes("m", 9));
    CHECK(has_versions("m", 5));
    CHECK_EQ(answer("m", 3), 3);
    files_write("bad/model.json", bad, sizeof bad - 1);
    for (int i = 0; i < 400 && !*line("bad", 1).reason; i++) sleep_ms(5);
    CHECK_HAS(line("bad", 1).reason, "versions");
    CHECK_EQ(answer("bad", 0), 1); /* what is served goes on */
    end();
}

TEST(files_that_come_with_a_request_are_served_until_the_next_load)
{
    files_begin();
    files_model("m/1/model.onnx", 1, 0);
    files_model("other/1/model.onnx", 5, 0);
    char path[128], bytes[4096];
    snprintf(path, sizeof path, "%s/other/1/model.onnx", files_dir);
    FILE *f = fopen(path, "rb");
    CHECK(f);
    size_t len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    setenv("TMPDIR", files_dir, 1);
    start((srv_store_options){.control = SRV_CONTROL_EXPLICIT});
    CHECK_OK(srv_store_load(store, "m", NULL, &st));
    CHECK_EQ(answer("m", 0), 1);
    srv_file good = {"3/model.onnx", bytes, len};
    CHECK_OK(srv_store_load_begin(store, "m", NULL, &good, 1, NULL, NULL, &st));
    CHECK(becomes("m", 5));
    CHECK_EQ(answer("m", 3), 5);
    CHECK_OK(srv_store_load_begin(store, "fresh", "{\"versions\":[3]}", &good, 1, NULL, NULL, &st));
    CHECK(becomes("fresh", 5));
    static const char *const names[] = {"", "..", "../x", "a/b", "1/../x", "1/2/x", "/etc/x", "0/model.onnx", ".hidden", "1/", "1/.x"};
    for (size_t i = 0; i < OD_COUNT(names); i++) {
        srv_file bad = {names[i], bytes, len};
        CHECK_CODE(srv_store_load_begin(store, "m", NULL, &bad, 1, NULL, NULL, &st), OD_BAD_ARGUMENT);
    }
    CHECK_CODE(srv_store_load_begin(store, "../m", NULL, &good, 1, NULL, NULL, &st), OD_BAD_ARGUMENT);
    srv_store_rescan(store); /* files of its own are not gone from the folder */
    CHECK_OK(srv_store_load(store, "m", NULL, &st));
    CHECK_EQ(answer("m", 0), 1);
    CHECK_EQ(answer("fresh", 0), 5);
    CHECK_OK(srv_store_unload(store, "fresh", &st));
    srv_store_destroy(store);
    CHECK(system("ls -d \"$TMPDIR\"/onnxd-* >/dev/null 2>&1") != 0); /* nothing is left behind */
    store = NULL;
    unsetenv("TMPDIR");
    end();
}

TEST(a_broken_newest_version_is_reported_and_the_one_before_is_served)
{
    files_begin();
    files_model("m/1/model.onnx", 1, 0);
    files_write("m/2/model.onnx", "\x08\x08nonsense", 10);
    files_write("several/a.onnx", "", 0);
    files_write("several/b.onnx", "", 0);
    start((srv_store_options){0});
    CHECK(becomes("m", 1));
    CHECK_EQ(line("m", 2).state, SRV_STATE_UNAVAILABLE);
    CHECK(*line("m", 2).reason);
    CHECK_EQ(line("m", 1).state, SRV_STATE_READY);
    float c;
    for (int i = 0; i < 400 && line("several", 1).state != SRV_STATE_UNAVAILABLE; i++) sleep_ms(5);
    CHECK_CODE(ask("several", 0, &c, &st), OD_UNAVAILABLE);
    CHECK_HAS(st.msg, "several .onnx files");
    CHECK(!srv_store_ready(store)); /* not all that was there at the start works */
    end();
}

TEST(a_load_that_fails_leaves_the_old_model_serving)
{
    files_begin();
    files_model("m/model.onnx", 1, 0);
    start((srv_store_options){.control = SRV_CONTROL_EXPLICIT});
    float c;
    CHECK(srv_store_ready(store)); /* nothing was to be loaded */
    CHECK_CODE(ask("m", 0, &c, &st), OD_UNAVAILABLE);
    CHECK_EQ(line("m", 0).state, SRV_STATE_UNKNOWN);
    CHECK_OK(srv_store_load(store, "m", NULL, &st));
    CHECK_EQ(answer("m", 0), 1);
    files_write("m/model.onnx", "\x08\x08nonsense", 10);
    CHECK(srv_store_load(store, "m", NULL, &st) != OD_OK);
    CHECK_EQ(answer("m", 0), 1);
    CHECK_EQ(line("m", 1).state, SRV_STATE_READY);
    CHECK(*line("m", 1).reason);
    files_model("m/model.onnx", 2, 0);
    CHECK_OK(srv_store_load(store, "m", NULL, &st));
    CHECK_EQ(answer("m", 0), 2);
    CHECK(!*line("m", 1).reason);
    files_model("later/1/model.onnx", 3, 0);
    files_model("later/2/model.onnx", 4, 0);
    CHECK_EQ(line("later", 0).version, 0); /* in the index as soon as it is in the folder */
    CHECK_OK(srv_store_load(store, "later", NULL, &st));
    CHECK_EQ(answer("later", 0), 4);
    CHECK_CODE(srv_store_load(store, "none", NULL, &st), OD_NOT_FOUND);
    CHECK_CODE(srv_store_load(store, "../m", NULL, &st), OD_NOT_FOUND);
    CHECK_CODE(srv_store_unload(store, "none", &st), OD_NOT_FOUND);
    end();
}

TEST(changes_of_the_folder_are_followed)
{
    files_begin();
    files_model("m/model.onnx", 1, 0);
    start((srv_store_options){.control = SRV_CONTROL_POLL});
    wait_ready();
    CHECK_EQ(answer("m", 0), 1);
    files_model("m/model.onnx", 2, 0);
    CHECK(becomes("m", 2));
    files_model("new/3/model.onnx", 3, 0);
    CHECK(becomes("new", 3));
    files_model("new/4/model.onnx", 4, 0);
    CHECK(becomes("new", 4));
    char path[128];
    snprintf(path, sizeof path, "%s/m/model.onnx", files_dir);
    CHECK(!unlink(path));
    float c;
    od_code rc = OD_OK;
    for (int i = 0; i < 1000 && (rc = ask("m", 0, &c, &st)) != OD_NOT_FOUND; i++) sleep_ms(5); /* for a moment it is UNAVAILABLE */
    CHECK_CODE(rc, OD_NOT_FOUND);
    CHECK(srv_store_ready(store));
    end();
}

/* Clients that ask while the model is exchanged; every answer must be one that some file gave. */
static atomic_bool stop_clients;
static atomic_int answers, wrong;

static void *client_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop_clients)) {
        float c = -1;
        od_status own = {0};
        if (ask("m", 0, &c, &own) != OD_OK || c < 1 || c > 500) atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&answers, 1);
    }
    return NULL;
}

TEST(exchanges_under_load_lose_no_request)
{
    pthread_t clients[4];
    files_begin();
    files_model("m/model.onnx", 1, 0);
    start((srv_store_options){0});
    wait_ready();
    atomic_store(&stop_clients, false);
    for (int i = 0; i < 4; i++) CHECK(!pthread_create(&clients[i], NULL, client_main, NULL));
    for (int i = 2; i <= 100; i++) {
        files_model("m/model.onnx", (float)i, 0);
        CHECK_OK(srv_store_load(store, "m", NULL, &st));
        CHECK_EQ(answer("m", 0), i);
    }
    atomic_store(&stop_clients, true);
    for (int i = 0; i < 4; i++) pthread_join(clients[i], NULL);
    CHECK_EQ(atomic_load(&wrong), 0);
    CHECK(atomic_load(&answers) > 100);
    end();
}

static long resident_kb(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%*d %ld", &pages) == 1 && !fclose(f));
    return pages * 4;
}

TEST(memory_comes_back_after_an_unload)
{
    files_begin();
    files_model("big/model.onnx", 1, 8 << 20);
    start((srv_store_options){.control = SRV_CONTROL_EXPLICIT});
    CHECK_OK(srv_store_load(store, "big", NULL, &st));
    CHECK_OK(srv_store_unload(store, "big", &st));
    long before = resident_kb();
    for (int i = 0; i < 5; i++) {
        CHECK_OK(srv_store_load(store, "big", NULL, &st));
        CHECK_EQ(answer("big", 0), 1);
        CHECK(srv_store_bytes(store) >= (32u << 20));
        CHECK_OK(srv_store_unload(store, "big", &st));
        CHECK_EQ(srv_store_bytes(store), 0);
        CHECK_EQ(line("big", 1).state, SRV_STATE_UNAVAILABLE);
        CHECK_STR(line("big", 1).reason, "unloaded");
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(resident_kb() < before + 4096);
#else
    (void)before;
#endif
    end();
}

TEST(an_unload_waits_for_users)
{
    srv_model *m = NULL;
    files_begin();
    files_model("m/model.onnx", 1, 0);
    start((srv_store_options){0});
    wait_ready();
    CHECK_OK(srv_store_acquire(store, "m", 0, &m, &st));
    CHECK_OK(srv_store_unload_begin(store, "m", NULL, NULL, &st));
    for (int i = 0; i < 400 && line("m", 1).state != SRV_STATE_UNLOADING; i++) sleep_ms(5);
    CHECK_EQ(line("m", 1).state, SRV_STATE_UNLOADING);
    CHECK_STR(m->name, "m"); /* still there */
    CHECK(srv_batcher_rows(m->batcher) >= 1);
    srv_model_release(m);
    for (int i = 0; i < 400 && line("m", 1).state != SRV_STATE_UNAVAILABLE; i++) sleep_ms(5);
    CHECK_EQ(line("m", 1).state, SRV_STATE_UNAVAILABLE);
    end();
}

TEST(the_memory_budget_refuses_what_does_not_fit)
{
    files_begin();
    files_model("big/model.onnx", 1, 8 << 20);
    files_model("small/model.onnx", 2, 0);
    static od_budget budget = {.limit = 16 << 20};
    start((srv_store_options){.control = SRV_CONTROL_EXPLICIT, .budget = &budget, .batch.budget = &budget});
    CHECK_OK(srv_store_load(store, "small", NULL, &st));
    CHECK_CODE(srv_store_load(store, "big", NULL, &st), OD_TOO_LARGE);
    CHECK_EQ(answer("small", 0), 2);
    CHECK(atomic_load(&budget.used) > 0);
    end();
    CHECK_EQ(atomic_load(&budget.used), 0); /* models and their runs gave back what they took */
}

TEST(a_folder_that_is_not_there_is_an_error)
{
    srv_store *none = NULL;
    CHECK_CODE(srv_store_create(&none, &(srv_store_options){.dir = "/no/such/folder"}, &st), OD_NOT_FOUND);
    CHECK_HAS(st.msg, "/no/such/folder");
}

TEST_MAIN
