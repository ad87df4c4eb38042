/* Streams: both ways, every error, several threads at one stream, a mebibyte and more. */
#define _POSIX_C_SOURCE 200809L
#include "stream_handlers.h"

#define TEXT peerage_text
#define MIB (1u << 20)

static pair start_handled(const char *topic, peerage_stream_handler handler)
{
    pair nodes = start_pair();
    OK(peerage_cluster_handle_streams(nodes.a, TEXT(topic), handler, NULL, NULL, ERR));
    return nodes;
}

static peerage_stream *opened(const peerage_cluster *from, const char *topic)
{
    peerage_stream *stream;
    OK(peerage_cluster_open_stream(from, TEXT("a"), TEXT(topic), PATIENCE_MS, NULL, &stream, ERR));
    return stream;
}

static void nothing_is_open(pair nodes)
{
    WAIT(stats_of(nodes.a).streams_in == 0 && stats_of(nodes.a).streams_out == 0
        && stats_of(nodes.b).streams_out == 0);
}

static void reads(peerage_stream *stream, const char *expected)
{
    peerage_bytes *chunk;
    OK(peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, ERR));
    CHECK(same(peerage_bytes_text(chunk), expected));
    peerage_bytes_free(chunk);
}

static void ends(peerage_stream *stream)
{
    peerage_bytes *chunk;
    OK(peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, ERR));
    CHECK(chunk == NULL);
}

static void echo_both_ways_and_half_close(void)
{
    pair nodes = start_handled("echo", stream_echo);
    for (int to_itself = 0; to_itself < 2; to_itself++) {
        peerage_stream *stream = opened(to_itself ? nodes.a : nodes.b, "echo");
        CHECK(same(peerage_stream_peer(stream), "a") && same(peerage_stream_topic(stream), "echo"));
        OK(peerage_stream_write(stream, "one", 3, PATIENCE_MS, NULL, ERR));
        reads(stream, "one");
        OK(peerage_stream_write(stream, NULL, 0, PATIENCE_MS, NULL, ERR));
        OK(peerage_stream_write(stream, "two", 3, PATIENCE_MS, NULL, ERR));
        reads(stream, "two");
        CHECK(peerage_stream_sent(stream) == 6);
        OK(peerage_stream_finish(stream, PATIENCE_MS, NULL, ERR));
        FAILS(ARGUMENT, peerage_stream_write(stream, "x", 1, PATIENCE_MS, NULL, ERR));
        CHECK(names(failure, "stream"));
        ends(stream);
        ends(stream);
        peerage_stream_free(stream);
    }
    nothing_is_open(nodes);
    stop_pair(nodes);
}

/* Writes eight MiB, in pieces of any size. */
static void *write_much(void *data)
{
    static unsigned char bytes[3 * MIB];
    size_t sizes[] = {1, 70000, 3 * MIB, 5};
    for (size_t at = 0, sent = 0; sent < 8 * MIB; at++) {
        size_t len = sizes[at % 4] < 8 * MIB - sent ? sizes[at % 4] : 8 * MIB - sent;
        for (size_t n = 0; n < len; n++) bytes[n] = (unsigned char)((sent + n) / 7);
        CHECK(peerage_stream_write(data, bytes, len, PATIENCE_MS, NULL, NULL) == PEERAGE_OK);
        sent += len;
    }
    CHECK(peerage_stream_finish(data, PATIENCE_MS, NULL, NULL) == PEERAGE_OK);
    return NULL;
}

static void two_threads_use_the_two_directions(void)
{
    pair nodes = start_handled("echo", stream_echo);
    peerage_stream *stream = opened(nodes.b, "echo");
    pthread_t writer;
    CHECK(pthread_create(&writer, NULL, write_much, stream) == 0);
    size_t read = 0;
    for (peerage_bytes *chunk;; peerage_bytes_free(chunk)) {
        OK(peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, ERR));
        if (chunk == NULL) break;
        peerage_slice bytes = peerage_bytes_view(chunk);
        CHECK(bytes.len > 0);
        for (size_t at = 0; at < bytes.len; at++)
            CHECK(bytes.data[at] == (unsigned char)((read + at) / 7));
        read += bytes.len;
    }
    CHECK(read == 8 * MIB);
    pthread_join(writer, NULL);
    peerage_stream_free(stream);
    nothing_is_open(nodes);
    stop_pair(nodes);
}

