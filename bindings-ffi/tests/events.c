/* Events: the samples of the echo mode, the descriptor, slow and stalled readers. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include "generated/tables.h"
#include "json.h"

#include <math.h>
#include <poll.h>
#include <stdatomic.h>

static bool is_text(const json *value, peerage_str text)
{
    return value != NULL && value->kind == JSON_TEXT && value->len == text.len
        && (text.len == 0 || memcmp(value->text, text.data, text.len) == 0);
}

static bool is_decimal(const json *value, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    return is_text(value, peerage_text(digits));
}

static bool is_same(const json *value, const table_field *field, const void *structure);

static bool is_record(const json *value, const void *record, const table_field *fields,
    size_t count)
{
    if (value == NULL || record == NULL || json_count(value) != count) return false;
    for (size_t at = 0; at < count; at++) {
        char name[40];
        bool in_us = fields[at].kind == KIND_MAYBE_SPAN || fields[at].kind == KIND_SPAN;
        snprintf(name, sizeof name, "%s%s", fields[at].name, in_us ? "_us" : "");
        if (!is_same(json_get(value, name), &fields[at], record)) return false;
    }
    return true;
}

static bool is_member(const json *value, const peerage_member *member)
{
    return is_record(value, member, MEMBER_FIELDS, sizeof MEMBER_FIELDS / sizeof *MEMBER_FIELDS);
}

static bool is_observation(const json *value, const peerage_observation *seen)
{
    return is_record(value, seen, OBSERVATION_FIELDS,
        sizeof OBSERVATION_FIELDS / sizeof *OBSERVATION_FIELDS);
}

static bool is_same(const json *value, const table_field *field, const void *structure)
{
    const void *place = (const char *)structure + field->offset;
    const peerage_tags *tags = place;
    const peerage_observation_list *seen = place;
    const peerage_member_list *members = place;
    const json *item;
    uint64_t number;
    size_t at = 0;
    if (value == NULL) return false;
    switch (field->kind) {
    case KIND_TEXT:
        return is_text(value, *(const peerage_str *)place);
    case KIND_OBSERVATIONS:
        for (item = value->first; item != NULL; item = item->next, at++)
            if (at >= seen->count || !is_observation(item, seen->items[at])) return false;
        return value->kind == JSON_LIST && at == seen->count;
    case KIND_MAYBE_NUMBER:
        return isnan(*(const double *)place) ? value->kind == JSON_NULL
            : value->kind == JSON_NUMBER && !(value->real < *(const double *)place)
                && !(value->real > *(const double *)place);
    case KIND_TAGS:
        for (at = 0; at < tags->count; at++) {
            char key[256] = {0};
            CHECK(tags->items[at].key.len < sizeof key);
            memcpy(key, tags->items[at].key.data, tags->items[at].key.len);
            if (!is_text(json_get(value, key), tags->items[at].value)) return false;
        }
        return value->kind == JSON_OBJECT && json_count(value) == tags->count;
    case KIND_BOOL:
        return value->kind == JSON_FLAG && value->flag == *(const bool *)place;
    case KIND_U64:
        return is_decimal(value, *(const uint64_t *)place);
    case KIND_COUNT:
    case KIND_SPAN:
        return value->kind == JSON_NUMBER && value->number == *(const uint64_t *)place;
    case KIND_MAYBE_SPAN:
        number = *(const uint64_t *)place;
        return number == UINT64_MAX ? value->kind == JSON_NULL
            : value->kind == JSON_NUMBER && value->number == number;
    case KIND_STATE:
        return is_text(value, peerage_text(peerage_state_name(*(const int32_t *)place)));
    case KIND_MEMBER:
        return is_member(value, *(const peerage_member *const *)place);
    case KIND_MEMBERS:
        for (item = value->first; item != NULL; item = item->next, at++)
            if (at >= members->count || !is_member(item, members->items[at])) return false;
        return value->kind == JSON_LIST && at == members->count;
    default:
        return false;
    }
}

/* What a kind does not have must be zero, NULL or empty. */
static bool is_empty(const table_field *field, const peerage_event *event)
{
    static const char zero[sizeof(peerage_str)];
    size_t size = field->kind == KIND_BOOL ? sizeof(bool)
        : field->kind == KIND_U64 || field->kind == KIND_COUNT ? sizeof(uint64_t)
        : field->kind == KIND_MEMBER ? sizeof(void *) : sizeof(peerage_str);
    return memcmp((const char *)event + field->offset, zero, size) == 0;
}

