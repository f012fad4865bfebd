#include "server/http/conn.h"
#include "tests/test.h"

static void none(srv_request *r)
{
    (void)r;
}

static const srv_route routes[] = {
    {"GET", "/v2", none, 0}, {"GET", "/v2/models/stats", none, 1}, {"GET", "/v2/models/{}", none, 2}, {"POST", "/v2/models/{}/infer", none, 3},
    {"GET", "/v2/models/{}/infer", none, 4}, {"POST", "/v1/models/{}:predict", none, 5}, {"GET", "/v1/models/{}", none, 6}};
static srv_http http = {.o = {.routes = routes, .n_routes = OD_COUNT(routes)}};

/* Flags of the route that a path leads to, or minus the HTTP status. */
static int find(const char *method, const char *path, srv_request *r)
{
    od_arena arena = r->arena;
    od_arena_reset(&arena);
    *r = (srv_request){.http = &http, .path = path, .arena = arena};
    snprintf(r->method, sizeof r->method, "%s", method);
    return srv_route_find(r, &st) == OD_OK ? (int)r->route->flags : -r->reply.status;
}

TEST(paths_lead_to_their_routes) {
    static srv_request r;
    CHECK_EQ(find("GET", "/v2", &r), 0);
    CHECK_EQ(find("GET", "/v2/", &r), 0);
    CHECK_EQ(find("HEAD", "/v2", &r), 0);
    CHECK_EQ(find("GET", "/v2/models/stats", &r), 1);
    CHECK_EQ(find("GET", "/v2/models/a%20b", &r), 2);
    CHECK_STR(r.captures[0], "a b");
    CHECK_EQ(find("POST", "/v2/models/m/infer", &r), 3);
    CHECK_EQ(find("POST", "/v1/models/m:predict", &r), 5);
    CHECK_STR(r.captures[0], "m");
}

TEST(what_is_no_path_says_so) {
    static srv_request r;
    const char *nothing[] = {"/", "", "/v2/models", "/v2//", "/v2/models/m/infer/x", "/v2x", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14", "/v1/models/:predict"};
    for (size_t i = 0; i < OD_COUNT(nothing); i++)
        if (find("POST", nothing[i], &r) != -404 && i != 7) TEST_FAIL("%s is taken", nothing[i]);
    CHECK_EQ(find("PUT", "/v2/models/m/infer", &r), -405);
    CHECK_STR(r.reply.headers[0].value, "POST, GET, HEAD");
    CHECK_EQ(find("GET", "/v1/models/m:predict", &r), -405);
    CHECK_EQ(find("GET", "/v2/models/%zz", &r), -400);
    CHECK_EQ(find("GET", "/v2/models/%0", &r), -400);
    CHECK_EQ(find("GET", "/v2/models/%00", &r), -400);
    CHECK_EQ(find("GET", "/v2/models/%ff", &r), -400);
}

TEST(queries_are_decoded_in_order) {
    static srv_request r = {.query = "a=1&b=x%20y+z&&c&d=%3d"};
    const char *at = r.query, *key, *value;
    char all[64] = "";
    st = (od_status){0};
    while (srv_query_next(&r, &at, &key, &value, &st)) snprintf(all + strlen(all), sizeof all - strlen(all), "%s=%s;", key, value);
    CHECK_STR(all, "a=1;b=x y z;c=;d==;");
    CHECK(!st.code);
    r.query = at = "a=%g0";
    CHECK(!srv_query_next(&r, &at, &key, &value, &st));
    CHECK(st.code == OD_BAD_ARGUMENT);
}

TEST_MAIN
