/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Limits of requests and bytes a second. */
#include "block/throttle.h"

#include <string.h>

#define NS 1000000000ull
/* Allowance that is always kept, so that a timer that comes late costs no throughput. */
#define SLACK_NS 10000000ull

static uint64_t kept(const struct throttle *t) {
    uint64_t burst = t->limits.burst_ns;

    return burst > SLACK_NS ? burst : SLACK_NS;
}

void throttle_set(struct throttle *t, const struct block_limits *limits, uint64_t now) {
    t->limits = *limits;
    for (unsigned what = 0; what < 2; what++)
        for (unsigned kind = 0; kind < THROTTLE_KINDS; kind++)
            t->paid[what][kind] = now > kept(t) ? now - kept(t) : 0;
}

bool throttle_active(const struct throttle *t) {
    uint64_t any = 0;

    for (unsigned kind = 0; kind < THROTTLE_KINDS; kind++)
        any |= t->limits.iops[kind] | t->limits.bps[kind];
    return any;
}

static uint64_t rate(const struct throttle *t, unsigned what, unsigned kind) {
    return what ? t->limits.bps[kind] : t->limits.iops[kind];
}

static bool concerns(unsigned kind, bool write) { return !kind || (kind == 2) == write; }

uint64_t throttle_wait(const struct throttle *t, bool write, uint64_t now) {
    uint64_t latest = 0;

    for (unsigned what = 0; what < 2; what++)
        for (unsigned kind = 0; kind < THROTTLE_KINDS; kind++)
            if (concerns(kind, write) && rate(t, what, kind) && t->paid[what][kind] > latest)
                latest = t->paid[what][kind];
    return latest > now ? latest - now : 0;
}

void throttle_charge(struct throttle *t, bool write, uint64_t bytes, uint64_t now) {
    uint64_t oldest = now > kept(t) ? now - kept(t) : 0;

    for (unsigned what = 0; what < 2; what++)
        for (unsigned kind = 0; kind < THROTTLE_KINDS; kind++) {
            uint64_t *paid = &t->paid[what][kind], per_second = rate(t, what, kind);
            uint64_t units = what ? bytes : 1;

            if (!per_second || !concerns(kind, write))
                continue;
            if (*paid < oldest)
                *paid = oldest;
            *paid += (uint64_t)((unsigned __int128)units * NS / per_second);
        }
}
