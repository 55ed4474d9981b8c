/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about the dirty bitmaps of disks. */
#include <errno.h>

#include "block/block.h"
#include "block/disk.h"
#include "block/qcow2_bitmap.h"
#include "proto/lines.h"
#include "vm/control.h"
#include "vm/options.h"

static struct qcow2 *find_image(const struct control_call *call, struct error *err) {
    struct block *disk = control_find_disk(call, err);

    return disk ? disk_qcow2(disk, err) : NULL;
}

static const char *name_of(const struct control_call *call) {
    return json_string_value(json_object_get(call->args, "name"));
}

static void add_row(void *opaque, const struct qcow2_bitmap_info *b) {
    json_array_append_new(
        opaque, json_pack("{s:o, s:I, s:b, s:b, s:I}", "name", message_text(b->name), "granularity",
                          (json_int_t)b->granularity, "enabled", (int)b->enabled, "inconsistent",
                          (int)b->inconsistent, "dirty", (json_int_t)b->dirty));
}

static int do_bitmaps(struct control_call *call, struct error *err) {
    struct qcow2 *q = find_image(call, err);
    json_t *list = q ? json_array() : NULL;

    if (!q)
        return err->code;
    qcow2_bitmap_each(q, add_row, list);
    return json_object_set_new(call->result, "bitmaps", list) < 0 ? -ENOMEM : 0;
}

static int do_bitmap_add(struct control_call *call, struct error *err) {
    struct qcow2 *q = find_image(call, err);
    json_int_t granularity = json_integer_value(json_object_get(call->args, "granularity"));
    bool disabled = json_is_true(json_object_get(call->args, "disabled"));

    return q ? qcow2_bitmap_add(q, name_of(call), (uint64_t)granularity, !disabled, err)
             : err->code;
}

static int change(struct control_call *call, enum qcow2_bitmap_change what, struct error *err) {
    struct qcow2 *q = find_image(call, err);

    return q ? qcow2_bitmap_change(q, name_of(call), what, err) : err->code;
}

static int do_bitmap_remove(struct control_call *call, struct error *err) {
    return change(call, QCOW2_BITMAP_REMOVE, err);
}

static int do_bitmap_clear(struct control_call *call, struct error *err) {
    return change(call, QCOW2_BITMAP_CLEAR, err);
}

static int do_bitmap_enable(struct control_call *call, struct error *err) {
    return change(call, QCOW2_BITMAP_ENABLE, err);
}

static int do_bitmap_disable(struct control_call *call, struct error *err) {
    return change(call, QCOW2_BITMAP_DISABLE, err);
}

const struct control_handler control_bitmap_handlers[] = {
    {"bitmaps", do_bitmaps},
    {"bitmap-add", do_bitmap_add},
    {"bitmap-remove", do_bitmap_remove},
    {"bitmap-clear", do_bitmap_clear},
    {"bitmap-enable", do_bitmap_enable},
    {"bitmap-disable", do_bitmap_disable},
    {NULL, NULL},
};
