#ifndef APUS_CLIBVIRT_H
#define APUS_CLIBVIRT_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#endif
