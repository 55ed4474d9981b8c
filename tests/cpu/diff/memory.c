/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data pages of the differential test. */
#include "cpu/diff/diff.h"

#include <string.h>

unsigned diff_mode_index(unsigned mode) { return mode == 8 ? 0 : mode == 4 ? 1 : 2; }

uint64_t diff_code_base(unsigned mode) { return mode == 2 ? DIFF_CODE : 0; }

uint16_t diff_code_selector(unsigned mode) {
    return mode == 8 ? SEL_CODE64 : mode == 4 ? SEL_CODE32 : SEL_CODE16;
}

int diff_page_index(enum diff_page page) {
    switch (page) {
    case DATA_RW0:
        return 0;
    case DATA_RW1:
        return 1;
    case DATA_RW2:
        return 2;
    case DATA_RO:
        return 3;
    default:
        return -1;
    }
}

void diff_apply_patches(const struct diff_case *k, uint8_t *const pages[4]) {
    for (unsigned i = k->patches; i-- > 0;) { /* of two that overlap the first counts */
        const struct diff_patch *p = &k->patch[i];
        for (unsigned j = 0; j < p->len; j++) {
            uint64_t offset = p->addr + j - DIFF_DATA;
            int index = offset < DATA_PAGES * DIFF_PAGE
                            ? diff_page_index((enum diff_page)(offset / DIFF_PAGE))
                            : -1;
            if (index >= 0)
                pages[index][offset % DIFF_PAGE] = p->bytes[j];
        }
    }
}

static void jump_to_stub(uint8_t bytes[14]) {
    const uint64_t stub = DIFF_STUB;

    memcpy(bytes, "\xff\x25\0\0\0\0", 6); /* jmp [rip+0] */
    memcpy(bytes + 6, &stub, 8);
}

void diff_write_trampoline(uint8_t *code_page) { jump_to_stub(code_page); }

static unsigned append_end(const struct diff_case *k, uint8_t *p) {
    const uint32_t trampoline = DIFF_CODE;
    const uint16_t sel = SEL_CODE64;

    if (k->mode == 8) {
        jump_to_stub(p);
        return 14;
    }
    unsigned n = 0;
    if (k->mode == 2)
        p[n++] = 0x66;
    p[n++] = 0xea; /* jmp far */
    memcpy(p + n, &trampoline, 4);
    memcpy(p + n + 4, &sel, 2);
    return n + 6;
}

void diff_finish_code(struct diff_case *k) {
    unsigned end = k->insns_len + append_end(k, k->code + k->insns_len);

    memset(k->code + end, 0xcc, DIFF_SECOND_END - end);
    k->code_len = (uint8_t)(DIFF_SECOND_END + append_end(k, k->code + DIFF_SECOND_END));
}
