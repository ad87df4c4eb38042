/* Whether evidence is as tests/conformance/README.md says. */
#ifndef EVIDENCE_H
#define EVIDENCE_H

#include <math.h>

#include "check.h"

static inline bool phi_is_sound(double phi)
{
    return isnan(phi) || (phi >= 0 && phi <= 1000);
}

static inline bool are_sound(peerage_observation_list seen)
{
    static const char *const directions[] = {"fromMember", "toMember", "both", "unknown"};
    if ((seen.count == 0) != (seen.items == NULL)) return false;
    for (size_t at = 0; at < seen.count; at++) {
        const peerage_observation *one = seen.items[at];
        bool known = false;
        for (size_t way = 0; way < sizeof directions / sizeof *directions; way++)
            known = known || same(one->direction, directions[way]);
        if (!known || !phi_is_sound(one->phi) || one->health_score > 8 || one->observer.len == 0)
            return false;
    }
    return true;
}

/* What happened is in its order, and all observations are sound. */
static inline bool is_sound(const peerage_explanation *explanation)
{
    peerage_happened_list history = explanation->history;
    for (size_t at = 0; at < history.count; at++) {
        if (at > 0 && history.items[at]->ago > history.items[at - 1]->ago) return false;
        if (!are_sound(history.items[at]->observers)) return false;
    }
    return phi_is_sound(explanation->phi) && are_sound(explanation->observers);
}

#endif
