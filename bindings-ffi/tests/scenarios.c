/* The conformance scenarios of tests/conformance, played through C. A test is a file there. */
#define _XOPEN_SOURCE 700
#include "evidence.h"
#include "request_handlers.h"
#include "scene.h"
#include "stream_steps.h"

#include <dirent.h>
#include <ftw.h>
#include <unistd.h>

/* No step waits longer for what it expects. */
#define STEP_MS 30000

static peerage_status start_node(const json *with)
{
    peerage_config config;
    peerage_cluster *cluster;
    OK(peerage_config_init(&config, sizeof config, ERR));
    config.cluster = peerage_text("conformance");
    config.node_id = text(with, "node");
    config.secret = peerage_bytes_text(secrets[0]);
    const json *given = json_get(with, "config");
    for (const json *item = given != NULL ? given->first : NULL; item != NULL; item = item->next)
        set_field(&config, item);
    peerage_status status = peerage_cluster_start(&config, &cluster, ERR);
    if (status == PEERAGE_OK) set_named(nodes, need(with, "node")->text, cluster);
    return status;
}

static bool has_tags(const peerage_member *member, const json *tags)
{
    if (member->tags.count != json_count(tags)) return false;
    for (size_t at = 0; at < member->tags.count; at++) {
        const json *item = tags->first;
        while (item != NULL && !same_text((peerage_str){item->key, item->key_len},
            member->tags.items[at].key)) item = item->next;
        if (item == NULL || !same_text(text_of(item), member->tags.items[at].value)) return false;
    }
    return true;
}

static bool has_state(int32_t state, const json *expected)
{
    return is(expected, peerage_state_name(state));
}

/* Exactly these members, in these states. */
static bool members_are(const json *with)
{
    peerage_members *members;
    const json *expect = need(with, "expect");
    OK(peerage_cluster_members(node(with), &members, ERR));
    bool holds = peerage_members_count(members) == json_count(expect);
    for (size_t at = 0; holds && at < peerage_members_count(members); at++) {
        const peerage_member *member = peerage_members_at(members, at);
        char id[200];
        snprintf(id, sizeof id, PEERAGE_FORMAT, PEERAGE_PRINT(member->id));
        holds = has_state(member->state, json_get(expect, id));
    }
    peerage_members_free(members);
    return holds;
}

static bool member_is(const json *with)
{
    peerage_members *members;
    const json *expect = need(with, "expect");
    OK(peerage_cluster_get(node(with), text(with, "id"), &members, ERR));
    const peerage_member *member = peerage_members_at(members, 0);
    bool holds;
    if (expect->kind == JSON_NULL || member == NULL) {
        holds = expect->kind == JSON_NULL && member == NULL;
    } else {
        const json *state = json_get(expect, "state"), *tags = json_get(expect, "tags");
        holds = (state == NULL || has_state(member->state, state))
            && (tags == NULL || has_tags(member, tags));
    }
    peerage_members_free(members);
    return holds;
}

static bool members_with_are(const json *with)
{
    peerage_members *members;
    size_t at = 0;
    OK(peerage_cluster_members_with(node(with), tags_of(need(with, "tags")), &members, ERR));
    bool holds = true;
    for (const json *id = need(with, "expect")->first; id != NULL; id = id->next, at++)
        holds = holds && at < peerage_members_count(members)
            && same_text(peerage_members_at(members, at)->id, text_of(id));
    holds = holds && at == peerage_members_count(members);
    peerage_members_free(members);
    return holds;
}

static bool stats_are(const json *with)
{
    peerage_stats stats = stats_of(node(with));
    for (const json *wanted = need(with, "expect")->first; wanted != NULL; wanted = wanted->next) {
        size_t at = 0, count = sizeof STATS_FIELDS / sizeof *STATS_FIELDS;
        while (at < count && strcmp(STATS_FIELDS[at].name, wanted->key) != 0) at++;
        if (at == count) wrong("an unknown statistic");
        if (*(uint64_t *)((char *)&stats + STATS_FIELDS[at].offset) != wanted->number) return false;
    }
    return true;
}

