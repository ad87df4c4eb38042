/* The library's echo mode, for tests and benchmarks; no part of the interface. */
#ifndef ECHO_H
#define ECHO_H

#include <peerage.h>

typedef struct peerage_echoed_tags {
    peerage_tags tags;
} peerage_echoed_tags;

#ifdef __cplusplus
extern "C" {
#endif
peerage_status peerage_echo_events(uint64_t count, peerage_events **events, peerage_error **error);
peerage_status peerage_echo_text(peerage_str text, peerage_bytes **echo, peerage_error **error);
peerage_status peerage_echo_bytes(peerage_slice bytes, peerage_bytes **echo, peerage_error **error);
peerage_status peerage_echo_number(uint64_t number, uint64_t *echo, peerage_error **error);
peerage_status peerage_echo_flag(uint8_t flag, bool *echo, peerage_error **error);
peerage_status peerage_echo_tags(peerage_tags tags, peerage_echoed_tags **echo,
    peerage_error **error);
void peerage_echo_tags_free(peerage_echoed_tags *tags);
peerage_status peerage_echo_panic(peerage_error **error);
#ifdef __cplusplus
}
#endif

#endif
