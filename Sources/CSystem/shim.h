#ifndef APUS_CSYSTEM_H
#define APUS_CSYSTEM_H

#include <sys/epoll.h>

#endif
