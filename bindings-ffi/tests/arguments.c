/* What callers get wrong: every argument, every configuration field, every size. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include "generated/tables.h"

static const peerage_str BAD_UTF8 = {"ab\xff", 3};
static const peerage_str NULL_WITH_LENGTH = {NULL, 5};

static void *field_of(peerage_config *config, const table_field *field)
{
    return (char *)config + field->offset;
}

/* The call must fail because of this field alone. */
static void refused(const peerage_config *config, const char *field)
{
    peerage_cluster *cluster;
    FAILS(CONFIG, peerage_cluster_start(config, &cluster, ERR));
    CHECK(cluster == NULL);
    if (!names(failure, field)) {
        fprintf(stderr, "%s: ", field);
        CHECK(!"the field is named, and no other");
    }
    CHECK(peerage_error_field(failure, 0)->expected.len > 0);
    CHECK(peerage_error_field(failure, peerage_error_field_count(failure)) == NULL);
}

static void set_number(peerage_config *config, const table_field *field, uint64_t number)
{
    if (field->kind == KIND_U32)
        *(uint32_t *)field_of(config, field) = (uint32_t)number;
    else
        *(uint64_t *)field_of(config, field) = number;
}

static void every_field_is_refused_by_its_name(void)
{
    peerage_str bad_texts[] = {BAD_UTF8, NULL_WITH_LENGTH};
    peerage_tag bad_keys[] = {{BAD_UTF8, peerage_text("x")}, {peerage_text("x"), BAD_UTF8}};
    for (size_t at = 0; at < sizeof CONFIG_FIELDS / sizeof *CONFIG_FIELDS; at++) {
        const table_field *field = &CONFIG_FIELDS[at];
        peerage_config config = config_for("x");
        switch (field->kind) {
        case KIND_TEXT:
            if (strcmp(field->name, "ca") == 0 || strcmp(field->name, "cert") == 0
                || strcmp(field->name, "key") == 0)
                config.secret = (peerage_str){NULL, 0};
            for (size_t bad = 0; bad < 2; bad++) {
                *(peerage_str *)field_of(&config, field) = bad_texts[bad];
                refused(&config, field->name);
            }
            break;
        case KIND_TEXTS:
            *(peerage_strs *)field_of(&config, field) = (peerage_strs){NULL, 3};
            refused(&config, field->name);
            *(peerage_strs *)field_of(&config, field) = (peerage_strs){&BAD_UTF8, 1};
            refused(&config, field->name);
            break;
        case KIND_TAGS:
            *(peerage_tags *)field_of(&config, field) = (peerage_tags){NULL, 3};
            refused(&config, field->name);
            for (size_t bad = 0; bad < 2; bad++) {
                *(peerage_tags *)field_of(&config, field) = (peerage_tags){&bad_keys[bad], 1};
                refused(&config, field->name);
            }
            break;
        case KIND_FLAG:
            *(uint8_t *)field_of(&config, field) = 2;
            refused(&config, field->name);
            break;
        case KIND_U32:
        case KIND_U64:
            set_number(&config, field, field->max + 1);
            refused(&config, field->name);
            set_number(&config, field, UINT64_MAX);
            refused(&config, field->name);
            /* A probe interval that is too short is also shorter than its time-out. */
            if (field->min > 0 && strcmp(field->name, "probe_interval") != 0) {
                set_number(&config, field, field->min - 1);
                refused(&config, field->name);
            }
            break;
        default:
            CHECK(!"a kind that no configuration field has");
        }
    }
}

static void all_wrong_fields_are_in_one_error(void)
{
    peerage_config config = config_for("");
    peerage_cluster *cluster;
    config.links_max = 0;
    config.seeds = (peerage_strs){&BAD_UTF8, 1};
    FAILS(CONFIG, peerage_cluster_start(&config, &cluster, ERR));
    CHECK(peerage_error_field_count(failure) == 3);
    CHECK(peerage_error_status(failure) == PEERAGE_ERROR_CONFIG);
    config = config_for("x");
    config.secret = peerage_text("tooshort");
    FAILS(CONFIG, peerage_cluster_start(&config, &cluster, ERR));
    CHECK(names(failure, "secret"));
    CHECK(!contains(peerage_error_message(failure), "tooshort"));
    CHECK(!contains(peerage_error_field(failure, 0)->value, "tooshort"));
    config = config_for("x");
    config.secret = (peerage_str){NULL, 0};
    FAILS(CONFIG, peerage_cluster_start(&config, &cluster, ERR));
    CHECK(names(failure, "security"));
}

