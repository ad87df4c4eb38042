/* A reader of JSON for the conformance scenarios: small, strict enough, and what it takes it keeps,
 * since a test's process ends soon. */
#ifndef JSON_H
#define JSON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { JSON_NULL, JSON_FLAG, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT } json_kind;

typedef struct json json;
struct json {
    json_kind kind;
    bool flag;
    uint64_t number;
    double real;
    /* Of a number: it is no whole one that is not negative. */
    bool odd;
    char *text;
    size_t len;
    /* In an object: this value's name. */
    char *key;
    size_t key_len;
    json *first, *next;
};

typedef struct {
    const char *at, *end;
} json_input;

static json *json_value(json_input *in);

static inline void json_fail(const char *what)
{
    fprintf(stderr, "bad JSON: %s\n", what);
    exit(1);
}

/* Zeroed memory that stays reachable to the end. */
static inline void *json_room(size_t size)
{
    typedef struct block {
        struct block *before;
        max_align_t memory[];
    } block;
    static block *_Atomic all;
    block *room = calloc(1, sizeof *room + size);
    if (room == NULL) json_fail("no memory");
    room->before = atomic_exchange(&all, room);
    return room->memory;
}

static inline char json_peek(json_input *in)
{
    while (in->at < in->end && strchr(" \t\r\n", *in->at) != NULL) in->at++;
    return in->at < in->end ? *in->at : '\0';
}

static inline void json_take(json_input *in, char wanted)
{
    if (json_peek(in) != wanted) json_fail("an unexpected character");
    in->at++;
}

static inline uint32_t json_hex(json_input *in)
{
    uint32_t code = 0;
    for (int digit = 0; digit < 4; digit++) {
        char c = in->at < in->end ? *in->at++ : '\0';
        uint32_t value = (uint32_t)(c >= '0' && c <= '9' ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16);
        if (value > 15) json_fail("no hexadecimal digit");
        code = code * 16 + value;
    }
    return code;
}

/* Writes a code point as UTF-8; how many bytes. */
static inline size_t json_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[more] | (code >> (6 * more)));
    for (size_t at = 1; at <= more; at++)
        out[at] = (char)(0x80u | ((code >> (6 * (more - at))) & 0x3fu));
    return more + 1;
}

/* A text with its length, since it may hold zeros. */
static inline char *json_string(json_input *in, size_t *len)
{
    json_take(in, '"');
    /* No escape grows. */
    char *out = json_room((size_t)(in->end - in->at) + 1);
    *len = 0;
    for (;;) {
        if (in->at >= in->end) json_fail("a text without an end");
        char c = *in->at++;
        if (c == '"') return out;
        if (c != '\\') {
            out[(*len)++] = c;
            continue;
        }
        c = in->at < in->end ? *in->at++ : '\0';
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        const char *name = c != '\0' ? strchr(names, c) : NULL;
        if (name != NULL) {
            out[(*len)++] = values[name - names];
        } else if (c == 'u') {
            uint32_t code = json_hex(in);
            if (code >= 0xd800 && code < 0xdc00 && in->end - in->at > 6 && in->at[1] == 'u') {
                in->at += 2;
                code = 0x10000 + ((code - 0xd800) << 10) + (json_hex(in) - 0xdc00);
            }
            *len += json_utf8(code, out + *len);
        } else {
            json_fail("an unknown escape");
        }
    }
}

static inline bool json_word(json_input *in, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) return false;
    in->at += len;
    return true;
}

static inline void json_items(json_input *in, json *parent, char close)
{
    json **place = &parent->first;
    in->at++;
    while (json_peek(in) != close) {
        size_t key_len = 0;
        char *key = NULL;
        if (close == '}') {
            key = json_string(in, &key_len);
            json_take(in, ':');
        }
        json *item = json_value(in);
        item->key = key;
        item->key_len = key_len;
        *place = item;
        place = &item->next;
        if (json_peek(in) != close) json_take(in, ',');
    }
    in->at++;
}

static inline json *json_value(json_input *in)
{
    json *value = json_room(sizeof *value);
    char c = json_peek(in);
    if (c == '{' || c == '[') {
        value->kind = c == '{' ? JSON_OBJECT : JSON_LIST;
        json_items(in, value, c == '{' ? '}' : ']');
    } else if (c == '"') {
        value->kind = JSON_TEXT;
        value->text = json_string(in, &value->len);
    } else if (json_word(in, "true")) {
        value->kind = JSON_FLAG;
        value->flag = true;
    } else if (json_word(in, "false")) {
        value->kind = JSON_FLAG;
    } else if (!json_word(in, "null")) {
        value->kind = JSON_NUMBER;
        const char *begin = in->at;
        while (in->at < in->end && strchr("+-.eE0123456789", *in->at) != NULL) {
            value->odd |= *in->at < '0' || *in->at > '9';
            in->at++;
        }
        if (in->at == begin) json_fail("no value");
        if (!value->odd) value->number = strtoull(begin, NULL, 10);
        value->real = strtod(begin, NULL);
    }
    return value;
}

/* The whole of a file. */
static inline json *json_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) json_fail(path);
    const size_t room = 1 << 20;
    char *text = json_room(room);
    size_t size = fread(text, 1, room, file);
    if (size == room) json_fail("the file is too long");
    fclose(file);
    json_input in = {text, text + size};
    json *value = json_value(&in);
    if (json_peek(&in) != '\0') json_fail("something after the end");
    return value;
}

/* An object's value by its name; NULL if it has none. */
static inline const json *json_get(const json *object, const char *name)
{
    if (object == NULL || object->kind != JSON_OBJECT) return NULL;
    for (const json *item = object->first; item != NULL; item = item->next)
        if (item->key_len == strlen(name) && memcmp(item->key, name, item->key_len) == 0)
            return item;
    return NULL;
}

static inline size_t json_count(const json *list)
{
    size_t count = 0;
    for (const json *item = list->first; item != NULL; item = item->next) count++;
    return count;
}

#endif
