/* The README's quickstart: two nodes in one process, as a program would embed one each. */

/* [quickstart] */
#include <peerage.h>
#include <stdio.h>
#define TEXT peerage_text
#define DO(call) if ((call) != PEERAGE_OK) \
    return fprintf(stderr, "%.*s\n", PEERAGE_PRINT(peerage_error_message(error))), 1

static void greet(void *data, const peerage_request *request, peerage_responder *responder) {
    char text[256], *us = data;
    int len = snprintf(text, 256, "hello %.*s, this is %s", PEERAGE_PRINT(request->from), us);
    peerage_respond(responder, text, (size_t)len, NULL);
    peerage_responder_free(responder);
}

int main(void) { /* What is got is to be freed; here the end of the process does it. */
    peerage_error *error; peerage_config config;
    peerage_cluster *alice, *bob; peerage_events *events;
    peerage_bytes *secret, *answer; /* Keep a cluster's secret where you keep passwords. */
    DO(peerage_secret_generate(&secret, &error));
    DO(peerage_config_init(&config, sizeof config, &error));
    config.cluster = TEXT("quickstart"), config.node_id = TEXT("alice");
    config.secret = peerage_bytes_text(secret);
    DO(peerage_cluster_start(&config, &alice, &error));
    DO(peerage_cluster_handle(alice, TEXT("greet"), greet, "alice", NULL, &error));
    DO(peerage_cluster_events(alice, &events, &error));
    /* Usually another process on another machine; it needs one address to join through. */
    peerage_str seed = peerage_cluster_addr(alice);
    config.node_id = TEXT("bob"), config.seeds = (peerage_strs){&seed, 1};
    config.tags = (peerage_tags){&(peerage_tag){TEXT("role"), TEXT("guest")}, 1};
    DO(peerage_cluster_start(&config, &bob, &error));
    DO(peerage_cluster_join(bob, 5000, NULL, &error));
    DO(peerage_cluster_request(bob, TEXT("alice"), TEXT("greet"), "hi", 2, 1000, NULL, &answer,
        &error));
    printf("bob heard: %.*s\n", PEERAGE_PRINT(peerage_bytes_text(answer)));
    DO(peerage_cluster_leave(bob, NULL, NULL, &error));
    for (peerage_batch *batch;;) {
        DO(peerage_events_next_batch(events, 1, PEERAGE_FOREVER, NULL, &batch, &error));
        const peerage_event *event = peerage_batch_at(batch, 0);
        if (event->member == NULL) continue;
        const peerage_tag *tag = event->member->tags.items;
        printf("alice saw: %s %.*s {\"%.*s\": \"%.*s\"}\n", peerage_event_name(event->kind),
            PEERAGE_PRINT(event->member->id), PEERAGE_PRINT(tag->key), PEERAGE_PRINT(tag->value));
        if (event->kind == PEERAGE_EVENT_MEMBER_LEFT) break;
    }
    DO(peerage_cluster_leave(alice, NULL, NULL, &error));
}
/* [/quickstart] */