/* What the process may grow by, in KiB. The address sanitizer keeps 256 MiB of what was freed. */
#ifdef __SANITIZE_ADDRESS__
#define GROWTH_MAX_KIB (320 << 10)
#else
#define GROWTH_MAX_KIB (32 << 10)
#endif

/* The memory of this process, in KiB. */
static long rss_kib(void)
{
    long kib = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
    fclose(status);
    CHECK(kib > 0);
    return kib;
}

/* Reads to the end, and answers with how many bytes came. */
static void stream_count(void *data, peerage_stream *stream)
{
    (void)data;
    uint64_t read = 0;
    for (peerage_bytes *chunk;; peerage_bytes_free(chunk)) {
        CHECK(peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, NULL) == PEERAGE_OK);
        if (chunk == NULL) break;
        peerage_slice bytes = peerage_bytes_view(chunk);
        CHECK(bytes.data[0] == (unsigned char)read);
        read += bytes.len;
    }
    char answer[32];
    int len = snprintf(answer, sizeof answer, "%llu", (unsigned long long)read);
    CHECK(peerage_stream_write(stream, answer, (size_t)len, PATIENCE_MS, NULL, NULL) == PEERAGE_OK);
    CHECK(peerage_stream_finish(stream, PATIENCE_MS, NULL, NULL) == PEERAGE_OK);
    peerage_stream_free(stream);
}

static void a_gibibyte_through_one_stream_in_flat_memory(void)
{
    static unsigned char piece[MIB];
    const uint64_t whole = 1024ull * MIB;
    for (size_t at = 0; at < sizeof piece; at++) piece[at] = (unsigned char)at;
    pair nodes = start_handled("count", stream_count);
    peerage_stream *stream = opened(nodes.b, "count");
    long before = 0, most = 0;
    while (peerage_stream_sent(stream) < whole) {
        OK(peerage_stream_write(stream, piece, sizeof piece, PATIENCE_MS, NULL, ERR));
        long now = rss_kib();
        /* The buffers of the stack and the runtime are warm after the first pieces. */
        if (peerage_stream_sent(stream) <= 32ull * MIB) before = now;
        if (now > most) most = now;
    }
    OK(peerage_stream_finish(stream, PATIENCE_MS, NULL, ERR));
    reads(stream, "1073741824");
    ends(stream);
    fprintf(stderr, "grown by %ld KiB\n", most - before);
    CHECK(most - before <= GROWTH_MAX_KIB);
    peerage_stream_free(stream);
    nothing_is_open(nodes);
    stop_pair(nodes);
}

static void answer_hello(void *data, const peerage_request *request, peerage_responder *responder)
{
    (void)data;
    (void)request;
    peerage_respond(responder, "hello", 5, NULL);
    peerage_responder_free(responder);
}

/* More than there are threads for requests; each handler waits for what its peer never sends. */
#define STALLED 300

static void streams_that_stall_keep_nobody_waiting(void)
{
    static peerage_stream *stalled[STALLED];
    pair nodes = start_handled("echo", stream_echo);
    OK(peerage_cluster_handle(nodes.a, TEXT("hello"), answer_hello, NULL, NULL, ERR));
    for (size_t n = 0; n < STALLED; n++) stalled[n] = opened(nodes.b, "echo");
    WAIT(stats_of(nodes.a).streams_in == STALLED);
    peerage_bytes *answer;
    OK(peerage_cluster_request(nodes.b, TEXT("a"), TEXT("hello"), NULL, 0, PATIENCE_MS, NULL,
        &answer, ERR));
    CHECK(same(peerage_bytes_text(answer), "hello"));
    peerage_bytes_free(answer);
    peerage_stream *stream = opened(nodes.b, "echo");
    OK(peerage_stream_write(stream, "abc", 3, PATIENCE_MS, NULL, ERR));
    OK(peerage_stream_finish(stream, PATIENCE_MS, NULL, ERR));
    reads(stream, "abc");
    ends(stream);
    peerage_stream_free(stream);
    for (size_t n = 0; n < STALLED; n++) peerage_stream_free(stalled[n]);
    nothing_is_open(nodes);
    stop_pair(nodes);
}

