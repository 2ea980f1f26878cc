#ifndef APUS_CMICROHTTPD_H
#define APUS_CMICROHTTPD_H

#include <fcntl.h>
#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>

// What Swift cannot see of libmicrohttpd: variadic functions, flags that are combined, results by closed enum.

struct apus_mhd_settings {
    int listen_socket;
    unsigned int threads;
    unsigned int connection_limit;
    unsigned int per_address_limit;
    unsigned int timeout_seconds;
    size_t memory_limit;
    // PEM texts; no TLS without key and certificate. Copied by the library.
    const char *key;
    const char *certificate;
    const char *trust;
    void *context;
    MHD_AccessHandlerCallback handler;
    MHD_RequestCompletedCallback completed;
    MHD_NotifyConnectionCallback connection;
    void *(*request_line)(void *context, const char *uri, struct MHD_Connection *connection);
};

static inline struct MHD_Daemon *apus_mhd_start(const struct apus_mhd_settings *s) {
    unsigned int flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem options[20];
    int n = 0;
#define APUS_OPTION(name, number, pointer) \
    options[n++] = (struct MHD_OptionItem){(name), (intptr_t)(number), (void *)(pointer)}
    APUS_OPTION(MHD_OPTION_LISTEN_SOCKET, s->listen_socket, NULL);
    APUS_OPTION(MHD_OPTION_CONNECTION_LIMIT, s->connection_limit, NULL);
    APUS_OPTION(MHD_OPTION_PER_IP_CONNECTION_LIMIT, s->per_address_limit, NULL);
    APUS_OPTION(MHD_OPTION_CONNECTION_TIMEOUT, s->timeout_seconds, NULL);
    APUS_OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, s->memory_limit, NULL);
    APUS_OPTION(MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
    APUS_OPTION(MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)s->completed, s->context);
    APUS_OPTION(MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)s->connection, s->context);
    APUS_OPTION(MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)s->request_line, s->context);
    if (s->threads > 1) APUS_OPTION(MHD_OPTION_THREAD_POOL_SIZE, s->threads, NULL);
    if (s->key && s->certificate) {
        flags |= MHD_USE_TLS;
        APUS_OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, s->key);
        APUS_OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, s->certificate);
        APUS_OPTION(MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2");
        if (s->trust) APUS_OPTION(MHD_OPTION_HTTPS_MEM_TRUST, 0, s->trust);
    }
    APUS_OPTION(MHD_OPTION_END, 0, NULL);
#undef APUS_OPTION
    return MHD_start_daemon(
        flags, 0, NULL, NULL, s->handler, s->context, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

static inline int apus_mhd_duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }

static const enum MHD_Result apus_MHD_YES = MHD_YES;
static const enum MHD_Result apus_MHD_NO = MHD_NO;

static inline int apus_mhd_is_start(enum MHD_ConnectionNotificationCode code) {
    return code == MHD_CONNECTION_NOTIFY_STARTED;
}

static inline int apus_mhd_socket(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static inline void *apus_mhd_socket_context(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static inline const struct sockaddr *apus_mhd_client_address(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

// From libgnutls, which libmicrohttpd itself stands on.
extern int gnutls_certificate_verify_peers2(void *session, unsigned int *status);

// Whether the client showed a certificate that the trusted authorities vouch for.
static inline int apus_mhd_client_is_verified(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    unsigned int status = ~0u;
    if (!info || !info->tls_session) return 0;
    return gnutls_certificate_verify_peers2(info->tls_session, &status) == 0 && status == 0;
}

static inline void apus_mhd_headers(struct MHD_Connection *connection, MHD_KeyValueIteratorN iterator, void *context) {
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, iterator, context);
}

static inline struct MHD_Response *apus_mhd_response_copying(const void *bytes, size_t count) {
    return MHD_create_response_from_buffer(count, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}

static inline struct MHD_Response *apus_mhd_response_stream(
    int64_t length, MHD_ContentReaderCallback reader, void *context, MHD_ContentReaderFreeCallback release) {
    return MHD_create_response_from_callback(
        length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length, 65536, reader, context, release);
}

static const ssize_t apus_MHD_END_OF_STREAM = MHD_CONTENT_READER_END_OF_STREAM;
static const ssize_t apus_MHD_END_WITH_ERROR = MHD_CONTENT_READER_END_WITH_ERROR;

#endif
