/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the loader of saved state gets any bytes; what it accepts must survive a round trip.
 */
#include <stdlib.h>
#include <string.h>

#include "state/state.h"

struct part {
    uint16_t count;
    uint8_t mode;
    bool gate;
};

struct whole {
    struct part part[3], one;
    uint64_t deadline;
    int32_t offset;
    uint32_t words[4];
    uint8_t bytes[8];
    uint8_t index;
    uint8_t added;
};

static const struct state_desc part_state = {
    .name = "part",
    .version = 2,
    .fields =
        (const struct state_field[]){STATE(struct part, count), STATE_MAX(struct part, mode, 5),
                                     STATE_SINCE(struct part, gate, 2), STATE_END},
};

static int whole_validate(const void *obj, struct error *err) {
    const struct whole *w = obj;

    if (w->bytes[w->index] == 0xff)
        return error_set(err, -1, "whole: the byte at the index may not be ff");
    return 0;
}

static const struct state_desc whole_state = {
    .name = "w",
    .version = 3,
    .fields =
        (const struct state_field[]){
            STATE_SUB_ARRAY(struct whole, part, &part_state),
            STATE_SUB(struct whole, one, &part_state), STATE(struct whole, deadline),
            STATE(struct whole, offset), STATE_ARRAY(struct whole, words),
            STATE_BYTES(struct whole, bytes), STATE_MAX(struct whole, index, 7),
            STATE_SINCE(struct whole, added, 3), STATE_END},
    .validate = whole_validate,
    .struct_size = sizeof(struct whole),
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct whole a, before, b = {0};
    struct buf out = {0};
    struct error err = {0};

    /* The first byte chooses: raw bytes, or a good stream with the rest laid over its end. */
    memset(&a, 1, sizeof(a));
    before = a;
    if (size && data[0] & 1) {
        state_save(&whole_state, &b, &out);
        size = size - 1 < out.len ? size - 1 : out.len;
        if (size) /* data[0] is not laid over */
            memcpy(out.data + out.len - size, data + 1, size);
    } else {
        buf_put(&out, data + (size > 0), size - (size > 0));
    }
    if (state_load(&whole_state, &a, out.data, out.len, &err) < 0) {
        if (memcmp(&a, &before, sizeof(a)) || !err.text[0])
            abort();
    } else {
        struct buf again = {0};

        if (a.index > 7 || a.part[2].mode > 5)
            abort();
        state_save(&whole_state, &a, &again);
        if (state_load(&whole_state, &b, again.data, again.len, &err) < 0 ||
            !state_equal(&whole_state, &a, &b))
            abort();
        state_json(&whole_state, &a, &again);
        buf_done(&again);
    }
    buf_done(&out);
    return 0;
}
