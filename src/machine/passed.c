/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host. They write where the guest has told them to, past all that the process knows
 * of: so all memory is pinned for them, and stays what it is.
 */
#include "machine/passed.h"

#include "base/log.h"
#include "devices/vfio_pci.h"
#include "devices/virtio/virtio_mem.h"
#include "machine/map.h"
#include "vfio/host.h"

/* What was pinned would no longer be what the guest sees there. */
static void hold_memory(struct board *b) {
    if (!b->mem.kept && b->balloon)
        log_notice("the machine has a device of the host, for which its memory is pinned: the "
                   "balloon and free pages give nothing back to the host");
    b->mem.kept = b->seen.kept = true;
}

int passed_add(struct board *b, const struct machine_config *m, unsigned i, struct error *err) {
    struct vfio_pci_config c = {.function = m->passed[i]};
    struct machine_site at;
    int r = board_choose_site(b, m, "vfio_pci", NULL, &at, err);

    if (r == 0)
        r = board_add_at(b, "vfio_pci", &c, &at, &b->passed[i], err);
    if (r == 0)
        hold_memory(b);
    return r;
}

/* In the blocks in which it comes and goes: what is mapped in one piece goes in one. */
static int map_room(struct board *b, uint64_t from, uint64_t to, struct error *err) {
    const struct mem_range *r = mem_find(&b->mem, map_plugged(b->memory));
    int result = 0;

    for (; r && result == 0 && from < to; from += VIRTIO_MEM_BLOCK)
        result = vfio_map(b->vfio, r->base + from, r->host + from, VIRTIO_MEM_BLOCK, err);
    return result;
}

void passed_show(struct board *b, uint64_t bytes) {
    uint64_t base = map_plugged(b->memory), end = b->passed_room;
    struct error err = {0};

    b->passed_room = bytes;
    if (!b->vfio)
        return;
    if (map_room(b, end, bytes, &err) < 0)
        log_error("a device of the host does not reach the memory that was plugged in: %s",
                  err.text);
    for (; end > bytes; end -= VIRTIO_MEM_BLOCK)
        vfio_unmap(b->vfio, base + end - VIRTIO_MEM_BLOCK, VIRTIO_MEM_BLOCK);
}

int passed_map(struct board *b, struct vfio_host *host, struct error *err) {
    int r = 0;

    if (b->vfio)
        return 0;
    for (unsigned i = 0; r == 0 && i < b->mem.count; i++) {
        const struct mem_range *range = &b->mem.range[i];

        if (!range->readonly && !range->moving && !range->room)
            r = vfio_map(host, range->base, range->host, range->size, err);
    }
    if (r < 0)
        return r;
    b->vfio = host;
    return map_room(b, 0, b->passed_room, err);
}