static void the_samples_are_as_written(void)
{
    char path[1024];
    const char *root = getenv("PEERAGE_ROOT");
    snprintf(path, sizeof path, "%s/tests/conformance/echo.json", root != NULL ? root : ".");
    const json *sample = json_file(path)->first;
    peerage_events *events;
    peerage_batch *batch;
    size_t fields = sizeof EVENT_FIELDS / sizeof *EVENT_FIELDS;
    uint64_t seq = 0;
    OK(peerage_echo_events(json_count(json_file(path)), &events, ERR));
    while (peerage_events_next_batch(events, 3, PATIENCE_MS, NULL, &batch, NULL) == PEERAGE_OK) {
        CHECK(peerage_batch_count(batch) > 0);
        for (size_t at = 0; at < peerage_batch_count(batch); at++, sample = sample->next) {
            const peerage_event *event = peerage_batch_at(batch, at);
            CHECK(sample != NULL && event->seq == ++seq);
            CHECK(is_text(json_get(sample, "kind"), peerage_text(peerage_event_name(event->kind))));
            size_t known = 1;
            for (size_t f = 0; f < fields; f++) {
                const table_field *field = &EVENT_FIELDS[f].field;
                if (EVENT_FIELDS[f].event == event->kind) {
                    fprintf(stderr, "%s.%s\n", peerage_event_name(event->kind), field->name);
                    CHECK(is_same(json_get(sample, field->name), field, event));
                    known++;
                } else if (json_get(sample, field->name) == NULL) {
                    CHECK(is_empty(field, event));
                }
            }
            CHECK(json_count(sample) == known);
        }
        peerage_batch_free(batch);
    }
    CHECK(sample == NULL);
    FAILS(CLOSED, peerage_events_next_batch(events, 3, 0, NULL, &batch, ERR));
    peerage_events_free(events);
}

static void a_million_events(void)
{
    const uint64_t count = 1000000;
    peerage_events *events;
    peerage_batch *batch;
    uint64_t seq = 0, begun = now_ms();
    OK(peerage_echo_events(count, &events, ERR));
    while (peerage_events_next_batch(events, 1024, PATIENCE_MS, NULL, &batch, NULL) == PEERAGE_OK) {
        CHECK(peerage_batch_count(batch) > 0);
        for (size_t at = 0; at < peerage_batch_count(batch); at++)
            CHECK(peerage_batch_at(batch, at)->seq == ++seq);
        peerage_batch_free(batch);
    }
    CHECK(seq == count);
    uint64_t took = now_ms() - begun;
    printf("%llu events/s\n", (unsigned long long)(count * 1000 / (took + 1)));
    peerage_events_free(events);
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd one = {fd, POLLIN, 0};
    int found = poll(&one, 1, timeout_ms);
    CHECK(found >= 0);
    return found == 1 && (one.revents & POLLIN) != 0;
}

static size_t take(peerage_events *events, size_t max, uint64_t timeout_ms)
{
    peerage_batch *batch;
    OK(peerage_events_next_batch(events, max, timeout_ms, NULL, &batch, ERR));
    size_t count = peerage_batch_count(batch);
    CHECK((batch == NULL) == (count == 0));
    peerage_batch_free(batch);
    return count;
}

static void retag(peerage_cluster *cluster, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    peerage_tag tag = {peerage_text("v"), peerage_text(text)};
    OK(peerage_cluster_set_tags(cluster, (peerage_tags){&tag, 1}, NULL, ERR));
}

/* Changes b's tags and waits until a has them: exactly one event at a. */
static void one_event(pair nodes, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    peerage_tag tag = {peerage_text("v"), peerage_text(text)};
    retag(nodes.b, value);
    size_t seen = 0;
    for (uint64_t until = now_ms() + PATIENCE_MS; seen == 0 && now_ms() < until; pause_ms(1)) {
        peerage_members *members;
        OK(peerage_cluster_members_with(nodes.a, (peerage_tags){&tag, 1}, &members, ERR));
        seen = peerage_members_count(members);
        peerage_members_free(members);
    }
    CHECK(seen == 1);
}