static void defaults_are_those_of_the_core(void)
{
    peerage_config config;
    OK(peerage_config_init(&config, sizeof config, ERR));
    CHECK(config.struct_size == sizeof config);
    CHECK(config.probe_interval == 1000 && config.links_max == 50);
    CHECK(config.payload_max == 67108864 && same(config.listen, "127.0.0.1:0"));
    CHECK(config.cluster.data == NULL && config.insecure == 0 && config.seeds.count == 0);
}

/* A program that was built with an older or a newer header. */
static void structs_of_other_versions(void)
{
    static const size_t nonsense[] = {0, 1, 7, 8, 24, sizeof(peerage_config) - 1, 4104, SIZE_MAX};
    peerage_config config = config_for("x");
    peerage_cluster *cluster;
    for (size_t at = 0; at < sizeof nonsense / sizeof *nonsense; at++) {
        config.struct_size = nonsense[at];
        FAILS(ARGUMENT, peerage_cluster_start(&config, &cluster, ERR));
        CHECK(names(failure, "struct_size"));
        peerage_config other;
        FAILS(ARGUMENT, peerage_config_init(&other, nonsense[at], ERR));
    }
    /* An older one ends before `gossip_interval`: what lies beyond is not looked at. */
    config = config_for("x");
    config.struct_size = offsetof(peerage_config, gossip_interval);
    memset((char *)&config + config.struct_size, 0xee, sizeof config - config.struct_size);
    OK(peerage_cluster_start(&config, &cluster, ERR));
    peerage_cluster_free(cluster);
    peerage_config untouched;
    memset(&untouched, 0xee, sizeof untouched);
    OK(peerage_config_init(&untouched, offsetof(peerage_config, gossip_interval), ERR));
    CHECK(untouched.probe_interval == 1000 && untouched.gossip_interval == 0xeeeeeeeeeeeeeeee);
    /* A newer one is larger; what it adds must not be set. */
    struct {
        peerage_config known;
        uint64_t added;
    } newer;
    OK(peerage_config_init(&newer.known, sizeof newer, ERR));
    CHECK(newer.added == 0);
    newer.known = config_for("x");
    newer.known.struct_size = sizeof newer;
    OK(peerage_cluster_start(&newer.known, &cluster, ERR));
    peerage_stats stats;
    memset(&stats, 0xee, sizeof stats);
    stats.struct_size = offsetof(peerage_stats, failed);
    OK(peerage_cluster_stats(cluster, &stats, ERR));
    CHECK(stats.alive == 1 && stats.failed == 0xeeeeeeeeeeeeeeee);
    stats.struct_size = 3;
    FAILS(ARGUMENT, peerage_cluster_stats(cluster, &stats, ERR));
    peerage_cluster_free(cluster);
    newer.added = 1;
    FAILS(ARGUMENT, peerage_cluster_start(&newer.known, &cluster, ERR));
    CHECK(names(failure, "struct_size"));
}

#define NULL_IS(field, call) \
    do { \
        FAILS(ARGUMENT, call); \
        CHECK(names(failure, field)); \
    } while (0)

