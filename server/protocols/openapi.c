/* openapi.c - GET /openapi.json: the file beside this one, put into the program by the assembler. */
#include "server/protocols/protocols.h"

__asm__(".section .rodata\n"
        ".global srv_openapi_text\n"
        "srv_openapi_text: .incbin \"server/protocols/openapi.json\"\n"
        ".global srv_openapi_end\n"
        "srv_openapi_end: .byte 0\n"
        ".previous\n");

extern const char srv_openapi_text[], srv_openapi_end[];

void srv_openapi(srv_request *r)
{
    r->reply.pieces = od_arena_array(&r->arena, srv_piece, 1);
    r->reply.body = (srv_text){.arena = &r->arena, .full = !r->reply.pieces};
    if (r->reply.pieces) r->reply.pieces[r->reply.n_pieces++] = (srv_piece){srv_openapi_text, (size_t)(srv_openapi_end - srv_openapi_text)};
    srv_request_finish(r);
}
