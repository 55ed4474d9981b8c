/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the 82574L share: its registers, and the way between them. */
#ifndef DEVICES_E1000E_INTERNAL_H
#define DEVICES_E1000E_INTERNAL_H

#include "bus/clock.h"
#include "devices/e1000e.h"
#include "devices/pci.h"

// clang-format off
enum { /* offsets of registers (datasheet 10.1.2) */
    R_CTRL = 0x0000, R_STATUS = 0x0008, R_EECD = 0x0010, R_EERD = 0x0014, R_CTRL_EXT = 0x0018, R_MDIC = 0x0020, R_VET = 0x0038,
    R_ICR = 0x00c0, R_ICS = 0x00c8, R_IMS = 0x00d0, R_IMC = 0x00d8, R_EIAC = 0x00dc, R_IAM = 0x00e0, R_IVAR = 0x00e4,
    R_RCTL = 0x0100, R_TCTL = 0x0400, R_LEDCTL = 0x0e00, R_PBA = 0x1000, R_EEMNGCTL = 0x1010, R_PSRCTL = 0x2170,
    R_RDBAL = 0x2800, R_RDBAH = 0x2804, R_RDLEN = 0x2808, R_RDH = 0x2810, R_RDT = 0x2818,
    R_TDBAL = 0x3800, R_TDBAH = 0x3804, R_TDLEN = 0x3808, R_TDH = 0x3810, R_TDT = 0x3818, QUEUE_STEP = 0x100, TX_QUEUES = 2,
    R_STATS = 0x4000, R_STATS_END = 0x4128, R_RXCSUM = 0x5000, R_RFCTL = 0x5008, R_MTA = 0x5200, R_RAL = 0x5400, R_VFTA = 0x5600,
    R_SWSM = 0x5b50, R_FWSM = 0x5b54, R_FACTPS = 0x5b30, R_END = 0x6000,
};
enum { /* statistics */
    S_MPC = 0x4010, S_GPRC = 0x4074, S_BPRC = 0x4078, S_MPRC = 0x407c, S_GPTC = 0x4080, S_GORC = 0x4088, S_GOTC = 0x4090,
    S_RNBC = 0x40a0, S_RUC = 0x40a4, S_ROC = 0x40ac, S_TOR = 0x40c0, S_TOT = 0x40c8, S_TPR = 0x40d0, S_TPT = 0x40d4,
    S_MPTC = 0x40f0, S_BPTC = 0x40f4, S_TSCTC = 0x40f8,
};
enum {
    CTRL_MASTER_OFF = 1 << 2, CTRL_RST = 1 << 26, CTRL_VME = 1 << 30, STATUS_FD = 1, STATUS_LU = 2, STATUS_1000 = 0x80,
    STATUS_MASTER = 1 << 19, EXT_EE_RST = 1 << 13, EXT_EIAME = 1 << 24, EXT_IAME = 1 << 27,
    RCTL_EN = 1 << 1, RCTL_UPE = 1 << 3, RCTL_MPE = 1 << 4, RCTL_LPE = 1 << 5, RCTL_SPLIT = 1 << 10, RCTL_BAM = 1 << 15,
    RCTL_VFE = 1 << 18, RCTL_BSEX = 1 << 25, RCTL_SECRC = 1 << 26, TCTL_EN = 1 << 1, TCTL_PSP = 1 << 3, RFCTL_EXTEN = 1 << 15,
};
enum { /* causes of interrupts */
    INT_TXDW = 1 << 0, INT_TXQE = 1 << 1, INT_LSC = 1 << 2, INT_RXO = 1 << 6, INT_RXT0 = 1 << 7, INT_MDAC = 1 << 9,
    INT_RXQ0 = 1 << 20, INT_TXQ0 = 1 << 22, INT_TXQ1 = 1 << 23, INT_OTHER = 1 << 24,
    INT_OTHERS = INT_LSC | INT_RXO | INT_MDAC,
};
// clang-format on
#define CTRL_PHY_RST (1u << 31)
#define INT_ASSERTED (1u << 31)

enum { E1000E_PHY_REGS = 32, E1000E_NVM_WORDS = 64, E1000E_VECTORS = 5 };
enum { E1000E_PACKET_MAX = 65536 + 256, E1000E_HEADER_MAX = 256 };

struct e1000e_tx {        /* a transmit queue */
    uint8_t context[16];  /* the last context descriptor */
    uint8_t options;      /* of the first data descriptor */
    bool busy, skip, tso; /* in a packet; one that is too long; that is to be segmented */
    uint32_t length;      /* of the packet so far */
};

struct e1000e {
    struct pci_device pci; /* first */
    struct net_port *port;
    uint8_t mac[6];
    uint32_t reg[R_END / 4];
    uint16_t phy[E1000E_PHY_REGS];
    uint16_t nvm[E1000E_NVM_WORDS];
    uint32_t io_address;
    bool unplugged, starved; /* starved: a frame waits for descriptors */
    uint64_t plug_at;        /* ns */
    struct clock_timer plug;
    struct e1000e_tx tx[TX_QUEUES];
    uint8_t *packet[TX_QUEUES]; /* of E1000E_PACKET_MAX: the packet so far */
    uint8_t *frame;             /* of the same size, while one goes in or out */
    bool got;                   /* frames since the last interrupt */
};

static inline uint32_t *e1000e_reg(struct e1000e *d, unsigned offset) {
    return &d->reg[offset / 4];
}

/* e1000e.c */
void e1000e_cause(struct e1000e *d, uint32_t causes);
bool e1000e_link(const struct e1000e *d);
bool e1000e_master(const struct e1000e *d);
void e1000e_count(struct e1000e *d, unsigned counter, uint32_t n);
void e1000e_count_bytes(struct e1000e *d, unsigned counter, uint32_t n); /* 64 bits */

/* e1000e_phy.c: the transceiver and the configuration memory. */
void e1000e_phy_reset(struct e1000e *d);
void e1000e_mdic(struct e1000e *d, uint32_t value);
void e1000e_nvm_make(struct e1000e *d);
void e1000e_eerd(struct e1000e *d, uint32_t value);

/* e1000e_rx.c */
bool e1000e_receive(void *opaque, const uint8_t *frame, size_t len);
void e1000e_received(void *opaque);
void e1000e_rx_kick(struct e1000e *d); /* there may be descriptors again */

/* e1000e_tx.c */
void e1000e_tx_kick(struct e1000e *d, unsigned queue);
void e1000e_tx_reset(struct e1000e *d);
extern const struct state_desc e1000e_tx_state;

#endif