static void codes_and_messages_reach_the_other_end(void)
{
    pair nodes = start_handled("give_up", stream_give_up);
    OK(peerage_cluster_handle_streams(nodes.a, TEXT("fail"), stream_fail, NULL, NULL, ERR));
    OK(peerage_cluster_handle_streams(nodes.a, TEXT("unfinished"), stream_leave_unfinished, NULL,
        NULL, ERR));
    peerage_bytes *chunk;
    peerage_stream *stream = opened(nodes.b, "give_up");
    FAILS(STREAM_RESET, peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, ERR));
    CHECK(same(peerage_error_detail(failure, TEXT("code")), "7"));
    CHECK(same(peerage_error_detail(failure, TEXT("target")), "a"));
    while (peerage_stream_write(stream, "x", 1, PATIENCE_MS, NULL, ERR) == PEERAGE_OK) pause_ms(1);
    CHECK(peerage_error_status(failure) == PEERAGE_ERROR_STREAM_RESET);
    CHECK(same(peerage_error_detail(failure, TEXT("code")), "8"));
    peerage_stream_free(stream);

    stream = opened(nodes.b, "unfinished");
    FAILS(STREAM_RESET, peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, ERR));
    CHECK(same(peerage_error_detail(failure, TEXT("code")), "4294967295"));
    peerage_stream_free(stream);

    stream = opened(nodes.b, "fail");
    FAILS(HANDLER, peerage_stream_read(stream, PATIENCE_MS, NULL, &chunk, ERR));
    CHECK(same(peerage_error_detail(failure, TEXT("message")), "told to fail"));
    FAILS(ARGUMENT, peerage_stream_fail(stream, TEXT("we opened it"), ERR));
    FAILS(ARGUMENT, peerage_stream_reset(stream, 1u << 31, ERR));
    CHECK(names(failure, "code"));
    peerage_stream_free(stream);
    nothing_is_open(nodes);
    stop_pair(nodes);
}

static atomic_int destroyed;

static void destroy(void *data)
{
    atomic_fetch_add((atomic_int *)data, 1);
}

static _Atomic(peerage_stream *) kept;

static void keep(void *data, peerage_stream *stream)
{
    (void)data;
    atomic_store(&kept, stream);
}

static peerage_stream *written;

static void *trigger(void *data)
{
    while (atomic_load(&kept) == NULL) pause_ms(1);
    uint64_t before = peerage_stream_sent(written);
    /* What is read makes room, so what is sent then was written by the call that is to end. */
    while (peerage_stream_sent(written) == before) {
        peerage_bytes *chunk;
        CHECK(peerage_stream_read(atomic_load(&kept), PATIENCE_MS, NULL, &chunk, NULL) == PEERAGE_OK);
        peerage_bytes_free(chunk);
        pause_ms(5);
    }
    CHECK(peerage_cancel_trigger(data, NULL) == PEERAGE_OK);
    return NULL;
}

static void writing_ends_at_its_deadline_and_when_it_is_cancelled(void)
{
    static const char bytes[3 * MIB];
    pair nodes = start_pair();
    OK(peerage_cluster_handle_streams(nodes.a, TEXT("keep"), keep, &destroyed, destroy, ERR));
    FAILS(ARGUMENT, peerage_cluster_handle_streams(nodes.a, TEXT("keep"), keep, &destroyed, destroy,
        ERR));
    peerage_stream *stream = opened(nodes.b, "keep");
    FAILS(TIMEOUT, peerage_stream_write(stream, bytes, MIB, 1000, NULL, ERR));
    uint64_t sent = peerage_stream_sent(stream);
    CHECK(sent == 65536);
    peerage_cancel *cancel;
    pthread_t thread;
    OK(peerage_cancel_new(&cancel, ERR));
    written = stream;
    CHECK(pthread_create(&thread, NULL, trigger, cancel) == 0);
    FAILS(CANCELLED, peerage_stream_write(stream, bytes, sizeof bytes, PATIENCE_MS, cancel, ERR));
    pthread_join(thread, NULL);
    CHECK(peerage_stream_sent(stream) > sent);
    peerage_cancel_free(cancel);
    /* It is still open. */
    OK(peerage_stream_finish(stream, PATIENCE_MS, NULL, ERR));
    sent = peerage_stream_sent(stream);
    peerage_stream *other = atomic_load(&kept);
    uint64_t left = 0;
    for (peerage_bytes *chunk;; peerage_bytes_free(chunk)) {
        OK(peerage_stream_read(other, PATIENCE_MS, NULL, &chunk, ERR));
        if (chunk == NULL) break;
        left += peerage_bytes_view(chunk).len;
    }
    CHECK(left > 0 && left < sent);
    peerage_stream_free(other);
    peerage_stream_free(stream);
    bool was;
    OK(peerage_cluster_unhandle_streams(nodes.a, TEXT("keep"), &was, ERR));
    CHECK(was);
    WAIT(atomic_load(&destroyed) == 1);
    nothing_is_open(nodes);
    stop_pair(nodes);
}

