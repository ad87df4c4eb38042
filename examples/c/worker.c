/* A worker: joins the cluster, announces what it can do, and answers requests until it is told to
 * leave (the line `leave`, or the end, on standard input). Told `ask <id>`, it asks that member for
 * work itself, by a request and over a stream. The same program as examples/src/bin/worker.rs: the
 * same arguments, the same reports, one JSON object a line.
 *
 *     PEERAGE_SECRET=... worker --id w1 --seed 127.0.0.1:7000 --tag role=worker
 */
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <peerage.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LIST_MAX 64
/* The longest node id. */
#define ID_MAX 128
/* Views are repeated this often even when nothing changed, since round trips drift. */
#define VIEW_MS 200
/* How long a node tries to join before it gives up. */
#define JOIN_MS 30000

typedef struct {
    peerage_config config;
    peerage_str seeds[LIST_MAX];
    peerage_tag tags[LIST_MAX];
} arguments;

static uint64_t started;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* Any error ends the program with a line on standard error. */
static void need(peerage_status status, peerage_error *error)
{
    if (status == PEERAGE_OK) return;
    fprintf(stderr, "error: %s: " PEERAGE_FORMAT "\n", peerage_code_name(status),
        PEERAGE_PRINT(peerage_error_message(error)));
    exit(1);
}

static void usage(const char *wrong)
{
    fprintf(stderr, "error: %s\nusage: worker --id ID [--cluster NAME] [--seed IP:PORT]... "
        "[--listen IP:PORT] [--tag KEY=VALUE]...\n", wrong);
    exit(2);
}

static void read_arguments(int argc, char **argv, arguments *given)
{
    peerage_error *error = NULL;
    need(peerage_config_init(&given->config, sizeof given->config, &error), error);
    given->config.cluster = peerage_text("demo");
    given->config.seeds.items = given->seeds;
    given->config.tags.items = given->tags;
    for (int at = 1; at < argc; at += 2) {
        const char *name = argv[at], *value = argv[at + 1];
        if (at + 1 == argc) usage(name);
        if (strcmp(name, "--id") == 0) {
            given->config.node_id = peerage_text(value);
        } else if (strcmp(name, "--cluster") == 0) {
            given->config.cluster = peerage_text(value);
        } else if (strcmp(name, "--listen") == 0) {
            given->config.listen = peerage_text(value);
        } else if (strcmp(name, "--seed") == 0 && given->config.seeds.count < LIST_MAX) {
            given->seeds[given->config.seeds.count++] = peerage_text(value);
        } else if (strcmp(name, "--tag") == 0 && given->config.tags.count < LIST_MAX) {
            const char *sign = strchr(value, '=');
            if (sign == NULL || sign == value) usage("--tag: expected key=value");
            peerage_tag tag = {{value, (size_t)(sign - value)}, peerage_text(sign + 1)};
            given->tags[given->config.tags.count++] = tag;
        } else {
            usage(name);
        }
    }
    if (given->config.node_id.data == NULL) usage("--id is missing");
    /* Never an argument: every user of a machine can read the arguments of every process. */
    const char *secret = getenv("PEERAGE_SECRET");
    if (secret == NULL) usage("set PEERAGE_SECRET to the secret that all nodes share");
    given->config.secret = peerage_text(secret);
}

