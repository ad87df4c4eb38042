/* The whole surface against a second node over real sockets. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <stdatomic.h>

static void members_and_tags(void)
{
    pair nodes = start_pair();
    CHECK(same_text(peerage_cluster_addr(nodes.a), peerage_cluster_bound_addr(nodes.a)));

    peerage_members *local, *all, *one;
    OK(peerage_cluster_local(nodes.a, &local, ERR));
    CHECK(peerage_members_count(local) == 1);
    const peerage_member *a = peerage_members_at(local, 0);
    CHECK(same(a->id, "a") && a->state == PEERAGE_STATE_ALIVE && a->tags.count == 0);
    CHECK(same_text(a->addr, peerage_cluster_addr(nodes.a)));
    CHECK(a->rtt == UINT64_MAX && a->instance != 0 && a->incarnation > 0);

    OK(peerage_cluster_members(nodes.b, &all, ERR));
    CHECK(peerage_members_count(all) == 2);
    CHECK(same(peerage_members_at(all, 0)->id, "a") && same(peerage_members_at(all, 1)->id, "b"));
    /* 64 bits go over the network and both boundaries whole. */
    CHECK(peerage_members_at(all, 0)->instance == a->instance);
    CHECK(peerage_members_at(all, 2) == NULL);
    CHECK(strcmp(peerage_state_name(peerage_members_at(all, 0)->state), "alive") == 0);

    OK(peerage_cluster_get(nodes.b, peerage_text("nobody"), &one, ERR));
    CHECK(peerage_members_count(one) == 0);
    peerage_members_free(one);

    peerage_tag tags[] = {
        {peerage_text("role"), peerage_text("worker")},
        {peerage_text("größe 雪"), peerage_text("🦀")},
        {peerage_text("empty"), peerage_text("")},
    };
    OK(peerage_cluster_set_tags(nodes.a, (peerage_tags){tags, 3}, NULL, ERR));
    bool found = false;
    for (uint64_t until = now_ms() + PATIENCE_MS; !found && now_ms() < until; pause_ms(2)) {
        OK(peerage_cluster_members_with(nodes.b, (peerage_tags){tags, 3}, &one, ERR));
        found = peerage_members_count(one) == 1;
        if (found) {
            const peerage_member *seen = peerage_members_at(one, 0);
            CHECK(same(seen->id, "a") && seen->tags.count == 3);
            /* In the order of the keys. */
            CHECK(same(seen->tags.items[0].key, "empty") && same(seen->tags.items[0].value, ""));
            CHECK(same(seen->tags.items[1].key, "größe 雪"));
            CHECK(same(seen->tags.items[1].value, "🦀"));
        }
        peerage_members_free(one);
    }
    CHECK(found);
    tags[0].value = peerage_text("other");
    OK(peerage_cluster_members_with(nodes.b, (peerage_tags){tags, 1}, &one, ERR));
    CHECK(peerage_members_count(one) == 0);
    peerage_members_free(one);
    OK(peerage_cluster_members_with(nodes.b, (peerage_tags){NULL, 0}, &one, ERR));
    CHECK(peerage_members_count(one) == 2);
    peerage_members_free(one);

    peerage_members_free(local);
    peerage_members_free(all);
    stop_pair(nodes);
}

static void exchange(peerage_cluster *from, const char *target, const char *topic,
    const void *payload, size_t len)
{
    peerage_bytes *answer;
    OK(peerage_cluster_request(from, peerage_text(target), peerage_text(topic), payload, len,
        PATIENCE_MS, NULL, &answer, ERR));
    peerage_slice view = peerage_bytes_view(answer);
    CHECK(view.len == len && (len == 0 || memcmp(view.data, payload, len) == 0));
    peerage_bytes_free(answer);
}

static void requests_carry_any_bytes(void)
{
    pair nodes = start_pair();
    const char *unicode = "größe 雪 🦀";
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, NULL, NULL, ERR));
    OK(peerage_cluster_handle(nodes.a, peerage_text(unicode), echo_handler, NULL, NULL, ERR));
    exchange(nodes.b, "a", "echo", NULL, 0);
    exchange(nodes.b, "a", "echo", "", 0);
    exchange(nodes.b, "a", "echo", "\0\xff\xfe zero\0", 9);
    exchange(nodes.b, "a", unicode, unicode, strlen(unicode));
    exchange(nodes.a, "a", "echo", "to ourselves", 12);
    stop_pair(nodes);
}

