/* bare_reply.c - libmicrohttpd and nothing else: takes a POST and answers BYTES bytes. What http_overhead.py
 * compares onnxd with:  bare_reply PORT BYTES THREADS. Ends with its standard input. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *body;
static size_t size;

static enum MHD_Result answer(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **context)
{
    static int seen;
    (void)arg, (void)url, (void)method, (void)version, (void)upload;
    if (!*context) {
        *context = &seen;
        return MHD_YES;
    }
    if (*upload_size) {
        *upload_size = 0;
        return MHD_YES;
    }
    struct MHD_Response *r = MHD_create_response_from_buffer(size, body, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Content-Type", "application/octet-stream");
    enum MHD_Result rc = MHD_queue_response(c, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    size = strtoul(argv[2], NULL, 10);
    body = malloc(size ? size : 1);
    memset(body, 'x', size);
    unsigned threads = (unsigned)strtoul(argv[3], NULL, 10);
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, (uint16_t)strtoul(argv[1], NULL, 10), NULL, NULL, answer, NULL,
                                            MHD_OPTION_THREAD_POOL_SIZE, threads, MHD_OPTION_END);
    if (!d) return 1;
    while (getchar() != EOF) {}
    MHD_stop_daemon(d);
    return 0;
}