/* Text as JSON has it. */
static void print_text(peerage_str text)
{
    putchar('"');
    for (size_t at = 0; at < text.len; at++) {
        unsigned char c = (unsigned char)text.data[at];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* Lines of several threads never mix. */
static void begin_line(void)
{
    flockfile(stdout);
}

/* Whoever read our reports may be gone; standard input has ended as well then, and we leave in
 * good order. */
static void end_line(void)
{
    putchar('\n');
    fflush(stdout);
    funlockfile(stdout);
}

static void report_ready(const peerage_cluster *cluster, peerage_str id)
{
    begin_line();
    printf("{\"type\":\"ready\",\"id\":");
    print_text(id);
    printf(",\"addr\":");
    print_text(peerage_cluster_addr(cluster));
    putchar('}');
    end_line();
}

static void report_view(const peerage_cluster *cluster)
{
    peerage_error *error = NULL;
    peerage_members *members;
    need(peerage_cluster_members(cluster, &members, &error), error);
    begin_line();
    printf("{\"type\":\"view\",\"members\":[");
    for (size_t at = 0; at < peerage_members_count(members); at++) {
        const peerage_member *member = peerage_members_at(members, at);
        printf("%s{\"id\":", at > 0 ? "," : "");
        print_text(member->id);
        printf(",\"instance\":\"%016" PRIx64 "\",\"incarnation\":%" PRIu64 ",\"state\":\"%s\"",
            member->instance, member->incarnation, peerage_state_name(member->state));
        if (member->rtt == UINT64_MAX)
            printf(",\"rtt_us\":null");
        else
            printf(",\"rtt_us\":%" PRIu64, member->rtt);
        printf(",\"unresponsive\":%s,\"tags\":{", member->unresponsive ? "true" : "false");
        for (size_t tag = 0; tag < member->tags.count; tag++) {
            if (tag > 0) putchar(',');
            print_text(member->tags.items[tag].key);
            putchar(':');
            print_text(member->tags.items[tag].value);
        }
        printf("}}");
    }
    printf("]}");
    end_line();
    peerage_members_free(members);
}

static void report_event(const peerage_event *event)
{
    begin_line();
    printf("{\"type\":\"event\",\"kind\":\"%s\",\"member\":", peerage_event_name(event->kind));
    if (event->member != NULL)
        print_text(event->member->id);
    else
        printf("null");
    printf(",\"at_ms\":%" PRIu64 "}", now_ms() - started);
    end_line();
}

/* How a request that we were told to make went; the error is a code, or none. */
static void report_asked(peerage_str target, const char *failure)
{
    begin_line();
    printf("{\"type\":\"asked\",\"target\":");
    print_text(target);
    printf(",\"ok\":%s,\"error\":", failure == NULL ? "true" : "false");
    if (failure == NULL)
        printf("null");
    else
        print_text(peerage_text(failure));
    putchar('}');
    end_line();
}

/* FNV-1a over the payload. */
static void checksum(const uint8_t *payload, size_t len, uint8_t answer[8])
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t at = 0; at < len; at++) hash = (hash ^ payload[at]) * 0x100000001b3u;
    for (size_t at = 0; at < 8; at++) answer[at] = (uint8_t)(hash >> (56 - 8 * at));
}

/* What a worker does for others. */
static void work(void *data, const peerage_request *request, peerage_responder *responder)
{
    (void)data;
    if (request->payload.len == 0) {
        peerage_respond_error(responder, peerage_text("there is nothing to do"), NULL);
    } else {
        uint8_t answer[8];
        checksum(request->payload.data, request->payload.len, answer);
        peerage_respond(responder, answer, sizeof answer, NULL);
    }
    peerage_responder_free(responder);
}

/* All that comes up to the end, of which there is room for so many bytes; fewer than 0 on an error. */
static long read_all(peerage_stream *stream, uint8_t *into, size_t room)
{
    size_t len = 0;
    for (;;) {
        peerage_bytes *piece = NULL;
        if (peerage_stream_read(stream, JOIN_MS, NULL, &piece, NULL) != PEERAGE_OK) return -1;
        if (piece == NULL) return (long)len;
        peerage_slice bytes = peerage_bytes_view(piece);
        bool fits = bytes.len <= room - len;
        if (fits) memcpy(into + len, bytes.data, bytes.len);
        len += bytes.len;
        peerage_bytes_free(piece);
        if (!fits) return -1;
    }
}

/* The same over a stream. */
static void work_on(void *data, peerage_stream *stream)
{
    (void)data;
    uint8_t payload[4096], answer[8];
    long len = read_all(stream, payload, sizeof payload);
    if (len < 0) {
        peerage_stream_fail(stream, peerage_text("that is no work"), NULL);
    } else {
        checksum(payload, (size_t)len, answer);
        peerage_stream_write(stream, answer, sizeof answer, JOIN_MS, NULL, NULL);
        peerage_stream_finish(stream, JOIN_MS, NULL, NULL);
    }
    peerage_stream_free(stream);
}

