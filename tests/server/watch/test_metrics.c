/* Metrics: what was observed is on the page, in a form that Prometheus reads. */
#include "server/watch/metrics.h"
#include "tests/test.h"

#include <pthread.h>

static srv_metrics *metrics;
static od_arena arena;

static const char *page(void)
{
    srv_text t = {.arena = &arena};
    srv_gauges now = {.program_version = "1.2", .isa = "ref", .workers = 2, .ready = true, .triton_names = true};
    srv_metrics_write(metrics, NULL, &now, &t);
    srv_text_add(&t, "", 1);
    CHECK(!t.full);
    return t.data;
}

static void observe(const char *model, int64_t version, int64_t ns, srv_outcome outcome)
{
    srv_observation o = {.model = model, .version = version, .outcome = outcome, .status = outcome == SRV_DONE ? 200 : 503};
    for (int p = 0; p < SRV_PHASES; p++) o.ns[p] = -1;
    o.ns[SRV_REQUEST] = ns;
    if (outcome == SRV_DONE) o.ns[SRV_COMPUTE] = ns / 2;
    srv_metrics_observe(metrics, &o);
}

static void end(void)
{
    srv_metrics_destroy(metrics);
    od_arena_fini(&arena);
}

TEST(observations_are_counted_in_buckets_that_add_up)
{
    CHECK_OK(srv_metrics_create(&metrics, &st));
    observe("m", 1, 100000, SRV_DONE);
    observe("m", 1, 3000000, SRV_DONE);
    observe("m", 1, 90000000000, SRV_DONE);
    observe("m", 2, 1000, SRV_REJECTED);
    const char *t = page();
    CHECK_HAS(t, "# TYPE onnxd_request_duration_seconds histogram\n");
    CHECK_HAS(t, "onnxd_request_duration_seconds_bucket{model=\"m\",version=\"1\",le=\"0.0001\"} 1\n");
    CHECK_HAS(t, "onnxd_request_duration_seconds_bucket{model=\"m\",version=\"1\",le=\"0.0025\"} 1\n");
    CHECK_HAS(t, "onnxd_request_duration_seconds_bucket{model=\"m\",version=\"1\",le=\"0.005\"} 2\n");
    CHECK_HAS(t, "onnxd_request_duration_seconds_bucket{model=\"m\",version=\"1\",le=\"+Inf\"} 3\n");
    CHECK_HAS(t, "onnxd_request_duration_seconds_sum{model=\"m\",version=\"1\"} 90.003100000\n");
    CHECK_HAS(t, "onnxd_request_duration_seconds_count{model=\"m\",version=\"1\"} 3\n");
    CHECK_HAS(t, "onnxd_requests_total{model=\"m\",version=\"2\",outcome=\"rejected\"} 1\n");
    CHECK_HAS(t, "onnxd_http_requests_total{code=\"503\"} 1\n");
    CHECK_HAS(t, "onnxd_build_info{version=\"1.2\",isa=\"ref\"} 1\n");
    CHECK_HAS(t, "nv_inference_request_success{model=\"m\",version=\"1\"} 3\n");
    CHECK_HAS(t, "process_resident_memory_bytes ");
    srv_totals sums;
    srv_metrics_totals(metrics, "m", 1, &sums);
    CHECK_EQ(sums.outcomes[SRV_DONE], 3);
    CHECK_EQ(sums.count[SRV_COMPUTE], 3);
    CHECK_EQ(sums.ns[SRV_REQUEST], 90003100000);
    CHECK(sums.last_ms > 0);
    srv_metrics_totals(metrics, "none", 1, &sums);
    CHECK_EQ(sums.outcomes[SRV_DONE], 0);
    end();
}

TEST(names_are_escaped)
{
    CHECK_OK(srv_metrics_create(&metrics, &st));
    observe("a\"b\\c\xff", 1, 1000, SRV_DONE);
    CHECK_HAS(page(), "{model=\"a\\\"b\\\\c\xef\xbf\xbd\",version=\"1\"");
    end();
}

TEST(refusals_are_counted_by_reason)
{
    CHECK_OK(srv_metrics_create(&metrics, &st));
    srv_metrics_refuse(metrics, SRV_REFUSED_QUEUE);
    srv_metrics_refuse(metrics, SRV_REFUSED_QUEUE);
    CHECK_HAS(page(), "onnxd_rejected_total{reason=\"queue_full\"} 2\n");
    CHECK_EQ(srv_outcome_of(OD_BUSY), SRV_REJECTED);
    CHECK_EQ(srv_outcome_of(OD_TIMEOUT), SRV_EXPIRED);
    CHECK_EQ(srv_outcome_of(OD_BAD_SHAPE), SRV_FAILED);
    end();
}

TEST(the_number_of_series_is_bounded)
{
    CHECK_OK(srv_metrics_create(&metrics, &st));
    for (int i = 0; i < SRV_SERIES_MAX + 50; i++) observe("m", i + 1, 1000, SRV_DONE);
    CHECK_HAS(page(), "onnxd_request_duration_seconds_count{model=\"_other\",version=\"0\"} 50\n");
    end();
}

enum { THREADS = 4, EACH = 2000 };

static void *observe_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH; i++) observe(i % 2 ? "a" : "b", i % 5 + 1, 1000000, SRV_DONE);
    return NULL;
}

TEST(threads_lose_nothing_and_pages_can_be_written_meanwhile)
{
    pthread_t threads[THREADS];
    srv_totals sums;
    uint64_t all = 0;
    CHECK_OK(srv_metrics_create(&metrics, &st));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, observe_many, NULL));
    for (int i = 0; i < 20; i++) page();
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int v = 1; v <= 5; v++) {
        for (int k = 0; k < 2; k++) {
            srv_metrics_totals(metrics, k ? "a" : "b", v, &sums);
            all += sums.outcomes[SRV_DONE];
        }
    }
    CHECK_EQ(all, THREADS * EACH);
    end();
}

TEST_MAIN