static void a_payload_of_16_mib(void)
{
    pair nodes = start_pair();
    size_t len = (size_t)16 << 20;
    unsigned char *payload = malloc(len);
    CHECK(payload != NULL);
    for (size_t at = 0; at < len; at++) payload[at] = (unsigned char)(at * 31 >> 3);
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, NULL, NULL, ERR));
    exchange(nodes.b, "a", "echo", payload, len);
    free(payload);
    stop_pair(nodes);
}

static _Atomic int messages;
static void count_handler(void *data, const peerage_request *request, peerage_responder *responder)
{
    if (same(request->from, "b") && same(request->topic, "inbox") && request->payload.len == 3)
        atomic_fetch_add((_Atomic int *)data, 1);
    peerage_responder_free(responder);
}

static void messages_have_no_answer(void)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle(nodes.a, peerage_text("inbox"), count_handler, &messages, NULL, ERR));
    for (int n = 0; n < 10; n++)
        OK(peerage_cluster_send(nodes.b, peerage_text("a"), peerage_text("inbox"), "hey", 3,
            PEERAGE_DEFAULT, NULL, ERR));
    WAIT(atomic_load(&messages) == 10);
    FAILS(UNKNOWN_MEMBER, peerage_cluster_send(nodes.b, peerage_text("nobody"),
        peerage_text("inbox"), NULL, 0, PEERAGE_DEFAULT, NULL, ERR));
    stop_pair(nodes);
}

static void failing_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    (void)data;
    (void)request;
    peerage_respond_error(responder, peerage_text("told to fail 🦀"), NULL);
    peerage_responder_free(responder);
}

static void forgetting_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    (void)data;
    (void)request;
    peerage_responder_free(responder);
}

static _Atomic int second_answer;
static void twice_handler(void *data, const peerage_request *request, peerage_responder *responder)
{
    (void)data;
    (void)request;
    CHECK(peerage_responder_is_awaited(responder));
    peerage_respond(responder, "one", 3, NULL);
    CHECK(!peerage_responder_is_awaited(responder));
    peerage_error *error = NULL;
    atomic_store(&second_answer, peerage_respond(responder, "two", 3, &error));
    CHECK(names(error, "responder"));
    peerage_error_free(error);
    peerage_responder_free(responder);
}

static peerage_status ask(peerage_cluster *from, const char *topic, uint64_t deadline_ms)
{
    peerage_bytes *answer;
    peerage_status status = peerage_cluster_request(from, peerage_text("a"), peerage_text(topic),
        "x", 1, deadline_ms, NULL, &answer, ERR);
    CHECK(status == PEERAGE_OK || answer == NULL);
    peerage_bytes_free(answer);
    return status;
}

static bool quiet(pair nodes)
{
    peerage_stats a = stats_of(nodes.a), b = stats_of(nodes.b);
    return a.requests_in == 0 && a.requests_out == 0 && b.requests_in == 0 && b.requests_out == 0;
}

static void handlers_that_fail(void)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle(nodes.a, peerage_text("fail"), failing_handler, NULL, NULL, ERR));
    OK(peerage_cluster_handle(nodes.a, peerage_text("forget"), forgetting_handler, NULL, NULL,
        ERR));
    OK(peerage_cluster_handle(nodes.a, peerage_text("twice"), twice_handler, NULL, NULL, ERR));
    FAILS(HANDLER, ask(nodes.b, "fail", PATIENCE_MS));
    CHECK(same(peerage_error_detail(failure, peerage_text("message")), "told to fail 🦀"));
    CHECK(same(peerage_error_detail(failure, peerage_text("target")), "a"));
    CHECK(peerage_error_detail(failure, peerage_text("nonsense")).data == NULL);
    FAILS(HANDLER, ask(nodes.a, "fail", PATIENCE_MS));
    FAILS(HANDLER, ask(nodes.b, "forget", PATIENCE_MS));
    CHECK(contains(peerage_error_message(failure), "gave no answer"));
    OK(ask(nodes.b, "twice", PATIENCE_MS));
    WAIT(atomic_load(&second_answer) == PEERAGE_ERROR_ARGUMENT);
    FAILS(UNKNOWN_TOPIC, ask(nodes.b, "unheard of", PATIENCE_MS));
    FAILS(ARGUMENT, peerage_cluster_handle(nodes.a, peerage_text("fail"), failing_handler, NULL,
        NULL, ERR));
    CHECK(names(failure, "topic"));
    WAIT(quiet(nodes));
    stop_pair(nodes);
}

