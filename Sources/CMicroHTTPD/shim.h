#ifndef APUS_CMICROHTTPD_H
#define APUS_CMICROHTTPD_H

#include <microhttpd.h>

#endif
