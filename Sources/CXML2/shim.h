#ifndef APUS_CXML2_H
#define APUS_CXML2_H

#include <libxml/parser.h>

#endif