/* Keeps the responder for somebody else. */
static void *_Atomic kept;
static void keeping_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    (void)data;
    (void)request;
    atomic_store(&kept, responder);
}

static void a_handler_that_never_answers(void)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle(nodes.a, peerage_text("never"), keeping_handler, NULL, NULL, ERR));
    FAILS(TIMEOUT, ask(nodes.b, "never", 300));
    CHECK(same(peerage_error_detail(failure, peerage_text("after")), "300"));
    WAIT(atomic_load(&kept) != NULL);
    WAIT(quiet(nodes));
    CHECK(!peerage_responder_is_awaited(atomic_load(&kept)));
    /* Too late, and no error. */
    OK(peerage_respond(atomic_load(&kept), "late", 4, ERR));
    peerage_responder_free(atomic_load(&kept));
    stop_pair(nodes);
}

static void *trigger(void *cancel)
{
    while (atomic_load(&kept) == NULL) pause_ms(1);
    peerage_cancel_trigger(cancel, NULL);
    return NULL;
}

static void a_cancelled_request_releases_everything(void)
{
    pair nodes = start_pair();
    peerage_cancel *cancel;
    OK(peerage_cancel_new(&cancel, ERR));
    OK(peerage_cluster_handle(nodes.a, peerage_text("never"), keeping_handler, NULL, NULL, ERR));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, trigger, cancel) == 0);
    peerage_bytes *answer;
    FAILS(CANCELLED, peerage_cluster_request(nodes.b, peerage_text("a"), peerage_text("never"),
        "x", 1, PATIENCE_MS * 10, cancel, &answer, ERR));
    CHECK(answer == NULL);
    pthread_join(thread, NULL);
    WAIT(quiet(nodes));
    WAIT(!peerage_responder_is_awaited(atomic_load(&kept)));
    peerage_responder_free(atomic_load(&kept));
    /* It stays triggered. */
    FAILS(CANCELLED, peerage_cluster_join(nodes.b, PEERAGE_DEFAULT, cancel, ERR));
    FAILS(CANCELLED, peerage_cluster_send(nodes.b, peerage_text("a"), peerage_text("x"), NULL, 0,
        PEERAGE_DEFAULT, cancel, ERR));
    FAILS(CANCELLED, peerage_cluster_set_tags(nodes.b, (peerage_tags){NULL, 0}, cancel, ERR));
    peerage_cancel_free(cancel);
    stop_pair(nodes);
}

static void *answer_later(void *data)
{
    (void)data;
    while (atomic_load(&kept) == NULL) pause_ms(1);
    pause_ms(50);
    peerage_respond(atomic_load(&kept), "later", 5, NULL);
    peerage_responder_free(atomic_load(&kept));
    return NULL;
}

static void an_answer_from_another_thread(void)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle(nodes.a, peerage_text("later"), keeping_handler, NULL, NULL, ERR));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answer_later, NULL) == 0);
    OK(ask(nodes.b, "later", PATIENCE_MS));
    pthread_join(thread, NULL);
    stop_pair(nodes);
}

static _Atomic int destroyed;
static void destroy(void *data)
{
    free(data);
    atomic_fetch_add(&destroyed, 1);
}

static void user_data_is_destroyed_once(void)
{
    pair nodes = start_pair();
    void *data = malloc(8);
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, data, destroy, ERR));
    /* What was refused is not taken. */
    void *refused = malloc(8);
    FAILS(ARGUMENT, peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, refused,
        destroy, ERR));
    free(refused);
    OK(ask(nodes.b, "echo", PATIENCE_MS));
    CHECK(atomic_load(&destroyed) == 0);
    bool was = false;
    OK(peerage_cluster_unhandle(nodes.a, peerage_text("echo"), &was, ERR));
    CHECK(was);
    WAIT(atomic_load(&destroyed) == 1);
    OK(peerage_cluster_unhandle(nodes.a, peerage_text("echo"), &was, ERR));
    CHECK(!was);
    FAILS(UNKNOWN_TOPIC, ask(nodes.b, "echo", PATIENCE_MS));
    /* The end of the node is one as well. */
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, malloc(8), destroy,
        ERR));
    stop_pair(nodes);
    WAIT(atomic_load(&destroyed) == 2);
}