/* Five bytes at a time, and a pause now and then. */
#define DRIPS 1000

static void stream_drip(void *data, peerage_stream *stream)
{
    (void)data;
    for (uint32_t n = 0; n < DRIPS; n++) {
        unsigned char drip[5] = {1, 2, 3, (unsigned char)(n >> 8), (unsigned char)n};
        CHECK(peerage_stream_write(stream, drip, sizeof drip, PATIENCE_MS, NULL, NULL) == PEERAGE_OK);
        if (n % 10 == 0) pause_ms(1);
    }
    CHECK(peerage_stream_finish(stream, PATIENCE_MS, NULL, NULL) == PEERAGE_OK);
    peerage_stream_free(stream);
}

typedef struct {
    pthread_mutex_t lock;
    peerage_cancel *cancel;
    bool ended;
} canceller;

static void *cancel_again_and_again(void *data)
{
    canceller *c = data;
    for (bool ended = false; !ended;) {
        pause_ms(1);
        pthread_mutex_lock(&c->lock);
        CHECK(peerage_cancel_trigger(c->cancel, NULL) == PEERAGE_OK);
        ended = c->ended;
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

static void a_read_that_is_cancelled_has_lost_nothing(void)
{
    static unsigned char read[5 * DRIPS + 1];
    pair nodes = start_handled("drip", stream_drip);
    peerage_stream *stream = opened(nodes.b, "drip");
    canceller c = {PTHREAD_MUTEX_INITIALIZER, NULL, false};
    OK(peerage_cancel_new(&c.cancel, ERR));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, cancel_again_and_again, &c) == 0);
    size_t len = 0, cancelled = 0;
    for (bool ended = false; !ended;) {
        peerage_bytes *chunk = NULL;
        peerage_status status = peerage_stream_read(stream, PATIENCE_MS, c.cancel, &chunk, NULL);
        if (status == PEERAGE_ERROR_CANCELLED) {
            cancelled++;
            pthread_mutex_lock(&c.lock);
            peerage_cancel_free(c.cancel);
            OK(peerage_cancel_new(&c.cancel, ERR));
            pthread_mutex_unlock(&c.lock);
            continue;
        }
        CHECK(status == PEERAGE_OK);
        ended = chunk == NULL;
        if (ended) break;
        peerage_slice bytes = peerage_bytes_view(chunk);
        CHECK(len + bytes.len < sizeof read);
        memcpy(read + len, bytes.data, bytes.len);
        len += bytes.len;
        peerage_bytes_free(chunk);
    }
    pthread_mutex_lock(&c.lock);
    c.ended = true;
    pthread_mutex_unlock(&c.lock);
    pthread_join(thread, NULL);
    peerage_cancel_free(c.cancel);
    CHECK(len == 5 * DRIPS);
    for (uint32_t n = 0; n < DRIPS; n++) {
        CHECK(read[5 * n] == 1 && (uint32_t)(read[5 * n + 3] << 8 | read[5 * n + 4]) == n);
    }
    CHECK(cancelled >= 10);
    peerage_stream_free(stream);
    nothing_is_open(nodes);
    stop_pair(nodes);
}

static void *read_lost(void *data)
{
    peerage_bytes *chunk;
    peerage_status status = peerage_stream_read(data, PEERAGE_FOREVER, NULL, &chunk, NULL);
    CHECK(status == PEERAGE_ERROR_LINK_LOST || status == PEERAGE_ERROR_STREAM_RESET);
    return NULL;
}

static void *read_stopped(void *data)
{
    peerage_bytes *chunk;
    peerage_status status = peerage_stream_read(data, PEERAGE_FOREVER, NULL, &chunk, NULL);
    /* It may come after the stop. */
    CHECK(status == PEERAGE_ERROR_CANCELLED || status == PEERAGE_ERROR_ARGUMENT);
    return NULL;
}

static void a_node_that_goes_and_a_stop_end_a_read(void)
{
    pair nodes = start_handled("ignore", stream_ignore);
    peerage_stream *stopped = opened(nodes.b, "ignore"), *lost = opened(nodes.b, "ignore");
    pthread_t threads[2];
    CHECK(pthread_create(&threads[0], NULL, read_stopped, stopped) == 0);
    CHECK(pthread_create(&threads[1], NULL, read_lost, lost) == 0);
    OK(peerage_stream_stop(stopped, 1, ERR));
    OK(peerage_cluster_shutdown_now(nodes.a, NULL, NULL, ERR));
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    peerage_stream_free(stopped);
    peerage_stream_free(lost);
    OK(peerage_cluster_shutdown_now(nodes.b, NULL, NULL, ERR));
    peerage_cluster_free(nodes.a);
    peerage_cluster_free(nodes.b);
}

