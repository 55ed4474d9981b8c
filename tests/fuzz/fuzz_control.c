/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes to the control socket of a machine: nothing breaks, and a client that behaves is
 * answered afterwards. A byte 0 in the input is a place where the sender waits, a byte 1 one where
 * it reads.
 */
#include <stdlib.h>
#include <string.h>

#include "vm/control_box.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct control_box box;

static void check(bool good) {
    if (!good)
        abort();
}

static bool is_mark(uint8_t byte) { return byte <= 1; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct raw_client rude, good;
    json_t *m;

    if (memmem(data, size, "snapshot", 8))
        return -1; /* it writes where it is told to */
    if (!box.loop)
        control_box_make(&box, false);
    raw_open(&rude, &box);
    for (size_t i = 0, end; i < size; i = end + 1) {
        for (end = i; end < size && !is_mark(data[end]);)
            end++;
        raw_send(&rude, (const char *)data + i, end - i);
        control_box_run(&box);
        if (end < size && data[end] == 1)
            json_decref(raw_hear(&rude));
    }
    raw_open(&good, &box);
    json_decref(raw_hear(&good));
    raw_say(&good, "{\"id\": 5, \"command\": \"jobs\"}");
    m = raw_hear(&good);
    check(json_integer_value(json_object_get(m, "id")) == 5 && json_object_get(m, "result"));
    json_decref(m);
    raw_close(&good);
    raw_close(&rude);
    control_box_run(&box);
    return 0;
}
