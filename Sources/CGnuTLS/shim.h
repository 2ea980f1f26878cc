#ifndef APUS_CGNUTLS_H
#define APUS_CGNUTLS_H

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

// gnutls_free is a mutable global that holds a function, which Swift rightly distrusts.
static inline void apus_gnutls_free(void *memory) { gnutls_free(memory); }

// Overwrites a secret before it is freed.
static inline void apus_gnutls_free_secret(gnutls_datum_t *datum) {
    if (datum->data) {
        gnutls_memset(datum->data, 0, datum->size);
        gnutls_free(datum->data);
        datum->data = 0;
    }
}

static inline unsigned apus_p256_bits(void) { return GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1); }

#endif