static bool link_has(const peerage_link_stats *link, const json *wanted)
{
    const uint64_t nothing = UINT64_MAX;
    if (link->rtt == 0 || link->heard == nothing || link->idle == nothing) return false;
    if (link->packets_sent == 0 || link->packets_received == 0) return false;
    for (; wanted != NULL; wanted = wanted->next) {
        size_t at = 0, count = sizeof LINK_STATS_FIELDS / sizeof *LINK_STATS_FIELDS;
        while (at < count && strcmp(LINK_STATS_FIELDS[at].name, wanted->key) != 0) at++;
        if (at == count) wrong("an unknown field of a link");
        const char *place = (const char *)link + LINK_STATS_FIELDS[at].offset;
        if (wanted->kind == JSON_TEXT) {
            if (!same_text(*(const peerage_str *)place, text_of(wanted))) return false;
        } else if (*(const uint64_t *)place != wanted->number) {
            return false;
        }
    }
    return true;
}

static bool link_is(const json *with)
{
    const json *expect = need(with, "expect");
    const peerage_link_stats *found = NULL;
    size_t count = 0;
    peerage_links *links;
    OK(peerage_cluster_links(node(with), &links, ERR));
    for (size_t at = 0; at < peerage_links_count(links); at++) {
        const peerage_link_stats *link = peerage_links_at(links, at);
        if (!same_text(link->id, text(with, "id"))) continue;
        found = link;
        count++;
    }
    bool none = expect->kind == JSON_NULL;
    bool holds = none ? count == 0 : count == 1 && link_has(found, expect->first);
    peerage_links_free(links);
    return holds;
}

static bool closed_is(const json *with)
{
    return is(need(with, "code"), peerage_code_name(peerage_cluster_closed(node(with), ERR)));
}

static void see(bool (*holds)(const json *), const json *with)
{
    uint64_t until = now_ms() + STEP_MS;
    while (!holds(with)) {
        if (now_ms() > until) wrong("it never is as expected");
        pause_ms(5);
    }
}

static peerage_status request(const json *with)
{
    peerage_slice payload = payload_of(need(with, "payload"));
    const json *expect = json_get(with, "expect");
    peerage_bytes *answer;
    peerage_status status = peerage_cluster_request(node(with), text(with, "target"),
        text(with, "topic"), payload.data, payload.len, deadline(with), NULL, &answer, ERR);
    if (status == PEERAGE_OK && expect != NULL
        && !same_bytes(peerage_bytes_view(answer), payload_of(expect)))
        wrong("the answer is another one");
    peerage_bytes_free(answer);
    return status;
}

typedef struct {
    const json *with;
    peerage_cancel *cancel;
} cancelling;

/* Cancels once the other side has got the request. */
static void *cancel_it(void *data)
{
    cancelling *self = data;
    peerage_cluster *target = named_thing(nodes, need(self->with, "target")->text);
    uint64_t until = now_ms() + STEP_MS;
    peerage_stats stats = {.struct_size = sizeof stats};
    do {
        pause_ms(2);
        peerage_cluster_stats(target, &stats, NULL);
    } while (stats.requests_in != 1 && now_ms() < until);
    peerage_cancel_trigger(self->cancel, NULL);
    return NULL;
}

static peerage_status cancelled_request(const json *with)
{
    cancelling self = {with, NULL};
    pthread_t thread;
    peerage_bytes *answer;
    peerage_slice payload = payload_of(need(with, "payload"));
    OK(peerage_cancel_new(&self.cancel, ERR));
    CHECK(pthread_create(&thread, NULL, cancel_it, &self) == 0);
    FAILS(CANCELLED, peerage_cluster_request(node(with), text(with, "target"), text(with, "topic"),
        payload.data, payload.len, PATIENCE_MS, self.cancel, &answer, ERR));
    pthread_join(thread, NULL);
    peerage_cancel_free(self.cancel);
    return PEERAGE_OK;
}

/* The next event in a batch of its own; NULL at the end. */
static peerage_batch *next(const json *with)
{
    peerage_events *events = named_thing(subscriptions, need(with, "subscription")->text);
    peerage_batch *batch;
    peerage_status status = peerage_events_next_batch(events, 1, STEP_MS, NULL, &batch, ERR);
    if (status == PEERAGE_ERROR_CLOSED) return NULL;
    if (status != PEERAGE_OK || batch == NULL) wrong("no event comes");
    return batch;
}

