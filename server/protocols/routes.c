#include "server/protocols/protocols.h"

/* Every path, once. "{}" is one segment: a model's name or version. */
const srv_route srv_routes[] = {
    /* Open Inference Protocol */
    {"GET", "/v2", srv_oip_server, 0},
    {"GET", "/v2/health/live", srv_oip_live, SRV_ROUTE_OPEN},
    {"GET", "/v2/health/ready", srv_oip_ready, SRV_ROUTE_OPEN},
    {"GET", "/v2/models/stats", srv_oip_stats, 0},
    {"GET", "/v2/models/{}", srv_oip_model, 0},
    {"GET", "/v2/models/{}/versions/{}", srv_oip_model, 0},
    {"GET", "/v2/models/{}/ready", srv_oip_model_ready, 0},
    {"GET", "/v2/models/{}/versions/{}/ready", srv_oip_model_ready, 0},
    {"POST", "/v2/models/{}/infer", srv_oip_infer, SRV_ROUTE_INFER | SRV_ROUTE_WORK_BIG},
    {"POST", "/v2/models/{}/versions/{}/infer", srv_oip_infer, SRV_ROUTE_INFER | SRV_ROUTE_WORK_BIG},
    {"POST", "/v2/models/{}/predict", srv_predict, SRV_ROUTE_INFER},
    {"POST", "/v2/models/{}/versions/{}/predict", srv_predict, SRV_ROUTE_INFER},
    /* TensorFlow Serving */
    {"POST", "/v1/models/{}:predict", srv_tfs_predict, SRV_ROUTE_INFER | SRV_ROUTE_WORK_BIG},
    {"POST", "/v1/models/{}/versions/{}:predict", srv_tfs_predict, SRV_ROUTE_INFER | SRV_ROUTE_WORK_BIG},
    {"GET", "/v1/models/{}", srv_tfs_status, 0},
    {"GET", "/v1/models/{}/versions/{}", srv_tfs_status, 0},
    {"GET", "/v1/models/{}/metadata", srv_tfs_metadata, 0},
    {"GET", "/v1/models/{}/versions/{}/metadata", srv_tfs_metadata, 0},
    /* TorchServe */
    {"GET", "/ping", srv_torchserve_ping, SRV_ROUTE_OPEN},
    {"POST", "/predictions/{}", srv_torchserve_predict, SRV_ROUTE_INFER},
    {"POST", "/predictions/{}/{}", srv_torchserve_predict, SRV_ROUTE_INFER},
    /* for people and tools */
    {"GET", "/openapi.json", srv_openapi, SRV_ROUTE_OPEN},
    {"GET", "/metrics", srv_metrics_page, SRV_ROUTE_OPEN},
    /* its extensions */
    {"GET", "/v2/models/{}/config", srv_oip_config, 0},
    {"GET", "/v2/models/{}/versions/{}/config", srv_oip_config, 0},
    {"GET", "/v2/models/{}/stats", srv_oip_model_stats, 0},
    {"GET", "/v2/models/{}/versions/{}/stats", srv_oip_model_stats, 0},
    {"POST", "/v2/repository/index", srv_oip_index, 0},
    {"POST", "/v2/repository/models/{}/load", srv_oip_load, SRV_ROUTE_ADMIN},
    {"POST", "/v2/repository/models/{}/unload", srv_oip_unload, SRV_ROUTE_ADMIN},
    {"POST", "/v2/repository/{}/index", srv_oip_other_repository, 0},
    {"POST", "/v2/repository/{}/models/{}/load", srv_oip_other_repository, SRV_ROUTE_ADMIN},
    {"POST", "/v2/repository/{}/models/{}/unload", srv_oip_other_repository, SRV_ROUTE_ADMIN},
    {"GET", "/v2/logging", srv_oip_logging_get, 0},
    {"POST", "/v2/logging", srv_oip_logging_set, SRV_ROUTE_ADMIN},
    {"GET", "/v2/trace/setting", srv_oip_trace_get, 0},
    {"POST", "/v2/trace/setting", srv_oip_trace_set, SRV_ROUTE_ADMIN},
    {"GET", "/v2/models/{}/trace/setting", srv_oip_trace_get, 0},
    {"POST", "/v2/models/{}/trace/setting", srv_oip_trace_set, SRV_ROUTE_ADMIN},
    {"GET", "/v2/systemsharedmemory/status", srv_oip_shm_status, 0},
    {"GET", "/v2/systemsharedmemory/region/{}/status", srv_oip_shm_status, 0},
    {"POST", "/v2/systemsharedmemory/region/{}/register", srv_oip_shm_register, 0},
    {"POST", "/v2/systemsharedmemory/region/{}/unregister", srv_oip_shm_forget, 0},
    {"POST", "/v2/systemsharedmemory/unregister", srv_oip_shm_forget, 0},
    {"GET", "/v2/cudasharedmemory/status", srv_oip_shm_status, 0},
    {"GET", "/v2/cudasharedmemory/region/{}/status", srv_oip_shm_status, 0},
    {"POST", "/v2/cudasharedmemory/region/{}/register", srv_oip_shm_register, 0},
    {"POST", "/v2/cudasharedmemory/region/{}/unregister", srv_oip_shm_forget, 0},
    {"POST", "/v2/cudasharedmemory/unregister", srv_oip_shm_forget, 0},
};

const int srv_n_routes = OD_COUNT(srv_routes);
