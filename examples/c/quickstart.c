/* The quickstart: two nodes in one process, as a program would embed one each. */

/* [quickstart] */
#include <peerage.h>
#include <stdio.h>
#include <stdlib.h>

/* Takes what a call returned; the error is everybody's here, and freed with the process. */
static peerage_error *error;
#define DO(call) ((call) == PEERAGE_OK ? (void)0 : (void)(fprintf(stderr, PEERAGE_FORMAT "\n", \
    PEERAGE_PRINT(peerage_error_message(error))), exit(1)))

static void greet(void *data, const peerage_request *request, peerage_responder *responder) {
    char answer[256];
    int len = snprintf(answer, sizeof answer, "hello " PEERAGE_FORMAT ", this is %s",
        PEERAGE_PRINT(request->from), (const char *)data);
    peerage_respond(responder, answer, (size_t)len, NULL);
    peerage_responder_free(responder);
}

int main(void) {
    peerage_bytes *secret, *answer; /* All nodes share one secret; keep it like a password. */
    peerage_cluster *alice, *bob;
    peerage_events *events;
    peerage_config config;
    DO(peerage_secret_generate(&secret, &error));
    DO(peerage_config_init(&config, sizeof config, &error));
    config.cluster = peerage_text("quickstart");
    config.secret = peerage_bytes_text(secret);
    config.node_id = peerage_text("alice");
    DO(peerage_cluster_start(&config, &alice, &error));
    DO(peerage_cluster_handle(alice, peerage_text("greet"), greet, "alice", NULL, &error));
    DO(peerage_cluster_events(alice, &events, &error));

    /* Usually another process on another machine; it needs one address to join through. */
    peerage_str seed = peerage_cluster_addr(alice);
    peerage_tag guest = {peerage_text("role"), peerage_text("guest")};
    config.node_id = peerage_text("bob");
    config.seeds = (peerage_strs){&seed, 1};
    config.tags = (peerage_tags){&guest, 1};
    DO(peerage_cluster_start(&config, &bob, &error));
    DO(peerage_cluster_join(bob, 5000, NULL, &error));
    DO(peerage_cluster_request(bob, peerage_text("alice"), peerage_text("greet"), "hi", 2, 1000,
        NULL, &answer, &error));
    printf("bob heard: " PEERAGE_FORMAT "\n", PEERAGE_PRINT(peerage_bytes_text(answer)));
    DO(peerage_cluster_leave(bob, NULL, NULL, &error));

    for (int32_t kind = 0; kind != PEERAGE_EVENT_MEMBER_LEFT;) {
        peerage_batch *batch;
        DO(peerage_events_next_batch(events, 1, PEERAGE_FOREVER, NULL, &batch, &error));
        const peerage_event *event = peerage_batch_at(batch, 0);
        kind = event->kind;
        if (event->member != NULL)
            printf("alice saw: %s " PEERAGE_FORMAT " {\"" PEERAGE_FORMAT "\": \"" PEERAGE_FORMAT
                "\"}\n", peerage_event_name(kind), PEERAGE_PRINT(event->member->id),
                PEERAGE_PRINT(event->member->tags.items[0].key),
                PEERAGE_PRINT(event->member->tags.items[0].value));
        peerage_batch_free(batch);
    }
    DO(peerage_cluster_leave(alice, NULL, NULL, &error));
}
/* [/quickstart] */
