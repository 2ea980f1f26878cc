#ifndef APUS_CSQLITE_H
#define APUS_CSQLITE_H

#include <sqlite3.h>

#endif