static void null_is_refused_everywhere(void)
{
    peerage_config config = config_for("x");
    peerage_cluster *cluster = start(&config), *none;
    peerage_str text = peerage_text("x");
    peerage_tags tags = {NULL, 0};
    peerage_bytes *bytes;
    peerage_members *members;
    peerage_events *events;
    peerage_batch *batch;
    peerage_stats stats = {.struct_size = sizeof stats};
    const peerage_explanation *explanation;
    uint64_t question;
    int fd;

    NULL_IS("config", peerage_config_init(NULL, sizeof config, ERR));
    NULL_IS("config", peerage_cluster_start(NULL, &none, ERR));
    NULL_IS("cluster", peerage_cluster_start(&config, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_join(NULL, 1, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_set_tags(NULL, tags, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_set_secrets(NULL, (peerage_strs){NULL, 0}, ERR));
    NULL_IS("cluster", peerage_cluster_reload_certificates(NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_update_tag(NULL, text, text, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_remove_tag(NULL, text, NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_explain(NULL, text, NULL, &explanation, ERR));
    NULL_IS("explanation", peerage_cluster_explain(cluster, text, NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_loop_question(NULL, 0, NULL, &question, ERR));
    NULL_IS("question", peerage_cluster_loop_question(cluster, 0, NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_loop_answer(NULL, 1, ERR));
    NULL_IS("cluster", peerage_cluster_stats(NULL, &stats, ERR));
    NULL_IS("stats", peerage_cluster_stats(cluster, NULL, ERR));
    peerage_links *links;
    NULL_IS("cluster", peerage_cluster_links(NULL, &links, ERR));
    NULL_IS("links", peerage_cluster_links(cluster, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_leave(NULL, NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_shutdown_now(NULL, NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_closed(NULL, ERR));
    NULL_IS("cluster", peerage_cluster_members(NULL, &members, ERR));
    NULL_IS("members", peerage_cluster_members(cluster, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_local(NULL, &members, ERR));
    NULL_IS("members", peerage_cluster_local(cluster, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_get(NULL, text, &members, ERR));
    NULL_IS("members", peerage_cluster_get(cluster, text, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_members_with(NULL, tags, &members, ERR));
    NULL_IS("members", peerage_cluster_members_with(cluster, tags, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_request(NULL, text, text, NULL, 0, 1, NULL, &bytes, ERR));
    NULL_IS("answer", peerage_cluster_request(cluster, text, text, NULL, 0, 1, NULL, NULL, ERR));
    NULL_IS("payload", peerage_cluster_request(cluster, text, text, NULL, 9, 1, NULL, &bytes, ERR));
    NULL_IS("payload", peerage_cluster_request(cluster, text, text, "", SIZE_MAX, 1, NULL, &bytes,
        ERR));
    NULL_IS("cluster", peerage_cluster_send(NULL, text, text, NULL, 0, 1, NULL, ERR));
    NULL_IS("payload", peerage_cluster_send(cluster, text, text, NULL, 9, 1, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_handle(NULL, text, echo_handler, NULL, NULL, ERR));
    NULL_IS("handler", peerage_cluster_handle(cluster, text, NULL, NULL, NULL, ERR));
    NULL_IS("cluster", peerage_cluster_unhandle(NULL, text, NULL, ERR));
    NULL_IS("responder", peerage_respond(NULL, NULL, 0, ERR));
    NULL_IS("responder", peerage_respond_error(NULL, text, ERR));
    NULL_IS("cluster", peerage_cluster_events(NULL, &events, ERR));
    NULL_IS("events", peerage_cluster_events(cluster, NULL, ERR));
    NULL_IS("events", peerage_events_next_batch(NULL, 1, 0, NULL, &batch, ERR));
    NULL_IS("events", peerage_events_fd(NULL, &fd, ERR));
    NULL_IS("secret", peerage_secret_generate(NULL, ERR));
    NULL_IS("cancel", peerage_cancel_new(NULL, ERR));
    NULL_IS("cancel", peerage_cancel_trigger(NULL, ERR));
    OK(peerage_cluster_events(cluster, &events, ERR));
    NULL_IS("batch", peerage_events_next_batch(events, 1, 0, NULL, NULL, ERR));
    NULL_IS("max", peerage_events_next_batch(events, 0, 0, NULL, &batch, ERR));
    NULL_IS("fd", peerage_events_fd(events, NULL, ERR));
    peerage_events_free(events);

    /* Without an error object, and with nothing at all. */
    CHECK(peerage_cluster_members(NULL, NULL, NULL) == PEERAGE_ERROR_ARGUMENT);
    CHECK(peerage_cluster_addr(NULL).data == NULL && peerage_cluster_bound_addr(NULL).len == 0);
    CHECK(peerage_members_count(NULL) == 0 && peerage_members_at(NULL, 0) == NULL);
    CHECK(peerage_links_count(NULL) == 0 && peerage_links_at(NULL, 0) == NULL);
    CHECK(peerage_batch_count(NULL) == 0 && peerage_batch_at(NULL, 0) == NULL);
    CHECK(peerage_bytes_view(NULL).len == 0 && peerage_bytes_text(NULL).len == 0);
    CHECK(peerage_error_status(NULL) == PEERAGE_OK && peerage_error_message(NULL).len == 0);
    CHECK(peerage_error_field_count(NULL) == 0 && peerage_error_field(NULL, 0) == NULL);
    CHECK(peerage_error_detail(NULL, text).data == NULL);
    CHECK(!peerage_responder_is_awaited(NULL));
    peerage_cluster_free(NULL);
    peerage_members_free(NULL);
    peerage_links_free(NULL);
    peerage_events_free(NULL);
    peerage_batch_free(NULL);
    peerage_bytes_free(NULL);
    peerage_error_free(NULL);
    peerage_cancel_free(NULL);
    peerage_responder_free(NULL);
    peerage_leave_report_free(NULL);
    peerage_explanation_free(NULL);
    peerage_cluster_free(cluster);
}

static void text_must_be_there_and_utf_8(void)
{
    peerage_config config = config_for("x");
    peerage_cluster *cluster = start(&config);
    peerage_bytes *bytes;
    peerage_members *members;
    const peerage_explanation *explanation;
    peerage_str text = peerage_text("x"), none = {NULL, 0};
    peerage_str bad[] = {BAD_UTF8, NULL_WITH_LENGTH, none};
    for (size_t at = 0; at < 3; at++) {
        NULL_IS("target", peerage_cluster_request(cluster, bad[at], text, NULL, 0, 1, NULL, &bytes,
            ERR));
        NULL_IS("topic", peerage_cluster_request(cluster, text, bad[at], NULL, 0, 1, NULL, &bytes,
            ERR));
        NULL_IS("target", peerage_cluster_send(cluster, bad[at], text, NULL, 0, 1, NULL, ERR));
        NULL_IS("topic", peerage_cluster_send(cluster, text, bad[at], NULL, 0, 1, NULL, ERR));
        NULL_IS("topic", peerage_cluster_handle(cluster, bad[at], echo_handler, NULL, NULL, ERR));
        NULL_IS("topic", peerage_cluster_unhandle(cluster, bad[at], NULL, ERR));
        NULL_IS("id", peerage_cluster_get(cluster, bad[at], &members, ERR));
        NULL_IS("id", peerage_cluster_explain(cluster, bad[at], NULL, &explanation, ERR));
        NULL_IS("key", peerage_cluster_update_tag(cluster, bad[at], text, NULL, ERR));
        NULL_IS("value", peerage_cluster_update_tag(cluster, text, bad[at], NULL, ERR));
        NULL_IS("key", peerage_cluster_remove_tag(cluster, bad[at], NULL, NULL, ERR));
        peerage_tag tag = {text, bad[at]};
        NULL_IS("tags", peerage_cluster_set_tags(cluster, (peerage_tags){&tag, 1}, NULL, ERR));
        NULL_IS("tags", peerage_cluster_members_with(cluster, (peerage_tags){&tag, 1}, &members,
            ERR));
        tag = (peerage_tag){bad[at], text};
        NULL_IS("tags", peerage_cluster_set_tags(cluster, (peerage_tags){&tag, 1}, NULL, ERR));
    }
    NULL_IS("deadline", peerage_cluster_request(cluster, text, text, NULL, 0, 0, NULL, &bytes,
        ERR));
    NULL_IS("deadline", peerage_cluster_join(cluster, 3600001, NULL, ERR));
    NULL_IS("deadline", peerage_cluster_join(cluster, UINT64_MAX - 1, NULL, ERR));
    peerage_cluster_free(cluster);
}

static void numbers_have_names(void)
{
    CHECK(strcmp(peerage_code_name(PEERAGE_OK), "Ok") == 0);
    CHECK(strcmp(peerage_code_name(PEERAGE_ERROR_CANCELLED), "Cancelled") == 0);
    CHECK(strcmp(peerage_code_name(9999), "unknown") == 0);
    CHECK(strcmp(peerage_code_name(INT32_MIN), "unknown") == 0);
    CHECK(strcmp(peerage_event_name(0), "unknown") == 0);
    CHECK(strcmp(peerage_state_name(-1), "unknown") == 0);
    for (size_t at = 0; at < sizeof EVENT_FIELDS / sizeof *EVENT_FIELDS; at++)
        CHECK(strcmp(peerage_event_name(EVENT_FIELDS[at].event), "unknown") != 0);
}

static void a_panic_is_contained(void)
{
    FAILS(PANIC, peerage_echo_panic(ERR));
    CHECK(contains(peerage_error_message(failure), "told to panic"));
    CHECK(peerage_echo_panic(NULL) == PEERAGE_ERROR_PANIC);
}

static void echo_one_text(peerage_str text)
{
    peerage_bytes *echo;
    OK(peerage_echo_text(text, &echo, ERR));
    CHECK(same_text(peerage_bytes_text(echo), text));
    peerage_bytes_free(echo);
    peerage_slice bytes = {(const uint8_t *)text.data, text.len};
    OK(peerage_echo_bytes(bytes, &echo, ERR));
    CHECK(same_text(peerage_bytes_text(echo), text));
    peerage_bytes_free(echo);
}

static void every_type_goes_both_ways(void)
{
    static const uint64_t numbers[] = {0, 1, UINT32_MAX, (uint64_t)1 << 53, ((uint64_t)1 << 53) + 1,
        INT64_MAX, UINT64_MAX};
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) {
        uint64_t echo = 42;
        OK(peerage_echo_number(numbers[at], &echo, ERR));
        CHECK(echo == numbers[at]);
    }
    bool flag = false;
    OK(peerage_echo_flag(1, &flag, ERR));
    CHECK(flag);
    OK(peerage_echo_flag(0, &flag, ERR));
    CHECK(!flag);
    echo_one_text(peerage_text(""));
    echo_one_text(peerage_text("größe 雪 🦀"));
    echo_one_text((peerage_str){"zero\0inside", 11});
    peerage_bytes *bytes;
    FAILS(ARGUMENT, peerage_echo_text(BAD_UTF8, &bytes, ERR));
    OK(peerage_echo_bytes((peerage_slice){(const uint8_t *)"\xff\0", 2}, &bytes, ERR));
    CHECK(peerage_bytes_view(bytes).len == 2 && peerage_bytes_view(bytes).data[0] == 0xff);
    peerage_bytes_free(bytes);
    peerage_tag tags[] = {{peerage_text("b 🦀"), peerage_text("")},
        {peerage_text("a"), {"\0", 1}}};
    peerage_echoed_tags *echo;
    OK(peerage_echo_tags((peerage_tags){tags, 2}, &echo, ERR));
    CHECK(echo->tags.count == 2);
    CHECK(same(echo->tags.items[0].key, "a") && echo->tags.items[0].value.len == 1);
    CHECK(same(echo->tags.items[1].key, "b 🦀") && same(echo->tags.items[1].value, ""));
    peerage_echo_tags_free(echo);
    peerage_bytes *secret;
    OK(peerage_secret_generate(&secret, ERR));
    CHECK(peerage_bytes_text(secret).len >= 32);
    peerage_bytes_free(secret);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        {"every_field_is_refused_by_its_name", every_field_is_refused_by_its_name, true},
        {"all_wrong_fields_are_in_one_error", all_wrong_fields_are_in_one_error, true},
        {"defaults_are_those_of_the_core", defaults_are_those_of_the_core, true},
        {"structs_of_other_versions", structs_of_other_versions, true},
        {"null_is_refused_everywhere", null_is_refused_everywhere, true},
        {"text_must_be_there_and_utf_8", text_must_be_there_and_utf_8, true},
        {"numbers_have_names", numbers_have_names, true},
        {"a_panic_is_contained", a_panic_is_contained, true},
        {"every_type_goes_both_ways", every_type_goes_both_ways, true},
    };
    return RUN(tests);
}
