/* What handlers of requests and messages do in the scenarios. */
#ifndef REQUEST_HANDLERS_H
#define REQUEST_HANDLERS_H

#include "scene.h"

#define KEPT_MAX 64

/* What a `keep` handler has got. */
typedef struct {
    pthread_mutex_t lock;
    size_t count;
    struct {
        unsigned char *bytes;
        size_t len;
    } got[KEPT_MAX];
} keeper;

static inline void does_from(void *data, const peerage_request *request, peerage_responder *responder)
{
    (void)data;
    peerage_respond(responder, request->from.data, request->from.len, NULL);
    peerage_responder_free(responder);
}

static inline void does_fail(void *data, const peerage_request *request, peerage_responder *responder)
{
    (void)data;
    (void)request;
    peerage_respond_error(responder, peerage_text("told to fail"), NULL);
    peerage_responder_free(responder);
}

static inline void does_never(void *data, const peerage_request *request, peerage_responder *responder)
{
    /* Reachable to the end: nobody answers, and nothing is lost. */
    (void)data;
    (void)request;
    *(peerage_responder **)json_room(sizeof responder) = responder;
}

static inline void does_keep(void *data, const peerage_request *request, peerage_responder *responder)
{
    keeper *kept = data;
    pthread_mutex_lock(&kept->lock);
    if (kept->count < KEPT_MAX) {
        unsigned char *copy = json_room(request->payload.len + 1);
        if (request->payload.len > 0) memcpy(copy, request->payload.data, request->payload.len);
        kept->got[kept->count].bytes = copy;
        kept->got[kept->count++].len = request->payload.len;
    }
    pthread_mutex_unlock(&kept->lock);
    peerage_respond(responder, NULL, 0, NULL);
    peerage_responder_free(responder);
}

static inline void keeper_name(char *name, size_t size, const json *with)
{
    snprintf(name, size, "%s/%s", need(with, "node")->text, need(with, "topic")->text);
}

static inline peerage_status add_handler(const json *with)
{
    const json *does = need(with, "does");
    peerage_handler handler = is(does, "echo") ? echo_handler
        : is(does, "from") ? does_from : is(does, "fail") ? does_fail
        : is(does, "never") ? does_never : is(does, "keep") ? does_keep : NULL;
    void *data = NULL;
    if (handler == does_keep) {
        char name[300];
        keeper *kept = json_room(sizeof *kept);
        pthread_mutex_init(&kept->lock, NULL);
        keeper_name(name, sizeof name, with);
        set_named(keepers, name, kept);
        data = kept;
    }
    return peerage_cluster_handle(node(with), text(with, "topic"), handler, data, NULL, ERR);
}

static inline bool kept_is(const json *with)
{
    char name[300];
    keeper_name(name, sizeof name, with);
    keeper *kept = named_thing(keepers, name);
    size_t at = 0;
    bool holds = true;
    pthread_mutex_lock(&kept->lock);
    for (const json *item = need(with, "expect")->first; item != NULL; item = item->next, at++)
        holds = holds && at < kept->count && same_bytes(payload_of(item),
            (peerage_slice){kept->got[at].bytes, kept->got[at].len});
    holds = holds && at == kept->count;
    pthread_mutex_unlock(&kept->lock);
    return holds;
}

#endif
