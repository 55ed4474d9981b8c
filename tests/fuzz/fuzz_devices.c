/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: a guest, a host and a snapshot against every device class. The first byte chooses
 * the class, the rest are acts (tests/devices/rig.h). DEVICES_LOG=1 prints them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/rig.h"
#include "support/test.h"

enum { MAX_ACTS = 400 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct device_class *choose_class(uint8_t choice) {
    const char *only = getenv("DEVICES_CLASS");
    unsigned count = 0;

    if (only)
        return device_class_find(only);
    while (device_classes[count])
        count++;
    return device_classes[choice % count];
}

/* A snapshot of this moment with some fields changed, or with some bytes overwritten. */
static void load_damaged(struct rig *r, struct choices *c) {
    struct rng rng = rng_seed(choices_draw(c, 2));
    struct device *draft = malloc(r->cls->size);
    struct buf bytes = {0};
    struct error err = {0};

    if (!draft)
        abort();
    memcpy(draft, r->dev, r->cls->size);
    for (uint64_t n = rng_below(&rng, 6); n; n--)
        rig_disturb(r->cls->state, draft, &rng);
    state_save(r->cls->state, draft, &bytes);
    free(draft);
    if (rng_below(&rng, 4) == 0)
        bytes.data[choices_draw(c, 2) % bytes.len] ^= (uint8_t)choices_draw(c, 1);
    if (rng_below(&rng, 16) == 0)
        bytes.len = choices_draw(c, 2) % bytes.len;
    if (state_load(r->cls->state, r->dev, bytes.data, bytes.len, &err) < 0 && !err.text[0])
        abort();
    buf_done(&bytes);
}

/* What is saved must be loadable by the device that saved it. */
static void save_and_load(struct rig *r) {
    struct buf bytes = {0};

    state_save(r->cls->state, r->dev, &bytes);
    if (state_load(r->cls->state, r->dev, bytes.data, bytes.len, NULL) < 0)
        abort();
    buf_done(&bytes);
}

static void one_act(struct rig *r, struct choices *c, bool log) {
    uint64_t how = choices_draw(c, 1);
    struct rig_act a;

    if (how == 255) {
        load_damaged(r, c);
    } else if (how == 254) {
        save_and_load(r);
    } else {
        a = rig_draw(r, c);
        if (log)
            rig_print_act(r, &a);
        rig_do(r, &a);
    }
    if (r->flooded) {
        fprintf(stderr, "%s: a timer fires more than once a microsecond\n", r->cls->name);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct choices c = {.p = data + 1, .left = size - 1};
    bool log = getenv("DEVICES_LOG") != NULL;
    struct rig r;

    if (!size)
        return 0;
    rig_open(&r, choose_class(data[0]), 0, true);
    for (unsigned n = 0; n < MAX_ACTS && c.left; n++)
        one_act(&r, &c, log);
    rig_close(&r);
    return 0;
}