static peerage_cancel *leaving;

/* Joining waits, and reports are to go on meanwhile: a thread of its own. */
static void *join(void *cluster)
{
    peerage_error *error = NULL;
    peerage_status status = peerage_cluster_join(cluster, JOIN_MS, leaving, &error);
    if (status != PEERAGE_ERROR_CANCELLED) need(status, error);
    peerage_error_free(error);
    return NULL;
}

/* An order to ask somebody for work. */
typedef struct {
    const peerage_cluster *cluster;
    char payload[ID_MAX + 8];
    char target[ID_MAX + 1];
} errand;

static pthread_mutex_t errands_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t errand_done = PTHREAD_COND_INITIALIZER;
static size_t errands;

/* The payload in two pieces, and the answer once they have ended. */
static peerage_status ask_over_stream(const errand *run, uint8_t answer[8], bool *whole)
{
    peerage_stream *stream = NULL;
    size_t len = strlen(run->payload), half = len / 2;
    peerage_status status = peerage_cluster_open_stream(run->cluster, peerage_text(run->target),
        peerage_text("work"), PEERAGE_DEFAULT, leaving, &stream, NULL);
    if (status == PEERAGE_OK)
        status = peerage_stream_write(stream, run->payload, half, JOIN_MS, leaving, NULL);
    if (status == PEERAGE_OK)
        status = peerage_stream_write(stream, run->payload + half, len - half, JOIN_MS, leaving,
            NULL);
    if (status == PEERAGE_OK) status = peerage_stream_finish(stream, JOIN_MS, leaving, NULL);
    *whole = status == PEERAGE_OK && read_all(stream, answer, 8) == 8;
    peerage_stream_free(stream);
    return status;
}

/* Asks another worker, as the director does, and reports how it went. The answer takes its time:
 * a thread of its own. */
static void *run_errand(void *given)
{
    errand *run = given;
    size_t len = strlen(run->payload);
    uint8_t expected[8];
    peerage_bytes *answer = NULL;
    peerage_str target = peerage_text(run->target);
    peerage_status status = peerage_cluster_request(run->cluster, target, peerage_text("work"),
        run->payload, len, PEERAGE_DEFAULT, leaving, &answer, NULL);
    checksum((const uint8_t *)run->payload, len, expected);
    uint8_t streamed[8];
    bool whole = false;
    if (status == PEERAGE_OK) status = ask_over_stream(run, streamed, &whole);
    if (status != PEERAGE_OK) {
        report_asked(target, peerage_code_name(status));
    } else {
        peerage_str got = peerage_bytes_text(answer);
        bool right = got.len == sizeof expected && memcmp(got.data, expected, got.len) == 0
            && whole && memcmp(streamed, expected, sizeof expected) == 0;
        report_asked(target, right ? NULL : "a wrong answer");
    }
    peerage_bytes_free(answer);
    free(run);
    pthread_mutex_lock(&errands_lock);
    errands--;
    pthread_cond_signal(&errand_done);
    pthread_mutex_unlock(&errands_lock);
    return NULL;
}

static void send_on_errand(const peerage_cluster *cluster, peerage_str id, const char *target)
{
    pthread_t thread;
    errand *run = calloc(1, sizeof *run);
    if (run == NULL || id.len > ID_MAX || strlen(target) > ID_MAX) {
        free(run);
        report_asked(peerage_text(target), "no such order");
        return;
    }
    run->cluster = cluster;
    snprintf(run->payload, sizeof run->payload, "from " PEERAGE_FORMAT, PEERAGE_PRINT(id));
    snprintf(run->target, sizeof run->target, "%s", target);
    pthread_mutex_lock(&errands_lock);
    errands++;
    pthread_mutex_unlock(&errands_lock);
    if (pthread_create(&thread, NULL, run_errand, run) == 0) {
        pthread_detach(thread);
    } else {
        fprintf(stderr, "error: no thread to be had\n");
        exit(1);
    }
}

/* The cluster is not freed under their feet. */
static void wait_for_errands(void)
{
    pthread_mutex_lock(&errands_lock);
    while (errands > 0) pthread_cond_wait(&errand_done, &errands_lock);
    pthread_mutex_unlock(&errands_lock);
}

