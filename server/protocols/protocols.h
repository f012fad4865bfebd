/* protocols.h - the paths that onnxd answers, and what their handlers share. */
#ifndef SRV_PROTOCOLS_H
#define SRV_PROTOCOLS_H

#include "server/server.h"

extern const srv_route srv_routes[];
extern const int srv_n_routes;

/* Handlers, one a route. */
srv_handler srv_oip_live, srv_oip_ready, srv_oip_server, srv_oip_model, srv_oip_model_ready, srv_oip_infer;
srv_handler srv_oip_config, srv_oip_stats, srv_oip_model_stats;
srv_handler srv_oip_index, srv_oip_load, srv_oip_unload, srv_oip_other_repository;
srv_handler srv_oip_logging_get, srv_oip_logging_set, srv_oip_trace_get, srv_oip_trace_set, srv_oip_shm_status, srv_oip_shm_forget, srv_oip_shm_register;
srv_handler srv_predict;
srv_handler srv_tfs_predict, srv_tfs_status, srv_tfs_metadata;
srv_handler srv_torchserve_predict, srv_torchserve_ping;
srv_handler srv_openapi, srv_metrics_page;
srv_handler srv_page, srv_model_card, srv_model_graph, srv_model_profile;

/* srv_http_options.sent and turned_away: the access log and the metrics. */
void srv_seen(srv_request *r, bool complete);
void srv_turned_away(void *server);

/* srv_http_options.admit: no work before the store is there, no new work while draining; tokens and their rates when there are any (401, 403, 429). */
od_code srv_admit(srv_request *r, od_status *st);
/* Read the file of tokens, or read it again; the old ones hold when it fails. NULL: no tokens are asked for. */
od_code srv_admit_read(const char *path, od_status *st);

/* "FP32" for ENG_FLOAT, "BYTES" for text; "?" for what the protocol has no name for. */
const char *srv_datatype_name(eng_dtype t);
/* ENG_UNDEFINED: no such name. */
eng_dtype srv_datatype(const char *name, size_t len);

/* The model that the path names: captures[0], and captures[1] as its version when there are two. Sets r->model and
 * r->version. The caller releases it. */
od_code srv_request_model(srv_request *r, srv_model **out, od_status *st);

/* Answer what `tell` writes about the model that the path names, or the error. */
typedef void srv_tell(srv_request *r, srv_text *t, const srv_model *m);
void srv_reply_about(srv_request *r, srv_tell *tell);

/* "[1,-1,3]" of declared or real extents. */
void srv_text_dims(srv_text *t, int rank, const int64_t *dims);

/* `name`, of its length, in a message-sized buffer. */
static inline int srv_cut(size_t len)
{
    return (int)od_min_i64((int64_t)len, 80);
}

#endif