static void the_descriptor_is_level_triggered(void)
{
    pair nodes = start_pair();
    peerage_events *events;
    int fd, again;
    OK(peerage_cluster_events(nodes.a, &events, ERR));
    OK(peerage_events_fd(events, &fd, ERR));
    OK(peerage_events_fd(events, &again, ERR));
    CHECK(fd >= 0 && fd == again);
    CHECK(!readable(fd, 0));
    for (int v = 0; v < 3; v++) one_event(nodes, v);
    CHECK(readable(fd, PATIENCE_MS));
    /* It stays so without being read, and while something is left. */
    CHECK(readable(fd, 0));
    CHECK(take(events, 1, 0) == 1);
    CHECK(readable(fd, 0));
    CHECK(take(events, 1, 0) == 1);
    CHECK(readable(fd, 0));
    CHECK(take(events, 10, 0) == 1);
    CHECK(!readable(fd, 0));
    CHECK(take(events, 10, 0) == 0);
    CHECK(!readable(fd, 0));
    for (int v = 10; v < 30; v++) {
        one_event(nodes, v);
        CHECK(readable(fd, PATIENCE_MS));
        CHECK(take(events, 10, 0) == 1);
        CHECK(!readable(fd, 0));
    }
    /* The end is readable for ever. */
    stop_pair(nodes);
    CHECK(readable(fd, PATIENCE_MS));
    peerage_batch *batch;
    while (peerage_events_next_batch(events, 1, PATIENCE_MS, NULL, &batch, NULL) == PEERAGE_OK)
        peerage_batch_free(batch);
    CHECK(readable(fd, 0));
    FAILS(CLOSED, peerage_events_next_batch(events, 1, PEERAGE_FOREVER, NULL, &batch, ERR));
    CHECK(readable(fd, 0));
    peerage_events_free(events);
    struct pollfd gone = {fd, POLLIN, 0};
    CHECK(poll(&gone, 1, 0) == 1 && (gone.revents & POLLNVAL) != 0);
}

/* A descriptor that is asked for late says what is so by then. */
static void a_late_descriptor(void)
{
    pair nodes = start_pair();
    peerage_events *events;
    int fd;
    OK(peerage_cluster_events(nodes.a, &events, ERR));
    one_event(nodes, 1);
    OK(peerage_events_fd(events, &fd, ERR));
    CHECK(readable(fd, PATIENCE_MS));
    CHECK(take(events, 10, 0) == 1);
    CHECK(!readable(fd, 0));
    stop_pair(nodes);
    peerage_events_free(events);
}

typedef struct {
    peerage_events *events;
    int fd;
    unsigned seed;
    uint64_t taken;
} reader;

/* Takes random pieces whenever the descriptor says so; never waits otherwise. */
static void *read_by_descriptor(void *data)
{
    reader *self = data;
    peerage_status status = PEERAGE_OK;
    while (status == PEERAGE_OK) {
        CHECK(readable(self->fd, PATIENCE_MS));
        peerage_batch *batch;
        self->seed = self->seed * 1103515245u + 12345u;
        status = peerage_events_next_batch(self->events, 1 + (self->seed >> 16) % 200, 0, NULL,
            &batch, NULL);
        self->taken += peerage_batch_count(batch);
        peerage_batch_free(batch);
        if ((self->seed >> 16) % 64 == 0) pause_ms(1);
    }
    CHECK(status == PEERAGE_ERROR_CLOSED);
    return NULL;
}

static void no_wake_is_lost(void)
{
    const uint64_t count = 300000;
    for (unsigned readers = 1; readers <= 3; readers++) {
        reader all[3];
        pthread_t threads[3];
        peerage_events *events;
        int fd;
        uint64_t taken = 0;
        OK(peerage_echo_events(count, &events, ERR));
        OK(peerage_events_fd(events, &fd, ERR));
        for (unsigned at = 0; at < readers; at++) {
            all[at] = (reader){events, fd, at * 7 + readers, 0};
            CHECK(pthread_create(&threads[at], NULL, read_by_descriptor, &all[at]) == 0);
        }
        for (unsigned at = 0; at < readers; at++) {
            pthread_join(threads[at], NULL);
            taken += all[at].taken;
        }
        CHECK(taken == count);
        peerage_events_free(events);
    }
}

