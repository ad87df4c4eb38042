/* Beginnings and ends: any order of freeing, use after the end, exit in the middle of everything. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <dirent.h>
#include <stdatomic.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* One of everything that can be got from a node. */
typedef struct {
    pair nodes;
    peerage_events *events;
    peerage_batch *batch;
    peerage_members *members;
    peerage_bytes *answer;
    peerage_cancel *cancel;
    peerage_error *error;
    const peerage_leave_report *report;
} everything;

static everything get_everything(void)
{
    everything all = {.nodes = start_pair()};
    peerage_bytes *none;
    OK(peerage_cluster_events(all.nodes.a, &all.events, ERR));
    OK(peerage_cluster_set_tags(all.nodes.b, (peerage_tags){&(peerage_tag){peerage_text("k"),
        peerage_text("v")}, 1}, NULL, ERR));
    OK(peerage_events_next_batch(all.events, 9, PATIENCE_MS, NULL, &all.batch, ERR));
    CHECK(peerage_batch_count(all.batch) == 1);
    OK(peerage_cluster_members(all.nodes.a, &all.members, ERR));
    OK(peerage_cluster_handle(all.nodes.a, peerage_text("echo"), echo_handler, NULL, NULL, ERR));
    OK(peerage_cluster_request(all.nodes.b, peerage_text("a"), peerage_text("echo"), "x", 1,
        PATIENCE_MS, NULL, &all.answer, ERR));
    OK(peerage_cancel_new(&all.cancel, ERR));
    CHECK(peerage_cluster_request(all.nodes.b, peerage_text("a"), peerage_text("nothing"), "x", 1,
        PATIENCE_MS, all.cancel, &none, &all.error) == PEERAGE_ERROR_UNKNOWN_TOPIC);
    OK(peerage_cluster_leave(all.nodes.b, NULL, &all.report, ERR));
    return all;
}

/* What is still there must still be readable. */
static void free_one(everything *all, int which)
{
    switch (which) {
    case 0: peerage_cluster_free(all->nodes.a); break;
    case 1: peerage_cluster_free(all->nodes.b); break;
    case 2: peerage_events_free(all->events); break;
    case 3:
        CHECK(same(peerage_batch_at(all->batch, 0)->member->tags.items[0].value, "v"));
        peerage_batch_free(all->batch);
        break;
    case 4:
        CHECK(same(peerage_members_at(all->members, 1)->id, "b"));
        peerage_members_free(all->members);
        break;
    case 5:
        CHECK(same(peerage_bytes_text(all->answer), "x"));
        peerage_bytes_free(all->answer);
        break;
    case 6: peerage_cancel_free(all->cancel); break;
    case 7:
        CHECK(contains(peerage_error_message(all->error), "nothing"));
        peerage_error_free(all->error);
        break;
    default:
        CHECK(same(all->report->phases.items[0]->name, "announce"));
        peerage_leave_report_free(all->report);
    }
}

static void freeing_in_any_order(void)
{
    for (int begin = 0; begin < 3; begin++) {
        everything all = get_everything();
        /* 2, 4 and 8 have no common divisor with 9: every one is freed once. */
        static const int steps[] = {2, 4, 8};
        for (int n = 0; n < 9; n++) free_one(&all, (begin * 3 + n * steps[begin]) % 9);
    }
}

