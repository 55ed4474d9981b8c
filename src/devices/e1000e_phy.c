/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 82574L's transceiver by MDIC, and its configuration memory by EERD. Source: 82574 datasheet
 * 2.5, 5.7 (management data), 6.1 (map of the NVM), 10.2.2.7 (MDIC). */
#include "base/bytes.h"
#include "devices/e1000e_internal.h"

// clang-format off
enum { BMCR, BMSR, ID1, ID2, ADVERTISE, PARTNER, EXPANSION, CTRL_1000 = 9, STATUS_1000T, EXT_STATUS = 15, SPECIFIC_CTRL, SPECIFIC_STATUS,
       PAGE = 22 };
enum { BMCR_RESET = 0x8000, BMCR_RESTART = 0x200, BMSR_LINK = 4, BMSR_DONE = 0x20, SPECIFIC_LINK = 0x0400 };
enum { MDIC_PHY = 1, MDIC_WRITE = 1, MDIC_READ = 2, MDIC_READY = 1 << 28, MDIC_INTERRUPT = 1 << 29, MDIC_ERROR = 1 << 30 };
enum { NVM_SUM_AT = 0x3f, NVM_SUM = 0xbaba, EERD_START = 1, EERD_DONE = 2 };
// clang-format on

void e1000e_phy_reset(struct e1000e *d) {
    static const uint16_t start[E1000E_PHY_REGS] = {
        [BMCR] = 0x1140,       [BMSR] = 0x7949,         [ID1] = 0x0141,
        [ID2] = 0x0cb1,        [ADVERTISE] = 0x0de1,    [PARTNER] = 0xcde1,
        [EXPANSION] = 0x000f,  [CTRL_1000] = 0x0e00,    [STATUS_1000T] = 0x7c00,
        [EXT_STATUS] = 0x3000, [SPECIFIC_CTRL] = 0x0078};

    memcpy(d->phy, start, sizeof(d->phy));
}

static uint16_t phy_read(const struct e1000e *d, unsigned reg) {
    bool link = e1000e_link(d);

    if (reg == PAGE)
        return d->phy[reg];
    if (d->phy[PAGE] & 0xff) /* other pages are for waking up, and hold nothing here */
        return 0;
    switch (reg) {
    case BMSR:
        return d->phy[reg] | (link ? BMSR_LINK | BMSR_DONE : 0);
    case PARTNER:
    case STATUS_1000T:
        return link ? d->phy[reg] : 0;
    case SPECIFIC_STATUS: /* 1000 Mb/s, full duplex, settled */
        return link ? 0xa800 | SPECIFIC_LINK : 0;
    default:
        return d->phy[reg];
    }
}

static void phy_write(struct e1000e *d, unsigned reg, uint16_t value) {
    if (reg != PAGE && d->phy[PAGE] & 0xff)
        return;
    switch (reg) {
    case BMCR:
        if (value & BMCR_RESET)
            e1000e_phy_reset(d);
        d->phy[reg] = value & (uint16_t) ~(BMCR_RESET | BMCR_RESTART);
        return;
    case BMSR:
    case ID1:
    case ID2:
    case PARTNER:
    case EXPANSION:
    case STATUS_1000T:
    case EXT_STATUS:
    case SPECIFIC_STATUS:
        return;
    default:
        d->phy[reg] = value;
    }
}

void e1000e_mdic(struct e1000e *d, uint32_t value) {
    unsigned reg = value >> 16 & 31, phy = value >> 21 & 31, op = value >> 26 & 3;
    uint32_t result = value & ~(uint32_t)(MDIC_ERROR | MDIC_READY);

    if (phy != MDIC_PHY)
        result |= MDIC_ERROR;
    else if (op == MDIC_WRITE)
        phy_write(d, reg, (uint16_t)value);
    else if (op == MDIC_READ)
        result = (result & ~0xffffu) | phy_read(d, reg);
    *e1000e_reg(d, R_MDIC) = result | MDIC_READY;
    if (value & MDIC_INTERRUPT)
        e1000e_cause(d, INT_MDAC);
}

void e1000e_nvm_make(struct e1000e *d) {
    static const uint16_t start[E1000E_NVM_WORDS] = {
        [0x03] = 0x0420, [0x04] = 0xf746, [0x05] = 0x2010, [0x06] = 0xffff, [0x07] = 0xffff,
        [0x0a] = 0x026b, [0x0b] = 0x0000, [0x0c] = 0x8086, [0x0d] = 0x10d3, [0x0e] = 0x8086,
        [0x0f] = 0x8058, [0x14] = 0x2001, [0x15] = 0x7e7e, [0x16] = 0xffff, [0x17] = 0x1000,
        [0x18] = 0x00c8, [0x1a] = 0x2704, [0x1b] = 0x6cc9, [0x1c] = 0x3150, [0x1e] = 0x070e,
        [0x1f] = 0x460b, [0x20] = 0x2d84, [0x21] = 0x0100, [0x22] = 0xf000, [0x23] = 0x0706};
    uint16_t sum = 0;

    memcpy(d->nvm, start, sizeof(d->nvm));
    for (unsigned i = 0; i < 3; i++)
        d->nvm[i] = load_le16(d->mac + (size_t)2 * i);
    for (unsigned i = 0; i < NVM_SUM_AT; i++)
        sum = (uint16_t)(sum + d->nvm[i]);
    d->nvm[NVM_SUM_AT] = (uint16_t)(NVM_SUM - sum);
}

void e1000e_eerd(struct e1000e *d, uint32_t value) {
    unsigned word = value >> 2 & 0x3fff;

    if (value & EERD_START)
        value = (uint32_t)(word < E1000E_NVM_WORDS ? d->nvm[word] : 0xffff) << 16 | word << 2 |
                EERD_DONE;
    *e1000e_reg(d, R_EERD) = value;
}