/* The next event that does not depend on times, which must be this one. */
static peerage_batch *expected_event(const json *with, const json *wanted)
{
    for (;;) {
        peerage_batch *batch = next(with);
        if (batch == NULL) wrong("the events end");
        const peerage_event *event = peerage_batch_at(batch, 0);
        const json *kind = wanted->first, *id = kind->next;
        if (event->kind == PEERAGE_EVENT_LOCAL_HEALTH_CHANGED
            || (event->kind == PEERAGE_EVENT_HEALTH_CHECK_FAILED
                && !is(kind, "HealthCheckFailed"))) {
            peerage_batch_free(batch);
            continue;
        }
        fprintf(stderr, "%s\n", peerage_event_name(event->kind));
        if (!is(kind, peerage_event_name(event->kind))
            || (id->kind == JSON_NULL) != (event->member == NULL)
            || (event->member != NULL && !same_text(event->member->id, text_of(id))))
            wrong("another event comes");
        return batch;
    }
}

static void events_are(const json *with)
{
    for (const json *wanted = need(with, "expect")->first; wanted != NULL; wanted = wanted->next)
        peerage_batch_free(expected_event(with, wanted));
}

static void has_evidence(const json *with)
{
    peerage_batch *batch = expected_event(with, need(with, "expect"));
    peerage_observation_list seen = peerage_batch_at(batch, 0)->observers;
    if (seen.count == 0 || !are_sound(seen)) wrong("the evidence is not sound");
    for (size_t at = 0; at < seen.count; at++) {
        const json *id = need(with, "observers")->first;
        while (id != NULL && !same_text(seen.items[at]->observer, text_of(id))) id = id->next;
        if (id == NULL) wrong("another observer");
        for (size_t before = 0; before < at; before++)
            if (same_text(seen.items[at]->observer, seen.items[before]->observer))
                wrong("an observer twice");
    }
    peerage_batch_free(batch);
}

static peerage_status explain(const json *with)
{
    const peerage_explanation *found;
    peerage_status status = peerage_cluster_explain(node(with), text(with, "id"), NULL, &found,
        ERR);
    const json *expect = need(with, "expect");
    if (status != PEERAGE_OK) return status;
    if ((found == NULL) != (expect->kind == JSON_NULL)) wrong("it is explained otherwise");
    if (found == NULL) return status;
    peerage_happened_list history = found->history;
    if (!same_text(found->id, text(with, "id")) || !has_state(found->state, need(expect, "state"))
        || !same_text(history.items[0]->what, text(expect, "begins"))
        || !same_text(history.items[history.count - 1]->what, text(expect, "ends"))
        || !is_sound(found))
        wrong("it is explained otherwise");
    peerage_explanation_free(found);
    return status;
}

static void damage(const json *with)
{
    char path[1024];
    snprintf(path, sizeof path, PEERAGE_FORMAT "/node.peerage",
        PEERAGE_PRINT(meant(need(with, "dir"))));
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    CHECK(fputs("damaged", file) >= 0);
    CHECK(fclose(file) == 0);
}

