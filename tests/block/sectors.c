/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sectors with versions. */
#include "block/sectors.h"

#include <string.h>

#include "base/bytes.h"

void sector_fill(uint8_t *p, uint64_t sector, uint32_t version) {
    if (!version) {
        memset(p, 0, SECTOR);
        return;
    }
    for (unsigned i = 0; i < SECTOR; i += 8) {
        store_le32(p + i, version);
        store_le32(p + i + 4, (uint32_t)sector * 64 + i / 8);
    }
}

uint32_t sector_read(const uint8_t *p, uint64_t sector) {
    uint8_t want[SECTOR];
    uint32_t version = load_le32(p);

    sector_fill(want, sector, version);
    assert_memory_equal(p, want, SECTOR);
    return version;
}

void history_begin(struct history *h, uint32_t version) {
    h->version[0] = version;
    h->count = 1;
}

void history_add(struct history *h, uint32_t version) {
    assert_in_range(h->count, 1, MAX_HISTORY - 1);
    h->version[h->count++] = version;
}

void history_flushed(struct history *h) { history_begin(h, h->version[h->count - 1]); }

bool history_allows(const struct history *h, uint32_t version) {
    for (unsigned k = 0; k < h->count; k++)
        if (h->version[k] == version)
            return true;
    return false;
}
