#ifndef APUS_CPOSTGRESQL_H
#define APUS_CPOSTGRESQL_H

#include <libpq-fe.h>

#endif
