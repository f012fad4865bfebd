/* settings.h - what a server can be told, in one table: as a flag, as an environment variable, or as a key
 * of onnxd.json. Flags win over the environment, the environment over the file, the file over defaults. */
#ifndef SRV_SETTINGS_H
#define SRV_SETTINGS_H

#include "engine/base/arena.h"

#include <stdio.h>

typedef struct srv_settings {
    const char *models; /* the repository: the command's one word, or --models */
    const char *config;
    /* listening */
    const char *host, *socket, *prefix, *cors_origin, *tls_cert, *tls_key, *tokens;
    int64_t port, socket_threads, threads;
    /* limits */
    int64_t max_body, max_body_total, max_header, max_connections, max_pixels, max_json_depth, max_inflate_ratio, memory_budget, run_memory;
    int64_t idle_timeout_s, receive_timeout_s, send_timeout_s, grace_s, compress_above;
    /* models */
    const char *model_control, *load_models, *pack_cache;
    int64_t max_batch_size, max_queue_delay_us, max_queue, request_timeout_ms, served_versions, load_threads, tune;
    /* seeing */
    const char *log_level, *access_log, *access_log_file;
    int64_t triton_metrics;
} srv_settings;

/* Defaults, then the file that --config or ONNXD_CONFIG names, then the environment, then the words. Texts live in `a`.
 * `*help` is set when --help was among them. OD_BAD_ARGUMENT names the flag, variable or key; OD_IO, OD_NOT_FOUND: the file. */
od_code srv_settings_read(srv_settings *s, int argc, char **argv, od_arena *a, bool *help, od_status *st);

/* The table: flag, variable, key, default, meaning. */
void srv_settings_help(FILE *to);

/* Flags whose values differ in both and that SIGHUP does not change, with blanks between; "": none. */
void srv_settings_changed(const srv_settings *a, const srv_settings *b, char *flags, size_t size);

#endif
