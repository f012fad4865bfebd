/* operations.c - logging settings, and the extensions that onnxd does not offer but clients ask about. */
#include "server/protocols/infer.h"

#include "engine/base/log.h"
#include "server/settings.h"

#include <pthread.h>
#include <string.h>

/* What the logging extension can set; the log itself has one level, which follows. */
static struct {
    pthread_mutex_t lock;
    bool known, info, warning, error;
    int64_t verbose;
} logging = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void learn(const srv_settings *s)
{
    if (logging.known) return;
    logging.known = true;
    logging.verbose = !strcmp(s->log_level, "debug");
    logging.info = logging.verbose || !strcmp(s->log_level, "info");
    logging.warning = logging.info || !strcmp(s->log_level, "warn");
    logging.error = logging.warning || !strcmp(s->log_level, "error");
}

static void add_logging(srv_request *r)
{
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_text_printf(&r->reply.body, "{\"log_file\":\"\",\"log_info\":%s,\"log_warning\":%s,\"log_error\":%s,\"log_verbose_level\":%" PRId64 ",\"log_format\":\"ISO8601\"}",
                    logging.info ? "true" : "false", logging.warning ? "true" : "false", logging.error ? "true" : "false", logging.verbose);
}

void srv_oip_logging_get(srv_request *r)
{
    pthread_mutex_lock(&logging.lock);
    learn(srv_server_of(r)->settings);
    add_logging(r);
    pthread_mutex_unlock(&logging.lock);
    srv_request_finish(r);
}

static od_code set_logging(srv_request *r, od_status *st)
{
    srv_json j = srv_json_init(r->body, r->body_len, &r->arena, 4);
    eng_str key, text;
    bool info = logging.info, warning = logging.warning, error = logging.error;
    int64_t verbose = logging.verbose;
    OD_TRY(srv_json_object(&j, st));
    while (srv_json_member(&j, &key, st)) {
        if (srv_str_is(key, "log_info")) OD_TRY(srv_json_bool(&j, &info, st));
        else if (srv_str_is(key, "log_warning") || srv_str_is(key, "log_warnings")) OD_TRY(srv_json_bool(&j, &warning, st));
        else if (srv_str_is(key, "log_error") || srv_str_is(key, "log_errors")) OD_TRY(srv_json_bool(&j, &error, st));
        else if (srv_str_is(key, "log_verbose_level")) {
            OD_TRY(srv_json_int(&j, &verbose, st));
            if (verbose < 0) return od_fail(st, OD_BAD_ARGUMENT, "log_verbose_level is not below 0");
        } else if (srv_str_is(key, "log_format")) {
            OD_TRY(srv_json_string(&j, &text, st));
            if (!srv_str_is(text, "ISO8601") && !srv_str_is(text, "default")) return od_fail(st, OD_BAD_ARGUMENT, "log_format is default or ISO8601");
        } else if (srv_str_is(key, "log_file")) {
            OD_TRY(srv_json_string(&j, &text, st));
            if (text.len) return od_fail(st, OD_BAD_ARGUMENT, "the log goes to standard error and to no file");
        } else return od_fail(st, OD_BAD_ARGUMENT, "no setting '%.*s'", srv_cut(key.len), key.ptr);
    }
    OD_TRY(srv_json_code(&j));
    OD_TRY(srv_json_finish(&j, st));
    logging.info = info;
    logging.warning = warning;
    logging.error = error;
    logging.verbose = verbose;
    od_log_level(verbose ? OD_DEBUG : info ? OD_INFO : warning ? OD_WARN : error ? OD_ERROR : OD_SILENT);
    return OD_OK;
}

void srv_oip_logging_set(srv_request *r)
{
    od_status st = {0};
    pthread_mutex_lock(&logging.lock);
    learn(srv_server_of(r)->settings);
    if (set_logging(r, &st) == OD_OK) add_logging(r);
    pthread_mutex_unlock(&logging.lock);
    if (st.code) srv_request_fail(r, &st);
    else srv_request_finish(r);
}

static void text(srv_request *r, const char *json)
{
    r->reply.body = (srv_text){.arena = &r->arena};
    srv_text_add(&r->reply.body, json, strlen(json));
    srv_request_finish(r);
}

static void unsupported(srv_request *r, const char *what)
{
    od_status st;
    od_fail(&st, OD_UNSUPPORTED, "%s", what);
    srv_request_fail(r, &st);
}

void srv_oip_trace_get(srv_request *r)
{
    text(r, "{\"trace_file\":\"\",\"trace_level\":[\"OFF\"],\"trace_rate\":\"0\",\"trace_count\":\"-1\",\"log_frequency\":\"0\"}");
}

void srv_oip_trace_set(srv_request *r)
{
    unsupported(r, "tracing is not offered: send traceparent and read Server-Timing, or see /metrics");
}

/* No region can be registered, so none is, and forgetting one always works. */
void srv_oip_shm_status(srv_request *r)
{
    text(r, "[]");
}

void srv_oip_shm_forget(srv_request *r)
{
    text(r, "");
}

void srv_oip_shm_register(srv_request *r)
{
    unsupported(r, "shared memory is not offered: send the tensors in the request");
}
