/* What the steps of a scenario speak of: nodes and other things by name, and values as C has them. */
#ifndef SCENE_H
#define SCENE_H

#include "check.h"
#include "generated/tables.h"
#include "json.h"

#define NAMED_MAX 32

typedef struct {
    char name[300];
    void *thing;
} named;

static named nodes[NAMED_MAX], subscriptions[NAMED_MAX], keepers[NAMED_MAX];
static peerage_bytes *secrets[2];
/* The scenario's own folder. */
static char own_folder[] = "/tmp/peerage-XXXXXX";
static char where[400];

/* What is wrong with the step that is played. */
static inline void wrong(const char *what)
{
    fprintf(stderr, "%s: %s\n", where, what);
    if (failure != NULL)
        fprintf(stderr, "%s: " PEERAGE_FORMAT "\n",
            peerage_code_name(peerage_error_status(failure)),
            PEERAGE_PRINT(peerage_error_message(failure)));
    exit(1);
}

static inline void *named_thing(const named *list, const char *name)
{
    for (size_t at = 0; at < NAMED_MAX; at++)
        if (list[at].thing != NULL && strcmp(list[at].name, name) == 0) return list[at].thing;
    wrong("an unknown name");
    return NULL;
}

static inline void set_named(named *list, const char *name, void *thing)
{
    size_t at = 0;
    while (at < NAMED_MAX && list[at].thing != NULL && strcmp(list[at].name, name) != 0) at++;
    if (at == NAMED_MAX) wrong("too many names");
    snprintf(list[at].name, sizeof list[at].name, "%s", name);
    list[at].thing = thing;
}

static inline const json *need(const json *with, const char *name)
{
    const json *value = json_get(with, name);
    if (value == NULL) wrong(name);
    return value;
}

static inline peerage_str text_of(const json *value)
{
    return (peerage_str){value->text, value->len};
}

static inline peerage_str text(const json *with, const char *name)
{
    return text_of(need(with, name));
}

static inline peerage_cluster *node(const json *with)
{
    return named_thing(nodes, need(with, "node")->text);
}

static inline uint64_t deadline(const json *with)
{
    const json *given = json_get(with, "deadline");
    return given == NULL ? PEERAGE_DEFAULT : need(given, "ms")->number;
}

static inline bool is(const json *value, const char *expected)
{
    return value != NULL && value->kind == JSON_TEXT && strcmp(value->text, expected) == 0;
}

static inline peerage_tags tags_of(const json *object)
{
    static const peerage_tags none = {NULL, 0};
    size_t count = json_count(object), at = 0;
    if (count == 0) return none;
    peerage_tag *tags = json_room(count * sizeof *tags);
    for (const json *item = object->first; item != NULL; item = item->next)
        tags[at++] = (peerage_tag){{item->key, item->key_len}, text_of(item)};
    return (peerage_tags){tags, count};
}

static inline peerage_slice payload_of(const json *value)
{
    const json *given = json_get(value, "text");
    if (given != NULL) return (peerage_slice){(const uint8_t *)given->text, given->len};
    uint8_t *bytes;
    if ((given = json_get(value, "hex")) != NULL) {
        bytes = json_room(given->len / 2 + 1);
        for (size_t at = 0; at < given->len / 2; at++) {
            char digits[3] = {given->text[2 * at], given->text[2 * at + 1], 0};
            bytes[at] = (uint8_t)strtoul(digits, NULL, 16);
        }
        return (peerage_slice){bytes, given->len / 2};
    }
    given = need(value, "repeat")->first;
    size_t len = (size_t)given->next->number;
    bytes = json_room(len + 1);
    memset(bytes, (int)given->number, len);
    return (peerage_slice){bytes, len};
}

static inline bool same_bytes(peerage_slice a, peerage_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline peerage_str file_in(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = json_room(size);
    snprintf(path, size, "%s/%s", folder, name);
    return peerage_text(path);
}

/* Secrets, files and addresses by their names. */
static inline peerage_str meant(const json *value)
{
    if (is(value, "@secret")) return peerage_bytes_text(secrets[0]);
    if (is(value, "@other-secret")) return peerage_bytes_text(secrets[1]);
    if (value->len > 5 && strncmp(value->text, "@dir/", 5) == 0)
        return file_in(own_folder, value->text + 5);
    if (value->len > 14 && strncmp(value->text, "@certificates/", 14) == 0) {
        const char *made = getenv("PEERAGE_CERTIFICATES");
        if (made == NULL) wrong("run this by `cargo xtask test`, which makes certificates");
        return file_in(made, value->text + 14);
    }
    if (value->len > 0 && value->text[0] == '@')
        return peerage_cluster_addr(named_thing(nodes, value->text + 1));
    return text_of(value);
}

static inline void set_field(peerage_config *config, const json *value)
{
    for (size_t at = 0; at < sizeof CONFIG_FIELDS / sizeof *CONFIG_FIELDS; at++) {
        const table_field *field = &CONFIG_FIELDS[at];
        void *place = (char *)config + field->offset;
        if (strcmp(field->name, value->key) != 0) continue;
        const json *ms = json_get(value, "ms");
        uint64_t number = ms != NULL ? ms->number : value->number;
        size_t count = json_count(value), n = 0;
        switch (field->kind) {
        case KIND_TEXT:
            *(peerage_str *)place = value->kind == JSON_NULL ? (peerage_str){NULL, 0}
                : meant(value);
            return;
        case KIND_TEXTS: {
            peerage_str *texts = json_room((count + 1) * sizeof *texts);
            for (const json *item = value->first; item != NULL; item = item->next)
                texts[n++] = meant(item);
            *(peerage_strs *)place = (peerage_strs){texts, count};
            return;
        }
        case KIND_TAGS: *(peerage_tags *)place = tags_of(value); return;
        case KIND_FLAG: *(uint8_t *)place = value->flag; return;
        case KIND_U32: *(uint32_t *)place = (uint32_t)number; return;
        default: *(uint64_t *)place = number; return;
        }
    }
    wrong("an unknown configuration field");
}

#endif
