#include "server/reply.h"

static const int statuses[OD_CODES] = {
    [OD_OK] = 200,
    [OD_BAD_ARGUMENT] = 400,
    [OD_BAD_SHAPE] = 400,
    [OD_BAD_TYPE] = 400,
    [OD_BAD_VALUE] = 400,
    [OD_BAD_MODEL] = 400,
    [OD_UNSUPPORTED] = 501, /* a picture or a coding that is none of ours is 415: its handler says so */
    [OD_NOT_FOUND] = 404,
    [OD_TOO_LARGE] = 413,
    [OD_NO_MEMORY] = 503,
    [OD_IO] = 500,
    [OD_BUSY] = 503,
    [OD_TIMEOUT] = 503,
    [OD_CANCELLED] = 499, /* nobody is there to read it; logs show it */
    [OD_UNAVAILABLE] = 503,
    [OD_INTERNAL] = 500,
    [OD_UNKNOWN_YET] = 500,
};

int srv_reply_status(od_code code)
{
    int status = (unsigned)code < OD_CODES ? statuses[code] : 0;
    return status ? status : 500;
}

const char *srv_reply_reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    default: return status < 400 ? "OK" : "Error";
    }
}
