#ifndef APUS_CRABBITMQ_H
#define APUS_CRABBITMQ_H

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

// The library's answers are unions and its flags macros that Swift does not see: what follows says it in numbers and texts.

// 0 when the last call on the connection went well; otherwise its complaint, with the broker's own words where it has any.
static inline int apus_amqp_complaint(amqp_rpc_reply_t reply, char *text, size_t size) {
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL: return 0;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        snprintf(text, size, "%s", amqp_error_string2(reply.library_error));
        return 1;
    case AMQP_RESPONSE_SERVER_EXCEPTION: {
        amqp_bytes_t said = amqp_empty_bytes;
        if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD)
            said = ((amqp_connection_close_t *)reply.reply.decoded)->reply_text;
        if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
            said = ((amqp_channel_close_t *)reply.reply.decoded)->reply_text;
        int length = said.len > 400 ? 400 : (int)said.len;
        snprintf(text, size, "the broker refuses: %.*s", length, said.len ? (char *)said.bytes : "");
        return 1;
    }
    default:
        snprintf(text, size, "the broker has ended the connection");
        return 1;
    }
}

// Opens a connection with one channel on which the broker confirms what it has taken; NULL with a complaint. `authority` is a
// file of certificates, NULL for a connection without TLS.
static inline amqp_connection_state_t apus_amqp_open(
    const char *host, int port, const char *authority, const char *user, const char *password, const char *space,
    int seconds, char *text, size_t size) {
    struct timeval limit = {seconds, 0};
    amqp_connection_state_t state = amqp_new_connection();
    if (!state) {
        snprintf(text, size, "no memory");
        return NULL;
    }
    amqp_socket_t *socket = authority ? amqp_ssl_socket_new(state) : amqp_tcp_socket_new(state);
    int code = socket ? 0 : AMQP_STATUS_NO_MEMORY;
    if (!code && authority) {
        amqp_ssl_socket_set_verify_peer(socket, 1);
        amqp_ssl_socket_set_verify_hostname(socket, 1);
        code = amqp_ssl_socket_set_cacert(socket, authority);
    }
    if (!code) code = amqp_set_handshake_timeout(state, &limit);
    if (!code) code = amqp_set_rpc_timeout(state, &limit);
    if (!code) code = amqp_socket_open_noblock(socket, host, port, &limit);
    if (code) {
        snprintf(text, size, "%s", amqp_error_string2(code));
        amqp_destroy_connection(state);
        return NULL;
    }
    int failed = apus_amqp_complaint(
        amqp_login(state, space, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, user, password), text, size);
    if (!failed) {
        amqp_channel_open(state, 1);
        failed = apus_amqp_complaint(amqp_get_rpc_reply(state), text, size);
    }
    if (!failed) {
        amqp_confirm_select(state, 1);
        failed = apus_amqp_complaint(amqp_get_rpc_reply(state), text, size);
    }
    if (failed) {
        amqp_destroy_connection(state);
        return NULL;
    }
    // Sending has no limit of its own: a broker that does not read any more ends the connection after that time.
    unsigned int milliseconds = (unsigned int)seconds * 1000;
    setsockopt(amqp_get_sockfd(state), IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
    return state;
}

// Makes a topic exchange and a queue that has what comes under its own name; both may be there already. 0, or a complaint.
static inline int apus_amqp_declare(
    amqp_connection_state_t state, const char *exchange, const char *queue, int durable, char *text, size_t size) {
    amqp_exchange_declare(
        state, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes("topic"), 0, durable, 0, 0, amqp_empty_table);
    if (apus_amqp_complaint(amqp_get_rpc_reply(state), text, size)) return 1;
    amqp_queue_declare(state, 1, amqp_cstring_bytes(queue), 0, durable, 0, 0, amqp_empty_table);
    if (apus_amqp_complaint(amqp_get_rpc_reply(state), text, size)) return 1;
    amqp_queue_bind(
        state, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange), amqp_cstring_bytes(queue), amqp_empty_table);
    return apus_amqp_complaint(amqp_get_rpc_reply(state), text, size);
}

// Sends a message that outlives the broker where its queue does. 0, or a complaint.
static inline int apus_amqp_publish(
    amqp_connection_state_t state, const char *exchange, const char *key, const void *bytes, size_t count, char *text,
    size_t size) {
    amqp_basic_properties_t properties;
    memset(&properties, 0, sizeof properties);
    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties.content_type = amqp_cstring_bytes("application/json");
    properties.content_encoding = amqp_cstring_bytes("utf-8");
    properties.delivery_mode = 2;
    amqp_bytes_t body = {count, (void *)bytes};
    int code = amqp_basic_publish(
        state, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), 0, 0, &properties, body);
    if (!code) return 0;
    snprintf(text, size, "%s", amqp_error_string2(code));
    return 1;
}

// Waits for the broker's next word on what was sent: 1 it has taken the message of `tag`, and all before where `multiple`;
// 0 it has not; -1 with a complaint when there is no word in time.
static inline int apus_amqp_confirmation(
    amqp_connection_state_t state, int seconds, uint64_t *tag, int *multiple, char *text, size_t size) {
    struct timeval limit = {seconds, 0};
    for (;;) {
        amqp_frame_t frame;
        amqp_maybe_release_buffers(state);
        int code = amqp_simple_wait_frame_noblock(state, &frame, &limit);
        if (code) {
            snprintf(text, size, "%s", amqp_error_string2(code));
            return -1;
        }
        if (frame.frame_type != AMQP_FRAME_METHOD) continue;
        switch (frame.payload.method.id) {
        case AMQP_BASIC_ACK_METHOD: {
            amqp_basic_ack_t *ack = (amqp_basic_ack_t *)frame.payload.method.decoded;
            *tag = ack->delivery_tag;
            *multiple = ack->multiple;
            return 1;
        }
        case AMQP_BASIC_NACK_METHOD: {
            amqp_basic_nack_t *nack = (amqp_basic_nack_t *)frame.payload.method.decoded;
            *tag = nack->delivery_tag;
            *multiple = nack->multiple;
            return 0;
        }
        case AMQP_CHANNEL_CLOSE_METHOD:
        case AMQP_CONNECTION_CLOSE_METHOD:
            snprintf(text, size, "the broker has ended the connection");
            return -1;
        default: break;
        }
    }
}

#endif