static void wrong_arguments_are_named(void)
{
    const peerage_str bad = {"ab\xff", 3};
    pair nodes = start_handled("ignore", stream_ignore);
    peerage_stream *stream;
    peerage_bytes *chunk;
    FAILS(ARGUMENT, peerage_cluster_open_stream(NULL, TEXT("a"), TEXT("t"), 1, NULL, &stream, ERR));
    CHECK(names(failure, "cluster") && stream == NULL);
    FAILS(ARGUMENT, peerage_cluster_open_stream(nodes.b, bad, TEXT("t"), 1, NULL, &stream, ERR));
    CHECK(names(failure, "target"));
    FAILS(ARGUMENT, peerage_cluster_open_stream(nodes.b, TEXT("a"), bad, 1, NULL, &stream, ERR));
    CHECK(names(failure, "topic"));
    FAILS(ARGUMENT, peerage_cluster_open_stream(nodes.b, TEXT("a"), TEXT("t"), 0, NULL, &stream, ERR));
    CHECK(names(failure, "deadline"));
    FAILS(ARGUMENT, peerage_cluster_open_stream(nodes.b, TEXT("a"), TEXT("t"), 1, NULL, NULL, ERR));
    CHECK(names(failure, "stream"));
    FAILS(ARGUMENT, peerage_cluster_handle_streams(nodes.b, TEXT("t"), NULL, NULL, NULL, ERR));
    CHECK(names(failure, "handler"));
    FAILS(ARGUMENT, peerage_stream_write(NULL, "x", 1, 1, NULL, ERR));
    CHECK(names(failure, "stream"));
    FAILS(ARGUMENT, peerage_stream_finish(NULL, 1, NULL, ERR));
    FAILS(ARGUMENT, peerage_stream_read(NULL, 1, NULL, &chunk, ERR));
    FAILS(ARGUMENT, peerage_stream_reset(NULL, 1, ERR));
    FAILS(ARGUMENT, peerage_stream_stop(NULL, 1, ERR));
    FAILS(ARGUMENT, peerage_stream_fail(NULL, TEXT("x"), ERR));
    stream = opened(nodes.b, "ignore");
    FAILS(ARGUMENT, peerage_stream_write(stream, NULL, 5, PATIENCE_MS, NULL, ERR));
    CHECK(names(failure, "bytes"));
    FAILS(ARGUMENT, peerage_stream_write(stream, "x", 1, 0, NULL, ERR));
    CHECK(names(failure, "deadline"));
    FAILS(ARGUMENT, peerage_stream_read(stream, 1, NULL, NULL, ERR));
    CHECK(names(failure, "bytes"));
    CHECK(peerage_stream_peer(NULL).data == NULL && peerage_stream_topic(NULL).data == NULL);
    CHECK(peerage_stream_sent(NULL) == 0);
    peerage_stream_free(NULL);
    peerage_stream_free(stream);
    OK(peerage_cluster_shutdown_now(nodes.a, NULL, NULL, ERR));
    OK(peerage_cluster_shutdown_now(nodes.b, NULL, NULL, ERR));
    peerage_cluster_free(nodes.a);
    peerage_cluster_free(nodes.b);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        {"echo_both_ways_and_half_close", echo_both_ways_and_half_close, true},
        {"two_threads_use_the_two_directions", two_threads_use_the_two_directions, false},
        {"a_gibibyte_through_one_stream_in_flat_memory",
            a_gibibyte_through_one_stream_in_flat_memory, false},
        {"streams_that_stall_keep_nobody_waiting", streams_that_stall_keep_nobody_waiting, false},
        {"codes_and_messages_reach_the_other_end", codes_and_messages_reach_the_other_end, true},
        {"writing_ends_at_its_deadline_and_when_it_is_cancelled",
            writing_ends_at_its_deadline_and_when_it_is_cancelled, true},
        {"a_read_that_is_cancelled_has_lost_nothing", a_read_that_is_cancelled_has_lost_nothing, true},
        {"a_node_that_goes_and_a_stop_end_a_read", a_node_that_goes_and_a_stop_end_a_read, true},
        {"wrong_arguments_are_named", wrong_arguments_are_named, true},
    };
    return RUN(tests);
}