static void a_stalled_reader_is_bounded_and_becomes_right(void)
{
    peerage_config a = config_for("a");
    a.event_queue = 8;
    pair nodes = start_pair_with(a, config_for("b"));
    peerage_events *events;
    peerage_batch *batch;
    OK(peerage_cluster_events(nodes.a, &events, ERR));
    for (int v = 0; v < 40; v++) one_event(nodes, v);
    CHECK(stats_of(nodes.a).events_dropped >= 32);
    OK(peerage_events_next_batch(events, 1000, PATIENCE_MS, NULL, &batch, ERR));
    CHECK(peerage_batch_count(batch) <= 8);
    const peerage_event *event = peerage_batch_at(batch, 0);
    CHECK(event->kind == PEERAGE_EVENT_EVENTS_DROPPED && event->count >= 32);
    CHECK(event->members.count == 2 && event->member == NULL);
    CHECK(same(event->members.items[0]->id, "a"));
    const peerage_member *b = event->members.items[1];
    CHECK(same(b->id, "b") && b->tags.count == 1 && same(b->tags.items[0].value, "39"));
    uint64_t seq = event->seq;
    one_event(nodes, 100);
    peerage_batch *later;
    OK(peerage_events_next_batch(events, 1000, PATIENCE_MS, NULL, &later, ERR));
    event = peerage_batch_at(later, 0);
    CHECK(event->kind == PEERAGE_EVENT_MEMBER_UPDATED && event->seq == seq + 1);
    CHECK(same(event->member->tags.items[0].value, "100"));
    stop_pair(nodes);
    peerage_events_free(events);
    /* A batch outlives everything that it came from. */
    CHECK(same(b->tags.items[0].value, "39"));
    peerage_batch_free(batch);
    CHECK(same(event->member->id, "b"));
    peerage_batch_free(later);
}

typedef struct {
    peerage_events *events;
    peerage_cancel *cancel;
    _Atomic int status;
} waiter;

static void *wait_for_ever(void *data)
{
    waiter *self = data;
    peerage_batch *batch;
    atomic_store(&self->status, -1);
    atomic_store(&self->status, peerage_events_next_batch(self->events, 1, PEERAGE_FOREVER,
        self->cancel, &batch, NULL));
    peerage_batch_free(batch);
    return NULL;
}

static void waiting_ends(void)
{
    peerage_config config = config_for("a");
    peerage_cluster *cluster = start(&config);
    waiter self = {NULL, NULL, 0};
    pthread_t thread;
    OK(peerage_cluster_events(cluster, &self.events, ERR));
    uint64_t begun = now_ms();
    CHECK(take(self.events, 1, 0) == 0);
    CHECK(take(self.events, 1, 60) == 0);
    CHECK(now_ms() - begun >= 60);
    /* By a cancel. */
    OK(peerage_cancel_new(&self.cancel, ERR));
    CHECK(pthread_create(&thread, NULL, wait_for_ever, &self) == 0);
    WAIT(atomic_load(&self.status) == -1);
    pause_ms(20);
    OK(peerage_cancel_trigger(self.cancel, ERR));
    pthread_join(thread, NULL);
    CHECK(atomic_load(&self.status) == PEERAGE_ERROR_CANCELLED);
    peerage_cancel_free(self.cancel);
    self.cancel = NULL;
    /* By the node's end. */
    CHECK(pthread_create(&thread, NULL, wait_for_ever, &self) == 0);
    WAIT(atomic_load(&self.status) == -1);
    OK(peerage_cluster_leave(cluster, NULL, NULL, ERR));
    pthread_join(thread, NULL);
    CHECK(atomic_load(&self.status) == PEERAGE_ERROR_CLOSED);
    peerage_events_free(self.events);
    peerage_cluster_free(cluster);
    /* By the end of the subscription. */
    cluster = start(&config);
    OK(peerage_cluster_events(cluster, &self.events, ERR));
    CHECK(pthread_create(&thread, NULL, wait_for_ever, &self) == 0);
    WAIT(atomic_load(&self.status) == -1);
    pause_ms(50);
    peerage_events_free(self.events);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&self.status) == PEERAGE_ERROR_CLOSED);
    peerage_cluster_free(cluster);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        {"the_samples_are_as_written", the_samples_are_as_written, true},
        {"a_million_events", a_million_events, false},
        {"the_descriptor_is_level_triggered", the_descriptor_is_level_triggered, false},
        {"a_late_descriptor", a_late_descriptor, true},
        {"no_wake_is_lost", no_wake_is_lost, false},
        {"a_stalled_reader_is_bounded_and_becomes_right",
            a_stalled_reader_is_bounded_and_becomes_right, false},
        {"waiting_ends", waiting_ends, true},
    };
    return RUN(tests);
}
