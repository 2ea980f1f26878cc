#ifndef APUS_CGNUTLS_H
#define APUS_CGNUTLS_H

#include <gnutls/gnutls.h>

#endif
