// What Swift cannot import from libvirt by itself: casting macros, structs with character arrays and unions,
// and constants that are macros. One registering function per kind of event, so that the compiler checks the
// callback's type where `VIR_DOMAIN_EVENT_CALLBACK` would cast it away.

#ifndef APUS_CLIBVIRT_H
#define APUS_CLIBVIRT_H

#include <stddef.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

/// Drops every message that libvirt would print to stderr; to be called before the first connection.
void apusSilenceErrors(void);

/// Names the calling thread in `ps` and debuggers; at most 15 bytes are kept.
void apusNameThread(const char *name);

/// Length of a UUID in text with its terminating zero.
enum { APUS_UUID_STRING_LENGTH = VIR_UUID_STRING_BUFLEN };

/// All return the callback's id, or -1 with libvirt's error set. `release` is called once with `opaque` when the
/// subscription has ended and no callback runs any more; not when -1 is returned.
int apusRegisterLifecycle(
    virConnectPtr connection, virConnectDomainEventCallback callback, void *opaque, virFreeCallback release);
int apusRegisterReboot(
    virConnectPtr connection, virConnectDomainEventGenericCallback callback, void *opaque, virFreeCallback release);
int apusRegisterDeviceRemoved(
    virConnectPtr connection, virConnectDomainEventDeviceRemovedCallback callback, void *opaque,
    virFreeCallback release);
int apusRegisterDeviceRemovalFailed(
    virConnectPtr connection, virConnectDomainEventDeviceRemovalFailedCallback callback, void *opaque,
    virFreeCallback release);
int apusRegisterJobCompleted(
    virConnectPtr connection, virConnectDomainEventJobCompletedCallback callback, void *opaque,
    virFreeCallback release);

/// The parameter at `index`; the pointer is valid as long as the array.
const virTypedParameter *apusParameter(const virTypedParameter *parameters, int index);
const char *apusParameterName(const virTypedParameter *parameter);
int apusParameterType(const virTypedParameter *parameter);
/// Value of a parameter of type int or long long.
long long apusParameterSigned(const virTypedParameter *parameter);
/// Value of a parameter of type unsigned int, unsigned long long or boolean.
unsigned long long apusParameterUnsigned(const virTypedParameter *parameter);
double apusParameterDouble(const virTypedParameter *parameter);
/// Value of a parameter of type string; may be NULL.
const char *apusParameterString(const virTypedParameter *parameter);

/// The host's CPU model or architecture as libvirt names it; the pointer is valid as long as `info`.
const char *apusNodeModel(const virNodeInfo *info);

#endif
