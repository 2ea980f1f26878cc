#ifndef APUS_CCURL_H
#define APUS_CCURL_H

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

// curl_easy_setopt and curl_easy_getinfo are variadic: one typed function for each kind of argument.

static inline CURLcode apus_curl_set_long(CURL *handle, CURLoption option, long value) {
    return curl_easy_setopt(handle, option, value);
}
static inline CURLcode apus_curl_set_offset(CURL *handle, CURLoption option, int64_t value) {
    return curl_easy_setopt(handle, option, (curl_off_t)value);
}
// libcurl copies strings.
static inline CURLcode apus_curl_set_text(CURL *handle, CURLoption option, const char *value) {
    return curl_easy_setopt(handle, option, value);
}
static inline CURLcode apus_curl_set_pointer(CURL *handle, CURLoption option, void *value) {
    return curl_easy_setopt(handle, option, value);
}
static inline CURLcode apus_curl_set_headers(CURL *handle, struct curl_slist *list) {
    return curl_easy_setopt(handle, CURLOPT_HTTPHEADER, list);
}
static inline CURLcode apus_curl_set_blob(CURL *handle, CURLoption option, const void *bytes, size_t count) {
    struct curl_blob blob = {(void *)bytes, count, CURL_BLOB_COPY};
    return curl_easy_setopt(handle, option, &blob);
}
// The body as libcurl keeps its own copy of it.
static inline CURLcode apus_curl_set_body(CURL *handle, const void *bytes, size_t count) {
    CURLcode result = curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)count);
    return result != CURLE_OK ? result : curl_easy_setopt(handle, CURLOPT_COPYPOSTFIELDS, bytes);
}
typedef size_t (*apus_curl_callback)(char *bytes, size_t size, size_t count, void *opaque);
static inline CURLcode apus_curl_set_write(CURL *handle, apus_curl_callback callback, void *opaque) {
    CURLcode result = curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, callback);
    return result != CURLE_OK ? result : curl_easy_setopt(handle, CURLOPT_WRITEDATA, opaque);
}
static inline CURLcode apus_curl_set_header(CURL *handle, apus_curl_callback callback, void *opaque) {
    CURLcode result = curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, callback);
    return result != CURLE_OK ? result : curl_easy_setopt(handle, CURLOPT_HEADERDATA, opaque);
}
static inline CURLcode apus_curl_set_read(CURL *handle, apus_curl_callback callback, void *opaque) {
    CURLcode result = curl_easy_setopt(handle, CURLOPT_READFUNCTION, callback);
    return result != CURLE_OK ? result : curl_easy_setopt(handle, CURLOPT_READDATA, opaque);
}
static inline long apus_curl_status(CURL *handle) {
    long status = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    return status;
}
// Whether anything of the request has left; a failure before that is a failure to connect.
static inline int apus_curl_was_sent(CURL *handle) {
    long sent = 0;
    curl_easy_getinfo(handle, CURLINFO_REQUEST_SIZE, &sent);
    return sent > 0;
}
static inline CURLMcode apus_curlm_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}
// The next finished transfer, or NULL; its result through `result`.
static inline CURL *apus_curlm_finished(CURLM *multi, CURLcode *result) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return message->easy_handle;
        }
    }
    return NULL;
}
static inline size_t apus_curl_pause_write(void) { return CURL_WRITEFUNC_PAUSE; }
static inline size_t apus_curl_pause_read(void) { return CURL_READFUNC_PAUSE; }
static inline size_t apus_curl_abort_read(void) { return CURL_READFUNC_ABORT; }
static inline int apus_curl_global_init(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

#endif
