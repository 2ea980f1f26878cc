#ifndef APUS_CCURL_H
#define APUS_CCURL_H

#include <curl/curl.h>

#endif