/* Follows the orders on standard input that are there; whether one is `leave`, or it has ended. */
static bool told_to_leave(const peerage_cluster *cluster, peerage_str id)
{
    static char line[ID_MAX + 8];
    static size_t len;
    char input[256];
    ssize_t count = read(STDIN_FILENO, input, sizeof input);
    if (count <= 0) return true;
    for (ssize_t at = 0; at < count; at++) {
        if (input[at] != '\n') {
            if (len < sizeof line - 1) line[len++] = input[at];
            continue;
        }
        while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' ')) len--;
        line[len] = '\0';
        if (strcmp(line, "leave") == 0) return true;
        if (strncmp(line, "ask ", 4) == 0) send_on_errand(cluster, id, line + 4);
        len = 0;
    }
    return false;
}

/* Reports every event, and the members whenever one happened or a while has passed, until we are
 * told to leave. */
static void report_until_told(const peerage_cluster *cluster, const peerage_events *events,
    peerage_str id)
{
    peerage_error *error = NULL;
    int fd;
    need(peerage_events_fd(events, &fd, &error), error);
    struct pollfd wait[2] = {{STDIN_FILENO, POLLIN, 0}, {fd, POLLIN, 0}};
    uint64_t tick = now_ms();
    for (;;) {
        uint64_t now = now_ms();
        if (now >= tick) {
            report_view(cluster);
            tick = now + VIEW_MS;
        }
        if (poll(wait, 2, (int)(tick > now ? tick - now : 0)) < 0) continue;
        if (wait[1].revents != 0) {
            peerage_batch *batch;
            /* A node that was stopped from within (another one took our name, say) must not idle
             * on: the events end, and so do we. */
            need(peerage_events_next_batch(events, 64, 0, NULL, &batch, &error), error);
            for (size_t at = 0; at < peerage_batch_count(batch); at++) {
                /* The view first: whoever acts on the event then knows what it changed. */
                report_view(cluster);
                report_event(peerage_batch_at(batch, at));
            }
            peerage_batch_free(batch);
        }
        if (wait[0].revents != 0 && told_to_leave(cluster, id)) return;
    }
}

int main(int argc, char **argv)
{
    arguments given;
    peerage_error *error = NULL;
    peerage_cluster *cluster;
    peerage_events *events;
    pthread_t joining;
    const peerage_leave_report *report;

    /* A reader that has gone is no reason to be killed. */
    signal(SIGPIPE, SIG_IGN);
    memset(&given, 0, sizeof given);
    read_arguments(argc, argv, &given);
    need(peerage_cluster_start(&given.config, &cluster, &error), error);
    /* Before joining: whoever sees us in the cluster may ask at once. */
    need(peerage_cluster_handle(cluster, peerage_text("work"), work, NULL, NULL, &error), error);
    need(peerage_cluster_handle_streams(cluster, peerage_text("work"), work_on, NULL, NULL, &error),
        error);
    need(peerage_cluster_events(cluster, &events, &error), error);
    started = now_ms();
    report_ready(cluster, given.config.node_id);
    need(peerage_cancel_new(&leaving, &error), error);
    if (pthread_create(&joining, NULL, join, cluster) != 0) {
        fprintf(stderr, "error: no thread to be had\n");
        return 1;
    }
    report_until_told(cluster, events, given.config.node_id);

    need(peerage_cancel_trigger(leaving, &error), error);
    pthread_join(joining, NULL);
    wait_for_errands();
    need(peerage_cluster_leave(cluster, NULL, &report, &error), error);
    for (size_t at = 0; at < report->phases.count; at++) {
        const peerage_phase *phase = report->phases.items[at];
        fprintf(stderr, PEERAGE_FORMAT ": %s" PEERAGE_FORMAT " in %" PRIu64 " us\n",
            PEERAGE_PRINT(given.config.node_id), phase->complete ? "" : "incomplete: ",
            PEERAGE_PRINT(phase->name), phase->took);
    }
    peerage_leave_report_free(report);
    peerage_cancel_free(leaving);
    peerage_events_free(events);
    peerage_cluster_free(cluster);
    return 0;
}
