/* What all test programs share: a program lists its tests, and runs one by its name in a process
 * of its own. */
#ifndef CHECK_H
#define CHECK_H

#include <peerage.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "echo.h"

typedef struct {
    const char *name;
    void (*run)(void);
    /* Quick enough to be run under valgrind as well. */
    bool memcheck;
} test;

/* Whatever a test waits for comes within this time, on a slow machine under valgrind too. */
#define PATIENCE_MS 60000

#define CHECK(holds) ((holds) ? (void)0 : failed(__FILE__, __LINE__, #holds))

/* The call must succeed. */
#define OK(call) demand(__FILE__, __LINE__, #call, (call), PEERAGE_OK)
/* The call must fail with this code. The error stays in `failure`. */
#define FAILS(code, call) demand(__FILE__, __LINE__, #call, (call), PEERAGE_ERROR_##code)
/* Waits until it holds. */
#define WAIT(holds) \
    do { \
        uint64_t until = now_ms() + PATIENCE_MS; \
        while (!(holds)) { \
            if (now_ms() > until) failed(__FILE__, __LINE__, "never: " #holds); \
            pause_ms(2); \
        } \
    } while (0)

/* The latest error of the test's own thread; freed by the next `OK` or `FAILS`. */
static peerage_error *failure;
static peerage_error *old_failure;

#define ERR fresh()

static inline peerage_error **fresh(void)
{
    peerage_error_free(old_failure);
    old_failure = failure;
    failure = NULL;
    return &failure;
}

static inline void failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    if (failure != NULL)
        fprintf(stderr, "the latest error: " PEERAGE_FORMAT "\n",
            PEERAGE_PRINT(peerage_error_message(failure)));
    fflush(NULL);
    _Exit(1);
}

static inline void demand(const char *file, int line, const char *call, peerage_status found,
    peerage_status wanted)
{
    if (found == wanted) return;
    char what[600];
    snprintf(what, sizeof what, "%s: %s instead of %s", call, peerage_code_name(found),
        peerage_code_name(wanted));
    failed(file, line, what);
}

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static inline void pause_ms(unsigned ms)
{
    struct timespec time = {(time_t)(ms / 1000u), (long)(ms % 1000u) * 1000000l};
    nanosleep(&time, NULL);
}

static inline bool same(peerage_str text, const char *expected)
{
    return text.data != NULL && text.len == strlen(expected)
        && memcmp(text.data, expected, text.len) == 0;
}

static inline bool same_text(peerage_str a, peerage_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool contains(peerage_str text, const char *part)
{
    size_t len = strlen(part);
    for (size_t at = 0; at + len <= text.len; at++)
        if (memcmp(text.data + at, part, len) == 0) return true;
    return false;
}

/* Whether the error is about this argument or field and no other; it may say several things. */
static inline bool names(const peerage_error *error, const char *field)
{
    size_t count = peerage_error_field_count(error);
    for (size_t at = 0; at < count; at++)
        if (!same(peerage_error_field(error, at)->field, field)) return false;
    return count > 0;
}

/* A configuration with short times, so that tests are quick. */
static inline peerage_config config_for(const char *id)
{
    peerage_config config;
    OK(peerage_config_init(&config, sizeof config, ERR));
    config.cluster = peerage_text("tests");
    config.node_id = peerage_text(id);
    config.secret = peerage_text("a secret of the tests, for tests");
    return config;
}

static inline peerage_cluster *start(const peerage_config *config)
{
    peerage_cluster *cluster = NULL;
    OK(peerage_cluster_start(config, &cluster, ERR));
    CHECK(cluster != NULL);
    return cluster;
}

static inline peerage_stats stats_of(const peerage_cluster *cluster)
{
    peerage_stats stats = {.struct_size = sizeof stats};
    OK(peerage_cluster_stats(cluster, &stats, ERR));
    return stats;
}

typedef struct {
    peerage_cluster *a, *b;
} pair;

static inline pair start_pair_with(peerage_config first, peerage_config second)
{
    pair nodes;
    nodes.a = start(&first);
    peerage_str seed = peerage_cluster_addr(nodes.a);
    second.seeds = (peerage_strs){&seed, 1};
    nodes.b = start(&second);
    OK(peerage_cluster_join(nodes.b, PATIENCE_MS, NULL, ERR));
    WAIT(stats_of(nodes.a).alive == 2 && stats_of(nodes.b).alive == 2);
    return nodes;
}

/* Two nodes over real sockets that know one another. */
static inline pair start_pair(void)
{
    return start_pair_with(config_for("a"), config_for("b"));
}

static inline void stop_pair(pair nodes)
{
    OK(peerage_cluster_leave(nodes.b, NULL, NULL, ERR));
    OK(peerage_cluster_leave(nodes.a, NULL, NULL, ERR));
    peerage_cluster_free(nodes.a);
    peerage_cluster_free(nodes.b);
}

/* Answers what it got. */
static inline void echo_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    (void)data;
    peerage_respond(responder, request->payload.data, request->payload.len, NULL);
    peerage_responder_free(responder);
}

static inline int run_tests(int argc, char **argv, const test *tests, size_t count)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s --list | NAME\n", argv[0]);
        return 2;
    }
    for (size_t at = 0; at < count; at++) {
        if (strcmp(argv[1], "--list") == 0) {
            printf("%s%s\n", tests[at].name, tests[at].memcheck ? " memcheck" : "");
        } else if (strcmp(argv[1], tests[at].name) == 0) {
            tests[at].run();
            peerage_error_free(*fresh());
            peerage_error_free(old_failure);
            return 0;
        }
    }
    if (strcmp(argv[1], "--list") == 0) return 0;
    fprintf(stderr, "no test %s\n", argv[1]);
    return 2;
}

#define RUN(tests) run_tests(argc, argv, tests, sizeof tests / sizeof *tests)

#endif
