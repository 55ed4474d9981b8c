/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interval of which the machine knows what was written. It begins with a snapshot that has been
 * written, and ends with the next. One that fails gives its notes back. Not with one that has been
 * loaded: loading itself writes (the guest is told of the pause), in part by KVM.
 *
 * Devices of the host that the machine has (VFIO) write wherever they like, and nobody hears of it:
 * with them nothing is ever known.
 */
#include "machine/dirty.h"

#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "machine/machine_internal.h"

static bool known(const uint8_t *id) {
    static const uint8_t none[SNAPSHOT_ID];

    return memcmp(id, none, SNAPSHOT_ID) != 0;
}

static void forget(struct machine_dirty *d) { memset(d->since, 0, SNAPSHOT_ID); }

/* Software notes from the first on, which costs nothing; KVM when it is worth its price. */
static bool wants(struct machine *m, bool increment) {
    const struct machine_config *config = machine_config(m);

    if (config->dirty == DIRTY_OFF || config->vfio)
        return false;
    return config->dirty != DIRTY_AUTO || increment || !machine_cpu(m, 0)->ops->track;
}

/* False: it could not be begun. */
static bool begin(struct machine *m) {
    struct machine_dirty *d = machine_dirty_of(m);
    struct cpu *cpu = machine_cpu(m, 0);
    struct error err = {0};

    if (!d->tracking && cpu->ops->track && cpu->ops->track(cpu, true, &err) < 0) {
        trace(machine_dirty, err.text);
        return false;
    }
    d->tracking = cpu->ops->collect;
    if (d->tracking)
        dirty_begin(&machine_board(m)->mem);
    return d->tracking;
}

static bool collect(struct machine *m) {
    struct error err = {0};

    for (unsigned i = 0; i < machine_config(m)->cpus; i++) {
        struct cpu *cpu = machine_cpu(m, i);

        if (!cpu->ops->collect || cpu->ops->collect(cpu, &err) < 0) {
            trace(machine_dirty, err.text);
            return false;
        }
    }
    return true;
}

void machine_dirty_take(struct machine *m, bool increment, struct dirty_taken *ret) {
    struct machine_dirty *d = machine_dirty_of(m);
    bool sure = d->tracking && !d->unfinished && known(d->since), begun;

    *ret = (struct dirty_taken){.number = ++d->takes};
    d->unfinished++;
    if (!wants(m, increment) && !d->tracking) {
        forget(d);
        return;
    }
    begun = begin(m) && collect(m);
    ret->log = begun ? dirty_take(&machine_board(m)->mem) : NULL;
    if (!ret->log) { /* this interval is lost, and the next has no beginning */
        ret->number = 0;
    } else if (sure && !machine_config(m)->vfio) {
        memcpy(ret->since, d->since, SNAPSHOT_ID);
        stat_add(machine_dirty_pages, dirty_count(ret->log));
    } else {
        free(ret->log);
        ret->log = NULL;
    }
    forget(d);
}

void machine_dirty_taken(struct machine *m, struct dirty_taken *t, const uint8_t *id) {
    struct machine_dirty *d = machine_dirty_of(m);

    d->unfinished--;
    if (t->number == d->takes && d->tracking &&
        !machine_config(m)->vfio) { /* nobody has taken since */
        if (id) {
            memcpy(d->since, id, SNAPSHOT_ID);
        } else if (t->log) {
            dirty_give_back(&machine_board(m)->mem, t->log);
            memcpy(d->since, t->since, SNAPSHOT_ID);
        }
    }
    free(t->log);
    t->log = NULL;
}

void machine_dirty_everything(struct machine *m) {
    if (machine_dirty_of(m)->tracking)
        dirty_note_all(&machine_board(m)->mem);
}

void machine_dirty_lost(struct machine *m) {
    struct machine_dirty *d = machine_dirty_of(m);

    forget(d);
    d->takes++; /* of those under way, too */
    d->tracking = false;
}
