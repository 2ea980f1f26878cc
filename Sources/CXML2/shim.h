#ifndef APUS_CXML2_H
#define APUS_CXML2_H

#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <libxml/xmlreader.h>

// The last error's text on this thread, or null. Wrapped because the library's own declaration changed between versions.
static inline const char *apus_xml_last_error(int *line) {
    const xmlError *error = xmlGetLastError();
    if (!error) return 0;
    *line = error->line;
    return error->message;
}

#endif