static void *ask_many(void *data)
{
    for (int n = 0; n < 50; n++) {
        peerage_bytes *answer = NULL;
        peerage_status status = peerage_cluster_request(data, peerage_text("a"),
            peerage_text("echo"), &n, sizeof n, PATIENCE_MS, NULL, &answer, NULL);
        CHECK(status == PEERAGE_OK);
        CHECK(memcmp(peerage_bytes_view(answer).data, &n, sizeof n) == 0);
        peerage_bytes_free(answer);
    }
    return NULL;
}

static void requests_from_many_threads(void)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, NULL, NULL, ERR));
    pthread_t threads[16];
    for (size_t at = 0; at < 16; at++)
        CHECK(pthread_create(&threads[at], NULL, ask_many, nodes.b) == 0);
    for (size_t at = 0; at < 16; at++) pthread_join(threads[at], NULL);
    CHECK(stats_of(nodes.a).requests_handled == 800);
    WAIT(quiet(nodes));
    stop_pair(nodes);
}

/* A callback may ask another node, or its own. */
static void relaying_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    peerage_bytes *answer = NULL;
    CHECK(peerage_cluster_request(data, peerage_text("a"), peerage_text("echo"),
        request->payload.data, request->payload.len, PATIENCE_MS, NULL, &answer, NULL)
        == PEERAGE_OK);
    peerage_slice view = peerage_bytes_view(answer);
    peerage_respond(responder, view.data, view.len, NULL);
    peerage_bytes_free(answer);
    peerage_responder_free(responder);
}

static void a_callback_may_wait(void)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, NULL, NULL, ERR));
    OK(peerage_cluster_handle(nodes.a, peerage_text("ours"), relaying_handler, nodes.a, NULL, ERR));
    OK(peerage_cluster_handle(nodes.b, peerage_text("theirs"), relaying_handler, nodes.b, NULL,
        ERR));
    exchange(nodes.b, "a", "ours", "x", 1);
    exchange(nodes.a, "b", "theirs", "x", 1);
    stop_pair(nodes);
}

static _Atomic int blocked;
static void blocking_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    atomic_fetch_add(&blocked, 1);
    pause_ms(10000);
    atomic_fetch_sub(&blocked, 1);
    echo_handler(data, request, responder);
}

static void *ask_blocking(void *cluster)
{
    peerage_bytes *answer = NULL;
    CHECK(peerage_cluster_request(cluster, peerage_text("a"), peerage_text("block"), "x", 1,
        PATIENCE_MS, NULL, &answer, NULL) == PEERAGE_OK);
    peerage_bytes_free(answer);
    return NULL;
}

/* Shorter times than any user would choose; still nobody suspects anybody. */
static void a_callback_blocked_for_10_s_costs_no_heartbeat(void)
{
    peerage_config a = config_for("a"), b = config_for("b");
    a.probe_interval = b.probe_interval = 1000;
    a.suspicion_min = b.suspicion_min = 1000;
    pair nodes = start_pair_with(a, b);
    OK(peerage_cluster_handle(nodes.a, peerage_text("block"), blocking_handler, NULL, NULL, ERR));
    OK(peerage_cluster_handle(nodes.a, peerage_text("echo"), echo_handler, NULL, NULL, ERR));
    peerage_events *seen;
    OK(peerage_cluster_events(nodes.b, &seen, ERR));
    uint64_t heard = stats_of(nodes.b).datagrams_received;
    pthread_t threads[32];
    for (size_t at = 0; at < 32; at++)
        CHECK(pthread_create(&threads[at], NULL, ask_blocking, nodes.b) == 0);
    WAIT(atomic_load(&blocked) == 32);
    OK(ask(nodes.b, "echo", PATIENCE_MS));
    CHECK(atomic_load(&blocked) == 32);
    for (size_t at = 0; at < 32; at++) pthread_join(threads[at], NULL);
    /* One heartbeat a second. */
    CHECK(stats_of(nodes.b).datagrams_received >= heard + 8);
    peerage_batch *batch;
    OK(peerage_events_next_batch(seen, 100, 0, NULL, &batch, ERR));
    for (size_t at = 0; at < peerage_batch_count(batch); at++) {
        int32_t kind = peerage_batch_at(batch, at)->kind;
        CHECK(kind != PEERAGE_EVENT_MEMBER_SUSPECTED && kind != PEERAGE_EVENT_MEMBER_FAILED);
    }
    peerage_batch_free(batch);
    peerage_events_free(seen);
    stop_pair(nodes);
}