static void copy(const json *with)
{
    char from[1024], to[1024], beside[1040], content[8192];
    snprintf(from, sizeof from, PEERAGE_FORMAT, PEERAGE_PRINT(meant(need(with, "from"))));
    snprintf(to, sizeof to, PEERAGE_FORMAT, PEERAGE_PRINT(meant(need(with, "to"))));
    snprintf(beside, sizeof beside, "%s.new", to);
    FILE *file = fopen(from, "r");
    CHECK(file != NULL);
    size_t size = fread(content, 1, sizeof content, file);
    CHECK(size > 0 && size < sizeof content && fclose(file) == 0);
    file = fopen(beside, "w");
    CHECK(file != NULL);
    CHECK(fwrite(content, 1, size, file) == size && fclose(file) == 0);
    CHECK(rename(beside, to) == 0);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *at)
{
    (void)stat;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_own_folder(void)
{
    nftw(own_folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void *update_one(void *tag)
{
    const json *with = ((const json *const *)tag)[0], *item = ((const json *const *)tag)[1];
    peerage_status status = peerage_cluster_update_tag(node(with),
        (peerage_str){item->key, item->key_len}, text_of(item), NULL, NULL);
    return status == PEERAGE_OK ? NULL : tag;
}

static void update_tags_at_once(const json *with)
{
    pthread_t threads[NAMED_MAX];
    const json *tags[NAMED_MAX][2];
    size_t count = 0;
    for (const json *item = need(with, "tags")->first; item != NULL; item = item->next, count++) {
        if (count == NAMED_MAX) wrong("too many tags");
        tags[count][0] = with;
        tags[count][1] = item;
        CHECK(pthread_create(&threads[count], NULL, update_one, tags[count]) == 0);
    }
    while (count > 0) {
        void *failed_tag;
        pthread_join(threads[--count], &failed_tag);
        if (failed_tag != NULL) wrong("a tag is not updated");
    }
}

static peerage_status remove_tag(const json *with)
{
    bool was;
    peerage_status status = peerage_cluster_remove_tag(node(with), text(with, "key"), NULL, &was,
        ERR);
    if (status == PEERAGE_OK && was != need(with, "expect")->flag) wrong("it was otherwise");
    return status;
}

static peerage_status set_secrets(const json *with)
{
    const json *given = need(with, "secrets");
    size_t count = json_count(given), n = 0;
    peerage_str *texts = json_room((count + 1) * sizeof *texts);
    for (const json *item = given->first; item != NULL; item = item->next) texts[n++] = meant(item);
    return peerage_cluster_set_secrets(node(with), (peerage_strs){texts, count}, ERR);
}

static void is_ended(const json *with)
{
    for (peerage_batch *batch; (batch = next(with)) != NULL;) peerage_batch_free(batch);
}

static void is_dropped(const json *with)
{
    peerage_batch *batch = next(with);
    const peerage_event *event = peerage_batch_at(batch, 0);
    const json *wanted = need(with, "members");
    if (event == NULL || event->kind != PEERAGE_EVENT_EVENTS_DROPPED || event->count == 0
        || event->members.count != json_count(wanted))
        wrong("something else comes");
    for (size_t at = 0; at < event->members.count; at++) {
        char id[200];
        snprintf(id, sizeof id, PEERAGE_FORMAT, PEERAGE_PRINT(event->members.items[at]->id));
        const json *tags = json_get(wanted, id);
        if (tags == NULL || !has_tags(event->members.items[at], tags)) wrong("other members");
    }
    peerage_batch_free(batch);
}

static peerage_status leave(const json *with)
{
    const peerage_leave_report *report;
    peerage_status status = peerage_cluster_leave(node(with), NULL, &report, ERR);
    if (status != PEERAGE_OK) return status;
    bool complete = true;
    for (size_t at = 0; at < report->phases.count; at++)
        complete = complete && report->phases.items[at]->complete;
    if (complete != need(with, "complete")->flag) wrong("the report says otherwise");
    peerage_leave_report_free(report);
    return PEERAGE_OK;
}

static peerage_status play(const char *verb, const json *with)
{
    static const struct {
        const char *verb;
        bool (*holds)(const json *);
    } looks[] = {
        {"members", members_are}, {"get", member_is}, {"members_with", members_with_are},
        {"stats", stats_are}, {"link", link_is}, {"kept", kept_is}, {"closed", closed_is},
    };
    static const struct {
        const char *verb;
        peerage_status (*call)(const json *);
    } calls[] = {
        {"start", start_node}, {"handle", add_handler}, {"request", request},
        {"cancelled_request", cancelled_request}, {"leave", leave}, {"explain", explain},
        {"remove_tag", remove_tag}, {"set_secrets", set_secrets},
        {"handle_streams", handle_streams},
        {"unhandle_streams", unhandle_streams}, {"open_stream", open_stream},
        {"write", stream_write}, {"write_until_it_fails", stream_write_until_it_fails},
        {"sent", stream_sent}, {"finish", stream_finish}, {"read", stream_read},
        {"read_end", stream_read_end}, {"reset", stream_reset}, {"stop", stream_stop},
        {"close_stream", close_stream},
    };
    static const struct {
        const char *verb;
        void (*check)(const json *);
    } checks[] = {
        {"events", events_are}, {"ended", is_ended}, {"dropped", is_dropped},
        {"evidence", has_evidence}, {"damage", damage}, {"copy", copy}, {"update_tags_at_once", update_tags_at_once},
    };
    for (size_t at = 0; at < sizeof looks / sizeof *looks; at++)
        if (strcmp(verb, looks[at].verb) == 0) return see(looks[at].holds, with), PEERAGE_OK;
    for (size_t at = 0; at < sizeof calls / sizeof *calls; at++)
        if (strcmp(verb, calls[at].verb) == 0) return calls[at].call(with);
    for (size_t at = 0; at < sizeof checks / sizeof *checks; at++)
        if (strcmp(verb, checks[at].verb) == 0) return checks[at].check(with), PEERAGE_OK;
    if (strcmp(verb, "join") == 0)
        return peerage_cluster_join(node(with), deadline(with), NULL, ERR);
    if (strcmp(verb, "set_tags") == 0)
        return peerage_cluster_set_tags(node(with), tags_of(need(with, "tags")), NULL, ERR);
    if (strcmp(verb, "update_tag") == 0)
        return peerage_cluster_update_tag(node(with), text(with, "key"), text(with, "value"), NULL,
            ERR);
    if (strcmp(verb, "reload_certificates") == 0)
        return peerage_cluster_reload_certificates(node(with), NULL, ERR);
    if (strcmp(verb, "shutdown") == 0)
        return peerage_cluster_shutdown_now(node(with), NULL, NULL, ERR);
    if (strcmp(verb, "send") == 0) {
        peerage_slice payload = payload_of(need(with, "payload"));
        return peerage_cluster_send(node(with), text(with, "target"), text(with, "topic"),
            payload.data, payload.len, deadline(with), NULL, ERR);
    }
    if (strcmp(verb, "unhandle") == 0) {
        bool was;
        OK(peerage_cluster_unhandle(node(with), text(with, "topic"), &was, ERR));
        if (was != need(with, "expect")->flag) wrong("it was otherwise");
        return PEERAGE_OK;
    }
    if (strcmp(verb, "subscribe") == 0) {
        peerage_events *events;
        OK(peerage_cluster_events(node(with), &events, ERR));
        set_named(subscriptions, need(with, "as")->text, events);
        return PEERAGE_OK;
    }
    wrong("an unknown verb");
    return PEERAGE_OK;
}

/* The error must be the expected one: code, wrong fields, words. */
static void compare(peerage_status status, const json *expected)
{
    const json *fields = json_get(expected, "fields"), *message = json_get(expected, "message");
    if (!is(need(expected, "code"), peerage_code_name(status))) wrong("another code is expected");
    for (const json *name = fields != NULL ? fields->first : NULL; name != NULL; name = name->next) {
        bool found = false;
        for (size_t at = 0; at < peerage_error_field_count(failure); at++)
            found |= same_text(peerage_error_field(failure, at)->field, text_of(name));
        if (!found) wrong(name->text);
    }
    for (size_t at = 0; fields != NULL && at < peerage_error_field_count(failure); at++) {
        const json *name = fields->first;
        while (name != NULL && !same_text(peerage_error_field(failure, at)->field, text_of(name)))
            name = name->next;
        if (name == NULL) wrong("a field too many");
    }
    if (message != NULL && !contains(peerage_error_message(failure), message->text))
        wrong("another message is expected");
}

static void folder(char *path, size_t size, const char *file)
{
    const char *root = getenv("PEERAGE_ROOT");
    snprintf(path, size, "%s/tests/conformance/scenarios%s%s", root != NULL ? root : ".",
        file != NULL ? "/" : "", file != NULL ? file : "");
}

int main(int argc, char **argv)
{
    char path[1024], file[256];
    if (argc != 2) return fprintf(stderr, "usage: %s --list | SCENARIO\n", argv[0]), 2;
    if (strcmp(argv[1], "--list") == 0) {
        folder(path, sizeof path, NULL);
        DIR *open = opendir(path);
        if (open == NULL) return perror(path), 1;
        for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
            const char *end = strstr(entry->d_name, ".json");
            if (end != NULL) printf("%.*s\n", (int)(end - entry->d_name), entry->d_name);
        }
        closedir(open);
        return 0;
    }
    snprintf(file, sizeof file, "%s.json", argv[1]);
    folder(path, sizeof path, file);
    CHECK(mkdtemp(own_folder) != NULL);
    atexit(remove_own_folder);
    OK(peerage_secret_generate(&secrets[0], ERR));
    OK(peerage_secret_generate(&secrets[1], ERR));
    size_t at = 1;
    for (const json *step = need(json_file(path), "steps")->first; step != NULL; step = step->next) {
        const json *verb = step->first, *expected = json_get(step, "error");
        while (strcmp(verb->key, "error") == 0 || strcmp(verb->key, "untyped") == 0)
            verb = verb->next;
        snprintf(where, sizeof where, "%s, step %zu: %s", argv[1], at++, verb->key);
        /* The types of C do not let us say it. */
        if (json_get(step, "untyped") != NULL) continue;
        peerage_status status = play(verb->key, verb);
        if (expected == NULL && status != PEERAGE_OK) wrong("it fails");
        if (expected != NULL && status == PEERAGE_OK) wrong("it succeeds");
        if (expected != NULL) compare(status, expected);
    }
    return 0;
}
