#include "server/protocols/protocols.h"

/* Every path, once. "{}" is one segment: a model's name or version. */
const srv_route srv_routes[] = {
    {"GET", "/v2", srv_oip_server, 0},
    {"GET", "/v2/health/live", srv_oip_live, SRV_ROUTE_OPEN},
    {"GET", "/v2/health/ready", srv_oip_ready, SRV_ROUTE_OPEN},
    {"GET", "/v2/models/{}", srv_oip_model, 0},
    {"GET", "/v2/models/{}/versions/{}", srv_oip_model, 0},
    {"GET", "/v2/models/{}/ready", srv_oip_model_ready, 0},
    {"GET", "/v2/models/{}/versions/{}/ready", srv_oip_model_ready, 0},
    {"POST", "/v2/models/{}/infer", srv_oip_infer, SRV_ROUTE_INFER | SRV_ROUTE_WORK_BIG},
    {"POST", "/v2/models/{}/versions/{}/infer", srv_oip_infer, SRV_ROUTE_INFER | SRV_ROUTE_WORK_BIG},
};

const int srv_n_routes = OD_COUNT(srv_routes);
