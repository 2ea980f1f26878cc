#ifndef APUS_CCRYPT_H
#define APUS_CCRYPT_H

#include <crypt.h>

#endif
