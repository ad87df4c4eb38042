/* What is told about members: tags one by one, explanations, and whether a program responds. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include "evidence.h"

#define WRITERS 4
#define KEYS 10

/* One tag of a member as another sees it. */
static bool has_tag(const peerage_cluster *sees, const char *id, const char *key, const char *value)
{
    peerage_members *members;
    OK(peerage_cluster_get(sees, peerage_text(id), &members, ERR));
    const peerage_member *member = peerage_members_at(members, 0);
    bool has = false;
    for (size_t at = 0; member != NULL && at < member->tags.count; at++)
        has = has || (same(member->tags.items[at].key, key)
            && (value == NULL || same(member->tags.items[at].value, value)));
    peerage_members_free(members);
    return has;
}

static size_t tag_count(const peerage_cluster *sees, const char *id)
{
    peerage_members *members;
    OK(peerage_cluster_get(sees, peerage_text(id), &members, ERR));
    const peerage_member *member = peerage_members_at(members, 0);
    size_t count = member == NULL ? 0 : member->tags.count;
    peerage_members_free(members);
    return count;
}

typedef struct {
    peerage_cluster *cluster;
    int number;
} writer;

static void *write_tags(void *data)
{
    writer *self = data;
    for (int n = 0; n < KEYS; n++) {
        char key[40];
        snprintf(key, sizeof key, "key %d of %d", n, self->number);
        peerage_status status = peerage_cluster_update_tag(self->cluster, peerage_text(key),
            peerage_text("größe-雪-🦀"), NULL, NULL);
        CHECK(status == PEERAGE_OK);
    }
    return NULL;
}

static void tags_change_one_by_one_and_none_is_lost(void)
{
    pair nodes = start_pair();
    pthread_t threads[WRITERS];
    writer writers[WRITERS];
    bool removed;
    for (int n = 0; n < WRITERS; n++) {
        writers[n] = (writer){nodes.b, n};
        CHECK(pthread_create(&threads[n], NULL, write_tags, &writers[n]) == 0);
    }
    for (int n = 0; n < WRITERS; n++) pthread_join(threads[n], NULL);
    CHECK(tag_count(nodes.b, "b") == WRITERS * KEYS);
    WAIT(tag_count(nodes.a, "b") == WRITERS * KEYS);
    CHECK(has_tag(nodes.a, "b", "key 9 of 3", "größe-雪-🦀"));

    OK(peerage_cluster_remove_tag(nodes.b, peerage_text("key 0 of 0"), NULL, &removed, ERR));
    CHECK(removed);
    OK(peerage_cluster_remove_tag(nodes.b, peerage_text("key 0 of 0"), NULL, &removed, ERR));
    CHECK(!removed);
    OK(peerage_cluster_remove_tag(nodes.b, peerage_text("key 1 of 0"), NULL, NULL, ERR));
    OK(peerage_cluster_update_tag(nodes.b, peerage_text("key 2 of 0"), peerage_text(""), NULL,
        ERR));
    WAIT(has_tag(nodes.a, "b", "key 2 of 0", ""));
    CHECK(!has_tag(nodes.a, "b", "key 0 of 0", NULL));
    CHECK(tag_count(nodes.a, "b") == WRITERS * KEYS - 2);
    FAILS(ARGUMENT, peerage_cluster_update_tag(nodes.b, peerage_text(""), peerage_text("x"), NULL,
        ERR));
    CHECK(names(failure, "tag") && contains(peerage_error_message(failure), "must not be empty"));
    stop_pair(nodes);
}

static void an_explanation_says_what_is_known(void)
{
    pair nodes = start_pair();
    const peerage_explanation *found;
    /* Watch edges are laid after a while. */
    for (uint64_t until = now_ms() + PATIENCE_MS;; pause_ms(10)) {
        OK(peerage_cluster_explain(nodes.a, peerage_text("b"), NULL, &found, ERR));
        if (found->watched) break;
        peerage_explanation_free(found);
        CHECK(now_ms() < until);
    }
    CHECK(same(found->id, "b") && found->state == PEERAGE_STATE_ALIVE && found->incarnation > 0);
    CHECK(found->linked && found->watched && found->missed_probes == 0);
    CHECK(found->refute_within == UINT64_MAX && found->observers.count == 0);
    CHECK(found->history.count == 1 && is_sound(found));
    CHECK(same(found->history.items[0]->what, "MemberJoined"));
    CHECK(found->history.items[0]->state == PEERAGE_STATE_ALIVE);
    peerage_explanation_free(found);
    OK(peerage_cluster_explain(nodes.a, peerage_text("a"), NULL, &found, ERR));
    CHECK(found == NULL);
    OK(peerage_cluster_explain(nodes.a, peerage_text("nobody"), NULL, &found, ERR));
    CHECK(found == NULL);

    /* It stays when all else goes, and says what its member's end was. */
    peerage_cluster_free(nodes.b);
    for (uint64_t until = now_ms() + PATIENCE_MS;; pause_ms(10)) {
        OK(peerage_cluster_explain(nodes.a, peerage_text("b"), NULL, &found, ERR));
        if (found->state == PEERAGE_STATE_FAILED) break;
        peerage_explanation_free(found);
        CHECK(now_ms() < until);
    }
    peerage_cluster_free(nodes.a);
    const peerage_happened *last = found->history.items[found->history.count - 1];
    CHECK(same(last->what, "MemberFailed") && last->state == PEERAGE_STATE_FAILED);
    CHECK(last->observers.count == 1 && same(last->observers.items[0]->observer, "a"));
    CHECK(is_sound(found));
    peerage_explanation_free(found);
}

