/* What tests do with streams that another node opens. */
#ifndef STREAM_HANDLERS_H
#define STREAM_HANDLERS_H

#include "check.h"

#include <stdatomic.h>

/* Writes back what it reads. */
static inline void stream_echo(void *data, peerage_stream *stream)
{
    (void)data;
    peerage_bytes *chunk = NULL;
    while (peerage_stream_read(stream, PEERAGE_FOREVER, NULL, &chunk, NULL) == PEERAGE_OK
        && chunk != NULL) {
        peerage_slice bytes = peerage_bytes_view(chunk);
        peerage_stream_write(stream, bytes.data, bytes.len, PEERAGE_FOREVER, NULL, NULL);
        peerage_bytes_free(chunk);
        chunk = NULL;
    }
    peerage_stream_finish(stream, PATIENCE_MS, NULL, NULL);
    peerage_stream_free(stream);
}

static inline void stream_fail(void *data, peerage_stream *stream)
{
    (void)data;
    peerage_stream_fail(stream, peerage_text("told to fail"), NULL);
    peerage_stream_free(stream);
}

static inline void stream_give_up(void *data, peerage_stream *stream)
{
    (void)data;
    peerage_stream_reset(stream, 7, NULL);
    peerage_stream_stop(stream, 8, NULL);
    peerage_stream_free(stream);
}

static inline void stream_leave_unfinished(void *data, peerage_stream *stream)
{
    (void)data;
    peerage_stream_free(stream);
}

/* Nobody reads it, and it is reachable to the end. */
static inline void stream_ignore(void *data, peerage_stream *stream)
{
    static peerage_stream *ignored[64];
    static atomic_size_t count;
    (void)data;
    size_t at = atomic_fetch_add(&count, 1);
    if (at < sizeof ignored / sizeof *ignored) ignored[at] = stream;
}

#endif
