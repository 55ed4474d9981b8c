/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was used in the past, in a file that never grows beyond some megabytes: rings of seconds for
 * a day, of minutes for a week and of hours for a year. A place in a ring belongs to a time, and a
 * record says which time it is of and carries a checksum, so that nothing has to be put in order
 * after a crash or when the clock was set: what is not of its time is not there.
 *
 * Contract: may block, for workers. One writer at a time, readers beside it. Times are seconds
 * since 1970. 0 or a negative errno.
 */
#ifndef HOST_HISTORY_FILE_H
#define HOST_HISTORY_FILE_H

#include <stdint.h>

enum { HISTORY_FIELDS = 8, HISTORY_TIERS = 3, HISTORY_MOST_POINTS = 4000 };

struct history_sample {
    int64_t time;
    float value[HISTORY_FIELDS];
};

struct history_point { /* of a step; count 0: nothing is known */
    uint32_t count;
    float min[HISTORY_FIELDS], avg[HISTORY_FIELDS], max[HISTORY_FIELDS];
};

struct history_range {
    int64_t from, to; /* multiples of step; `to` is not part of it */
    int64_t step;
};

/* Samples in order of time. What they add to minutes and hours is written as well. */
int history_write(int fd, const struct history_sample *s, unsigned count);
/* Makes of what is wanted (step 0: some 300 points) what can be answered at `now`: the step is one
 * that is kept for so long ago. -E2BIG: more than HISTORY_MOST_POINTS. */
int history_fit(struct history_range *r, int64_t now);
/* One point for each step of a range that fits. */
int history_read(int fd, const struct history_range *r, struct history_point *points);
/* Adds a sample that is in no file yet. */
void history_point_add(const struct history_range *r, struct history_point *points,
                       const struct history_sample *s);

#endif