/* Whether `a` sees that the program of `b` does not respond. */
static bool is_unresponsive(const peerage_cluster *a)
{
    peerage_members *members;
    OK(peerage_cluster_get(a, peerage_text("b"), &members, ERR));
    const peerage_member *b = peerage_members_at(members, 0);
    CHECK(b != NULL && b->state == PEERAGE_STATE_ALIVE);
    bool is = b->unresponsive;
    peerage_members_free(members);
    return is;
}

static void a_question_left_unanswered_is_told(void)
{
    peerage_config config = config_for("b");
    config.unresponsive_after = 500;
    pair nodes = start_pair_with(config_for("a"), config);
    peerage_events *events;
    peerage_batch *batch;
    uint64_t question = 1, next;
    OK(peerage_cluster_events(nodes.a, &events, ERR));
    /* Polled, answered, and none more for a while. */
    WAIT((OK(peerage_cluster_loop_question(nodes.b, 0, NULL, &question, ERR)), question != 0));
    OK(peerage_cluster_loop_answer(nodes.b, question, ERR));
    OK(peerage_cluster_loop_question(nodes.b, 1, NULL, &next, ERR));
    CHECK(next == 0);
    OK(peerage_cluster_loop_question(nodes.b, PEERAGE_FOREVER, NULL, &next, ERR));
    CHECK(next > question);
    CHECK(!is_unresponsive(nodes.a));
    /* It is not answered. */
    WAIT(is_unresponsive(nodes.a));
    /* An answer to what nobody asked is none. */
    OK(peerage_cluster_loop_answer(nodes.b, UINT64_MAX, ERR));
    OK(peerage_cluster_loop_question(nodes.b, 200, NULL, &question, ERR));
    CHECK(question == 0 && is_unresponsive(nodes.a));
    OK(peerage_cluster_loop_answer(nodes.b, next, ERR));
    WAIT(!is_unresponsive(nodes.a));
    /* Nobody suspected it, and nobody failed to reach it. */
    OK(peerage_events_next_batch(events, 100, PATIENCE_MS, NULL, &batch, ERR));
    size_t updates = 0;
    for (size_t at = 0; at < peerage_batch_count(batch); at++) {
        const peerage_event *event = peerage_batch_at(batch, at);
        if (event->kind == PEERAGE_EVENT_LOCAL_HEALTH_CHANGED) continue;
        CHECK(event->kind == PEERAGE_EVENT_MEMBER_UPDATED);
        CHECK(event->member->unresponsive == (updates++ == 0));
    }
    CHECK(updates == 2);
    peerage_batch_free(batch);
    peerage_events_free(events);
    stop_pair(nodes);
}

static void *trigger(void *cancel)
{
    pause_ms(50);
    peerage_cancel_trigger(cancel, NULL);
    return NULL;
}

static void questions_end_with_the_node(void)
{
    peerage_config config = config_for("x");
    peerage_cluster *cluster = start(&config);
    peerage_cancel *cancel;
    pthread_t thread;
    uint64_t question;
    OK(peerage_cancel_new(&cancel, ERR));
    CHECK(pthread_create(&thread, NULL, trigger, cancel) == 0);
    OK(peerage_cluster_loop_question(cluster, PEERAGE_FOREVER, NULL, &question, ERR));
    FAILS(CANCELLED, peerage_cluster_loop_question(cluster, PEERAGE_FOREVER, cancel, &question,
        ERR));
    CHECK(question == 0);
    pthread_join(thread, NULL);
    peerage_cancel_free(cancel);
    OK(peerage_cluster_shutdown_now(cluster, NULL, NULL, ERR));
    FAILS(CLOSED, peerage_cluster_loop_question(cluster, PEERAGE_FOREVER, NULL, &question, ERR));
    OK(peerage_cluster_loop_answer(cluster, 1, ERR));
    peerage_cluster_free(cluster);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        {"tags_change_one_by_one_and_none_is_lost", tags_change_one_by_one_and_none_is_lost, true},
        {"questions_end_with_the_node", questions_end_with_the_node, true},
        {"a_question_left_unanswered_is_told", a_question_left_unanswered_is_told, false},
        {"an_explanation_says_what_is_known", an_explanation_says_what_is_known, true},
    };
    return RUN(tests);
}