static void leaving_is_reported(void)
{
    pair nodes = start_pair();
    peerage_events *events;
    OK(peerage_cluster_events(nodes.a, &events, ERR));
    const peerage_leave_report *report, *again;
    OK(peerage_cluster_closed(nodes.b, ERR));
    OK(peerage_cluster_leave(nodes.b, NULL, &report, ERR));
    CHECK(report->phases.count == 4 && report->requests_cut_off == 0);
    CHECK(same(report->phases.items[0]->name, "announce"));
    for (size_t at = 0; at < report->phases.count; at++) CHECK(report->phases.items[at]->complete);
    OK(peerage_cluster_leave(nodes.b, NULL, &again, ERR));
    CHECK(again->phases.items[0]->took == report->phases.items[0]->took);
    peerage_leave_report_free(again);
    peerage_leave_report_free(report);
    FAILS(CLOSED, peerage_cluster_closed(nodes.b, ERR));
    CHECK(failure != NULL);

    peerage_batch *batch;
    OK(peerage_events_next_batch(events, 10, PATIENCE_MS, NULL, &batch, ERR));
    const peerage_event *event = peerage_batch_at(batch, 0);
    CHECK(event->kind == PEERAGE_EVENT_MEMBER_LEFT && same(event->member->id, "b"));
    CHECK(event->member->state == PEERAGE_STATE_LEFT && event->seq > 0);
    CHECK(strcmp(peerage_event_name(event->kind), "MemberLeft") == 0);
    peerage_batch_free(batch);
    peerage_events_free(events);

    OK(peerage_cluster_shutdown_now(nodes.a, NULL, &report, ERR));
    CHECK(!same(report->phases.items[0]->name, "announce"));
    peerage_leave_report_free(report);
    peerage_cluster_free(nodes.a);
    peerage_cluster_free(nodes.b);
}

static void joins_that_fail(void)
{
    peerage_config config = config_for("a");
    peerage_cluster *a = start(&config);
    peerage_str seed = peerage_cluster_addr(a);
    config = config_for("b");
    config.seeds = (peerage_strs){&seed, 1};
    config.secret = peerage_text("another secret than theirs");
    peerage_cluster *b = start(&config);
    FAILS(UNAUTHENTICATED, peerage_cluster_join(b, PATIENCE_MS, NULL, ERR));
    peerage_cluster_free(b);
    config = config_for("c");
    peerage_str nobody = peerage_text("127.0.0.1:9");
    config.seeds = (peerage_strs){&nobody, 1};
    peerage_cluster *c = start(&config);
    FAILS(JOIN_FAILED, peerage_cluster_join(c, 200, NULL, ERR));
    CHECK(contains(peerage_error_detail(failure, peerage_text("seeds")), "127.0.0.1:9"));
    peerage_cluster_free(c);
    peerage_cluster_free(a);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        {"members_and_tags", members_and_tags, true},
        {"requests_carry_any_bytes", requests_carry_any_bytes, false},
        {"a_payload_of_16_mib", a_payload_of_16_mib, false},
        {"messages_have_no_answer", messages_have_no_answer, false},
        {"handlers_that_fail", handlers_that_fail, true},
        {"a_handler_that_never_answers", a_handler_that_never_answers, false},
        {"a_cancelled_request_releases_everything", a_cancelled_request_releases_everything, true},
        {"an_answer_from_another_thread", an_answer_from_another_thread, false},
        {"user_data_is_destroyed_once", user_data_is_destroyed_once, true},
        {"requests_from_many_threads", requests_from_many_threads, false},
        {"a_callback_may_wait", a_callback_may_wait, false},
        {"a_callback_blocked_for_10_s_costs_no_heartbeat",
            a_callback_blocked_for_10_s_costs_no_heartbeat, false},
        {"leaving_is_reported", leaving_is_reported, false},
        {"joins_that_fail", joins_that_fail, false},
    };
    return RUN(tests);
}
