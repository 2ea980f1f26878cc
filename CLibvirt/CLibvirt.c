#define _GNU_SOURCE

#include "CLibvirt.h"

#include <pthread.h>
#include <string.h>

static void ignoreError(void *opaque, virErrorPtr error) {
    (void)opaque;
    (void)error;
}

void apusSilenceErrors(void) {
    virSetErrorFunc(NULL, ignoreError);
}

void apusNameThread(const char *name) {
    char cut[16];
    strncpy(cut, name, sizeof cut - 1);
    cut[sizeof cut - 1] = '\0';
    pthread_setname_np(pthread_self(), cut);
}

int apusRegisterLifecycle(
    virConnectPtr connection, virConnectDomainEventCallback callback, void *opaque, virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(callback), opaque, release);
}

int apusRegisterReboot(
    virConnectPtr connection, virConnectDomainEventGenericCallback callback, void *opaque, virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, NULL, VIR_DOMAIN_EVENT_ID_REBOOT, callback, opaque, release);
}

int apusRegisterDeviceRemoved(
    virConnectPtr connection, virConnectDomainEventDeviceRemovedCallback callback, void *opaque,
    virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(callback), opaque, release);
}

int apusRegisterDeviceRemovalFailed(
    virConnectPtr connection, virConnectDomainEventDeviceRemovalFailedCallback callback, void *opaque,
    virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, VIR_DOMAIN_EVENT_CALLBACK(callback), opaque,
        release);
}

int apusRegisterJobCompleted(
    virConnectPtr connection, virConnectDomainEventJobCompletedCallback callback, void *opaque,
    virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, NULL, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(callback), opaque, release);
}

const virTypedParameter *apusParameter(const virTypedParameter *parameters, int index) {
    return parameters + index;
}

const char *apusParameterName(const virTypedParameter *parameter) {
    return parameter->field;
}

int apusParameterType(const virTypedParameter *parameter) {
    return parameter->type;
}

long long apusParameterSigned(const virTypedParameter *parameter) {
    return parameter->type == VIR_TYPED_PARAM_INT ? parameter->value.i : parameter->value.l;
}

unsigned long long apusParameterUnsigned(const virTypedParameter *parameter) {
    switch (parameter->type) {
    case VIR_TYPED_PARAM_UINT:
        return parameter->value.ui;
    case VIR_TYPED_PARAM_BOOLEAN:
        return parameter->value.b != 0;
    default:
        return parameter->value.ul;
    }
}

double apusParameterDouble(const virTypedParameter *parameter) {
    return parameter->value.d;
}

const char *apusParameterString(const virTypedParameter *parameter) {
    return parameter->value.s;
}

const char *apusNodeModel(const virNodeInfo *info) {
    return info->model;
}