static void after_the_end_every_call_says_so(void)
{
    pair nodes = start_pair();
    peerage_events *events, *late;
    peerage_bytes *answer;
    peerage_members *members;
    peerage_batch *batch;
    const peerage_explanation *explanation;
    peerage_str a = peerage_text("a");
    OK(peerage_cluster_events(nodes.b, &events, ERR));
    OK(peerage_cluster_leave(nodes.b, NULL, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_request(nodes.b, a, a, NULL, 0, PEERAGE_DEFAULT, NULL, &answer,
        ERR));
    FAILS(CLOSED, peerage_cluster_send(nodes.b, a, a, NULL, 0, 1, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_join(nodes.b, PEERAGE_DEFAULT, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_set_tags(nodes.b, (peerage_tags){NULL, 0}, NULL, ERR));
    peerage_str secret = peerage_text("sixteen letters.");
    FAILS(CLOSED, peerage_cluster_set_secrets(nodes.b, (peerage_strs){&secret, 1}, ERR));
    FAILS(CLOSED, peerage_cluster_reload_certificates(nodes.b, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_update_tag(nodes.b, a, a, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_remove_tag(nodes.b, a, NULL, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_explain(nodes.b, a, NULL, &explanation, ERR));
    CHECK(explanation == NULL);
    FAILS(CLOSED, peerage_cluster_handle(nodes.b, a, echo_handler, NULL, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_closed(nodes.b, ERR));
    FAILS(CLOSED, peerage_events_next_batch(events, 1, PEERAGE_FOREVER, NULL, &batch, ERR));
    OK(peerage_cluster_leave(nodes.b, NULL, NULL, ERR));
    OK(peerage_cluster_shutdown_now(nodes.b, NULL, NULL, ERR));
    OK(peerage_cluster_unhandle(nodes.b, a, NULL, ERR));
    OK(peerage_cluster_members(nodes.b, &members, ERR));
    CHECK(peerage_members_count(members) > 0);
    OK(peerage_cluster_events(nodes.b, &late, ERR));
    FAILS(CLOSED, peerage_events_next_batch(late, 1, PEERAGE_FOREVER, NULL, &batch, ERR));
    CHECK(peerage_cluster_addr(nodes.b).len > 0);
    peerage_members_free(members);
    peerage_events_free(late);
    peerage_events_free(events);
    stop_pair(nodes);
}

static _Atomic int under_way;
static void slow_handler(void *data, const peerage_request *request, peerage_responder *responder)
{
    atomic_store(&under_way, 1);
    pause_ms(300);
    echo_handler(data, request, responder);
}

static void *ask_slowly(void *cluster)
{
    peerage_bytes *answer;
    peerage_status status = peerage_cluster_request(cluster, peerage_text("a"),
        peerage_text("slow"), "x", 1, PATIENCE_MS, NULL, &answer, NULL);
    CHECK(status == PEERAGE_OK);
    peerage_bytes_free(answer);
    return NULL;
}

/* Calls under way keep the node until they have returned. */
static void freeing_under_a_call(void)
{
    pair nodes = start_pair();
    pthread_t thread;
    OK(peerage_cluster_handle(nodes.a, peerage_text("slow"), slow_handler, NULL, NULL, ERR));
    CHECK(pthread_create(&thread, NULL, ask_slowly, nodes.b) == 0);
    WAIT(atomic_load(&under_way) == 1);
    peerage_cluster_free(nodes.b);
    pthread_join(thread, NULL);
    OK(peerage_cluster_leave(nodes.a, NULL, NULL, ERR));
    peerage_cluster_free(nodes.a);
}

/* How many entries a folder has; descriptors and threads are such on Linux. */
static size_t entries(const char *folder)
{
    DIR *open = opendir(folder);
    if (open == NULL) return 0;
    size_t count = 0;
    while (readdir(open) != NULL) count++;
    closedir(open);
    return count;
}

static void nothing_is_left_of_nodes(void)
{
    peerage_config config = config_for("x");
    size_t descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    for (int n = 0; n < 20; n++) {
        peerage_cluster *cluster = start(&config);
        peerage_events *events;
        uint64_t question;
        int fd;
        /* One that is never answered. */
        OK(peerage_cluster_loop_question(cluster, PEERAGE_FOREVER, NULL, &question, ERR));
        OK(peerage_cluster_events(cluster, &events, ERR));
        OK(peerage_events_fd(events, &fd, ERR));
        if (n % 2 == 0) OK(peerage_cluster_shutdown_now(cluster, NULL, NULL, ERR));
        peerage_cluster_free(cluster);
        peerage_events_free(events);
    }
    WAIT(entries("/proc/self/fd") == descriptors);
    WAIT(entries("/proc/self/task") == threads);
}

static const char *program;

/* Runs another test of this program as a process that ends in the middle of everything. */
static void exits_with(const char *name, int code)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl(program, program, name, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    pid_t ended = 0;
    uint64_t until = now_ms() + PATIENCE_MS;
    while ((ended = waitpid(child, &status, WNOHANG)) == 0 && now_ms() < until) pause_ms(5);
    if (ended != child) kill(child, SIGKILL);
    CHECK(ended == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

static void *wait_for_events(void *events)
{
    peerage_batch *batch;
    for (;;) {
        if (peerage_events_next_batch(events, 1, PEERAGE_FOREVER, NULL, &batch, NULL) != PEERAGE_OK)
            return NULL;
        peerage_batch_free(batch);
    }
}

static _Atomic int blocked;
static void blocking_handler(void *data, const peerage_request *request,
    peerage_responder *responder)
{
    (void)data;
    (void)request;
    (void)responder;
    atomic_store(&blocked, 1);
    for (;;) pause_ms(1000);
}

static void *ask_for_ever(void *cluster)
{
    peerage_bytes *answer;
    peerage_cluster_request(cluster, peerage_text("a"), peerage_text("block"), "x", 1,
        PATIENCE_MS * 10, NULL, &answer, NULL);
    return NULL;
}

static void in_the_middle_of_everything(void)
{
    /* Static, so that a search for leaks at the exit finds them held. */
    static pair nodes;
    static peerage_events *events;
    pthread_t thread;
    int fd;
    nodes = start_pair();
    OK(peerage_cluster_events(nodes.a, &events, ERR));
    OK(peerage_events_fd(events, &fd, ERR));
    CHECK(pthread_create(&thread, NULL, wait_for_events, events) == 0);
    OK(peerage_cluster_handle(nodes.a, peerage_text("block"), blocking_handler, NULL, NULL, ERR));
    CHECK(pthread_create(&thread, NULL, ask_for_ever, nodes.b) == 0);
    WAIT(atomic_load(&blocked) == 1);
}

static void child_returns_from_main(void)
{
    in_the_middle_of_everything();
}

static void exit_handler(void *data, const peerage_request *request, peerage_responder *responder)
{
    (void)data;
    (void)request;
    (void)responder;
    exit(7);
}

static void child_exits_in_a_callback(void)
{
    in_the_middle_of_everything();
    static pair other;
    other = start_pair();
    OK(peerage_cluster_handle(other.a, peerage_text("exit"), exit_handler, NULL, NULL, ERR));
    peerage_bytes *answer;
    peerage_cluster_request(other.b, peerage_text("a"), peerage_text("exit"), "x", 1,
        PATIENCE_MS, NULL, &answer, ERR);
    for (;;) pause_ms(1000);
}

static void returning_from_main(void)
{
    exits_with("child_returns_from_main", 0);
}

static void exit_in_a_callback(void)
{
    exits_with("child_exits_in_a_callback", 7);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        {"freeing_in_any_order", freeing_in_any_order, true},
        {"after_the_end_every_call_says_so", after_the_end_every_call_says_so, false},
        {"freeing_under_a_call", freeing_under_a_call, false},
        {"nothing_is_left_of_nodes", nothing_is_left_of_nodes, false},
        {"returning_from_main", returning_from_main, false},
        {"exit_in_a_callback", exit_in_a_callback, false},
    };
    /* Not in the list: they are run by others. */
    static const test children[] = {
        {"child_returns_from_main", child_returns_from_main, false},
        {"child_exits_in_a_callback", child_exits_in_a_callback, false},
    };
    program = argv[0];
    return argc == 2 && strncmp(argv[1], "child_", 6) == 0 ? RUN(children) : RUN(tests);
}
