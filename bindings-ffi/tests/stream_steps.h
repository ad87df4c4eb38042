/* The steps of scenarios that are about streams. */
#ifndef STREAM_STEPS_H
#define STREAM_STEPS_H

#include "scene.h"
#include "stream_handlers.h"

static named streams[NAMED_MAX];

static inline peerage_stream *stream(const json *with)
{
    return named_thing(streams, need(with, "stream")->text);
}

static inline peerage_status handle_streams(const json *with)
{
    const json *does = need(with, "does");
    peerage_stream_handler handler = is(does, "echo") ? stream_echo
        : is(does, "fail") ? stream_fail : is(does, "give_up") ? stream_give_up
        : is(does, "leave_unfinished") ? stream_leave_unfinished
        : is(does, "ignore") ? stream_ignore : NULL;
    return peerage_cluster_handle_streams(node(with), text(with, "topic"), handler, NULL, NULL, ERR);
}

static inline peerage_status unhandle_streams(const json *with)
{
    bool was;
    OK(peerage_cluster_unhandle_streams(node(with), text(with, "topic"), &was, ERR));
    if (was != need(with, "expect")->flag) wrong("it was otherwise");
    return PEERAGE_OK;
}

static inline peerage_status open_stream(const json *with)
{
    peerage_stream *opened;
    peerage_status status = peerage_cluster_open_stream(node(with), text(with, "target"),
        text(with, "topic"), deadline(with), NULL, &opened, ERR);
    if (status == PEERAGE_OK) set_named(streams, need(with, "as")->text, opened);
    return status;
}

static inline peerage_status stream_write(const json *with)
{
    peerage_slice bytes = payload_of(need(with, "payload"));
    return peerage_stream_write(stream(with), bytes.data, bytes.len, deadline(with), NULL, ERR);
}

static inline peerage_status stream_write_until_it_fails(const json *with)
{
    static const char zeros[1000];
    for (;;) {
        peerage_status status = peerage_stream_write(stream(with), zeros, sizeof zeros,
            PEERAGE_FOREVER, NULL, ERR);
        if (status != PEERAGE_OK) return status;
    }
}

static inline peerage_status stream_sent(const json *with)
{
    if (peerage_stream_sent(stream(with)) != need(with, "expect")->number) wrong("others were sent");
    return PEERAGE_OK;
}

static inline peerage_status stream_finish(const json *with)
{
    return peerage_stream_finish(stream(with), PEERAGE_FOREVER, NULL, ERR);
}

static inline peerage_status stream_read(const json *with)
{
    peerage_slice expected = payload_of(need(with, "expect"));
    for (size_t at = 0; at < expected.len;) {
        peerage_bytes *chunk;
        peerage_status status = peerage_stream_read(stream(with), deadline(with), NULL, &chunk, ERR);
        if (status != PEERAGE_OK) return status;
        peerage_slice bytes = peerage_bytes_view(chunk);
        if (chunk == NULL) wrong("the end comes early");
        if (bytes.len > expected.len - at
            || !same_bytes(bytes, (peerage_slice){expected.data + at, bytes.len}))
            wrong("others were read");
        at += bytes.len;
        peerage_bytes_free(chunk);
    }
    return PEERAGE_OK;
}

static inline peerage_status stream_read_end(const json *with)
{
    peerage_bytes *chunk;
    peerage_status status = peerage_stream_read(stream(with), PEERAGE_FOREVER, NULL, &chunk, ERR);
    if (chunk != NULL) wrong("there is more");
    return status;
}

static inline peerage_status stream_reset(const json *with)
{
    return peerage_stream_reset(stream(with), (uint32_t)need(with, "code")->number, ERR);
}

static inline peerage_status stream_stop(const json *with)
{
    return peerage_stream_stop(stream(with), (uint32_t)need(with, "code")->number, ERR);
}

static inline peerage_status close_stream(const json *with)
{
    peerage_stream_free(stream(with));
    set_named(streams, need(with, "stream")->text, NULL);
    return PEERAGE_OK;
}

#endif
