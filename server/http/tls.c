/* tls.c - the certificate that new connections are shown, and its change while others go on. GnuTLS asks for it at each handshake
 * and hands over no argument, so there is one a process. What was replaced stays until the end: a handshake may still use it. */
#include "server/http/conn.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

enum { CHAIN_MOST = 16 };

typedef struct identity {
    struct identity *before;
    gnutls_pcert_st chain[CHAIN_MOST];
    unsigned n;
    gnutls_privkey_t key;
} identity;

static _Atomic(identity *) current;

static void destroy(identity *i)
{
    for (unsigned k = 0; k < i->n; k++) gnutls_pcert_deinit(&i->chain[k]);
    if (i->key) gnutls_privkey_deinit(i->key);
    free(i);
}

/* Do key and certificate belong together? */
static int check_pair(const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
    gnutls_certificate_credentials_t pair;
    int rc = gnutls_certificate_allocate_credentials(&pair);
    if (rc < 0) return rc;
    rc = gnutls_certificate_set_x509_key_mem(pair, cert, key, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(pair);
    return rc;
}

static int import(identity *i, const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
    unsigned n = CHAIN_MOST;
    int rc = check_pair(cert, key);
    if (rc >= 0) rc = gnutls_pcert_list_import_x509_raw(i->chain, &n, cert, GNUTLS_X509_FMT_PEM, 0);
    if (rc < 0) return rc;
    i->n = n;
    if ((rc = gnutls_privkey_init(&i->key)) < 0) return rc;
    return gnutls_privkey_import_x509_raw(i->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
}

od_code srv_tls_use(const char *cert, const char *key, od_status *st)
{
    gnutls_datum_t c = {(unsigned char *)(uintptr_t)cert, (unsigned)strlen(cert)}, k = {(unsigned char *)(uintptr_t)key, (unsigned)strlen(key)};
    identity *i = calloc(1, sizeof *i);
    if (!i) return od_fail(st, OD_NO_MEMORY, "no memory for a certificate");
    int rc = import(i, &c, &k);
    if (rc < 0) {
        destroy(i);
        return od_fail(st, OD_BAD_ARGUMENT, "no TLS with this certificate and key: %s", gnutls_strerror(rc));
    }
    i->before = atomic_load(&current);
    atomic_store(&current, i);
    return OD_OK;
}

int srv_tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities, const gnutls_pk_algorithm_t *kinds,
                   int n_kinds, gnutls_pcert_st **chain, unsigned *n, gnutls_privkey_t *key)
{
    (void)session, (void)authorities, (void)n_authorities, (void)kinds, (void)n_kinds;
    identity *i = atomic_load(&current);
    if (!i) return -1;
    *chain = i->chain;
    *n = i->n;
    *key = i->key;
    return 0;
}

void srv_tls_end(void)
{
    for (identity *i = atomic_exchange(&current, NULL), *before; i; i = before) {
        before = i->before;
        destroy(i);
    }
}
