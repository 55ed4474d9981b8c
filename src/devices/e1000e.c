/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82574L Gigabit Ethernet controller. Source: Intel 82574 GbE Controller Family datasheet,
 * revision 3.4; chapter 10 (registers), 7.4 (interrupts).
 *
 * Departures:
 * - Frames go out when the tail is written and come in when the network has them; the timers that
 *   moderate interrupts (ITR, EITR, RADV, TADV ...) can be written and do nothing: one interrupt
 *   ends a burst.
 * - One receive queue: no RSS, no splitting of headers (split descriptors are filled in order).
 * - No MSI (MSI-X and INTx are there), no flash memory, no management, no waking up, no PTP.
 * - Registers that nothing here depends on hold what is written.
 */
#include "devices/e1000e.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/zero.h"
#include "devices/e1000e_internal.h"
#include "net/net.h"

// clang-format off
enum { VENDOR_INTEL = 0x8086, DEVICE_82574L = 0x10d3, CLASS_ETHERNET = 0x02000000, BAR_SIZE = 128 << 10, IO_SIZE = 32,
       MSIX_BAR = 3, MSIX_SIZE = 16 << 10, MSIX_TABLE = 0, MSIX_PBA = 0x2000 };
enum { IO_ADDRESS = 0, IO_DATA = 4, IVAR_VALID = 8, IVAR_OTHER = 16, EECD_READY = 0x4300, CFG_DONE = 3 << 18, FACTPS_LAN = 0 };
#define PLUG_DELAY (2 * 1000000000ull)
// clang-format on

bool e1000e_link(const struct e1000e *d) { return d->port && !d->unplugged; }

bool e1000e_master(const struct e1000e *d) {
    return load_le16(d->pci.config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* ---- statistics: they stop at their largest value, and reading clears them ---- */

void e1000e_count(struct e1000e *d, unsigned counter, uint32_t n) {
    uint32_t *v = e1000e_reg(d, counter);

    *v = *v + n < *v ? UINT32_MAX : *v + n;
}

void e1000e_count_bytes(struct e1000e *d, unsigned counter, uint32_t n) {
    uint64_t v = (uint64_t)*e1000e_reg(d, counter + 4) << 32 | *e1000e_reg(d, counter);

    v = v + n < v ? UINT64_MAX : v + n;
    *e1000e_reg(d, counter) = (uint32_t)v;
    *e1000e_reg(d, counter + 4) = (uint32_t)(v >> 32);
}

/* ---- interrupts ---- */

static void notify(struct e1000e *d, uint32_t cause, unsigned field) {
    unsigned entry = *e1000e_reg(d, R_IVAR) >> field & 15;
    uint32_t ext = *e1000e_reg(d, R_CTRL_EXT), cleared;

    if (!(entry & IVAR_VALID) || (entry & 7) >= E1000E_VECTORS)
        return;
    pci_msix_notify(&d->pci, entry & 7);
    if (ext & EXT_EIAME)
        *e1000e_reg(d, R_IMS) &= ~(*e1000e_reg(d, R_IAM) & cause);
    cleared = *e1000e_reg(d, R_EIAC) & cause;
    *e1000e_reg(d, R_ICR) &= ~cleared;
    if (!(ext & EXT_IAME))
        *e1000e_reg(d, R_IMS) &= ~cleared;
}

/* With MSI-X a cause that is new, or newly let through, is a message. */
static void send_messages(struct e1000e *d, uint32_t causes) {
    for (unsigned i = 0; i < 5; i++) { /* RxQ0, RxQ1, TxQ0, TxQ1, other */
        uint32_t cause = (uint32_t)INT_RXQ0 << i;

        if (causes & cause)
            notify(d, cause, 4 * i);
    }
}

static void update(struct e1000e *d, uint32_t before) {
    uint32_t *icr = e1000e_reg(d, R_ICR), active;

    if (*icr & INT_OTHERS)
        *icr |= INT_OTHER;
    active = *icr & *e1000e_reg(d, R_IMS) & ~INT_ASSERTED;
    *icr = active ? *icr | INT_ASSERTED : *icr & ~INT_ASSERTED;
    if (pci_msix_enabled(&d->pci))
        send_messages(d, active & ~before);
    else
        pci_set_intx(&d->pci, active);
}

static uint32_t active_causes(struct e1000e *d) {
    return *e1000e_reg(d, R_ICR) & *e1000e_reg(d, R_IMS);
}

/* A cause that comes again is a new one, also while its bit is still set. */
void e1000e_cause(struct e1000e *d, uint32_t causes) {
    uint32_t before = active_causes(d) & ~causes;

    if (causes & INT_OTHERS)
        before &= ~(uint32_t)INT_OTHER;
    *e1000e_reg(d, R_ICR) |= causes & ~INT_ASSERTED;
    update(d, before);
}

static void mask(struct e1000e *d, uint32_t set, uint32_t clear) {
    uint32_t before = active_causes(d);

    *e1000e_reg(d, R_IMS) = (*e1000e_reg(d, R_IMS) | set) & ~clear;
    update(d, before);
}

static uint32_t read_icr(struct e1000e *d) {
    uint32_t *icr = e1000e_reg(d, R_ICR), *ims = e1000e_reg(d, R_IMS), value = *icr;

    if (value & INT_ASSERTED && *e1000e_reg(d, R_CTRL_EXT) & EXT_IAME)
        *ims &= ~*e1000e_reg(d, R_IAM);
    if (value & INT_ASSERTED || !*ims)
        *icr = 0;
    update(d, value);
    return value;
}

static void write_icr(struct e1000e *d, uint32_t value) {
    uint32_t before = active_causes(d);

    *e1000e_reg(d, R_ICR) &= ~value;
    update(d, before);
}

/* ---- resets ---- */

static void reset_registers(struct e1000e *d) {
    memset(d->reg, 0, sizeof(d->reg));
    *e1000e_reg(d, R_CTRL) = 0x00140240;
    *e1000e_reg(d, R_VET) = 0x8100;
    *e1000e_reg(d, R_PBA) = 0x00140014;
    *e1000e_reg(d, R_LEDCTL) = 0x07068302;
    *e1000e_reg(d, R_PSRCTL) = 0x00040402;
    *e1000e_reg(d, R_RXCSUM) = 0x300;
    *e1000e_reg(d, R_RAL) = load_le32(d->mac);
    *e1000e_reg(d, R_RAL + 4) = load_le16(d->mac + 4) | 1u << 31;
    d->io_address = 0;
    d->starved = d->got = false;
    e1000e_tx_reset(d);
}

static void software_reset(struct e1000e *d) {
    reset_registers(d);
    update(d, 0);
}

/* ---- registers ---- */

static bool is_wide_low(unsigned at) {
    return at == S_GORC || at == S_GOTC || at == S_TOR || at == S_TOT;
}

static uint32_t read_reg(struct e1000e *d, unsigned at) {
    uint32_t value;

    if (at >= R_END)
        return 0;
    value = *e1000e_reg(d, at);
    if (at >= R_STATS && at < R_STATS_END && !is_wide_low(at)) {
        *e1000e_reg(d, at) = 0;
        if (is_wide_low(at - 4)) /* the low half goes with the high one */
            *e1000e_reg(d, at - 4) = 0;
        return value;
    }
    switch (at) {
    case R_STATUS:
        return STATUS_FD | (e1000e_link(d) ? STATUS_LU : 0) | STATUS_1000 |
               (*e1000e_reg(d, R_CTRL) & CTRL_MASTER_OFF ? 0 : STATUS_MASTER);
    case R_ICR:
        return read_icr(d);
    case R_EECD:
        return (value & 0xff) | EECD_READY;
    case R_EEMNGCTL:
        return CFG_DONE;
    case R_ICS:
        return *e1000e_reg(d, R_ICR);
    case R_IMC:
    case R_FWSM:
    case R_FACTPS:
        return 0;
    case R_SWSM: /* the semaphore is taken by reading */
        *e1000e_reg(d, at) |= 1;
        return value;
    }
    return value;
}

static void write_ctrl(struct e1000e *d, uint32_t value) {
    if (value & CTRL_PHY_RST)
        e1000e_phy_reset(d);
    if (value & CTRL_RST) {
        software_reset(d);
        return;
    }
    *e1000e_reg(d, R_CTRL) = value & ~CTRL_PHY_RST;
}

static void write_queue(struct e1000e *d, unsigned at, uint32_t value) {
    *e1000e_reg(d, at) = value;
    if (at == R_RDT)
        e1000e_rx_kick(d);
    for (unsigned q = 0; q < TX_QUEUES; q++)
        if (at == R_TDT + QUEUE_STEP * q)
            e1000e_tx_kick(d, q);
}

static void write_reg(struct e1000e *d, unsigned at, uint32_t value) {
    if (at >= R_END || (at >= R_STATS && at < R_STATS_END))
        return;
    switch (at) {
    case R_CTRL:
        write_ctrl(d, value);
        break;
    case R_CTRL_EXT:
        *e1000e_reg(d, at) = value & ~(uint32_t)EXT_EE_RST;
        break;
    case R_MDIC:
        e1000e_mdic(d, value);
        break;
    case R_EERD:
        e1000e_eerd(d, value);
        break;
    case R_ICR:
        write_icr(d, value);
        break;
    case R_ICS:
        e1000e_cause(d, value);
        break;
    case R_IMS:
        mask(d, value & ~INT_ASSERTED, 0);
        break;
    case R_IMC:
        mask(d, 0, value);
        break;
    case R_RCTL:
        *e1000e_reg(d, at) = value;
        e1000e_rx_kick(d); /* what waited is dropped, or fits now */
        break;
    case R_STATUS:
    case R_EEMNGCTL:
    case R_FWSM:
    case R_FACTPS:
        break;
    default:
        write_queue(d, at, value);
    }
}

static uint64_t bar_read(void *dev, uint64_t offset, unsigned size) {
    return read_reg(dev, (unsigned)offset & ~3u);
}

static void bar_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    write_reg(dev, (unsigned)offset & ~3u, (uint32_t)value);
}

static uint64_t io_bar_read(void *dev, uint64_t offset, unsigned size) {
    struct e1000e *d = dev;

    if (offset == IO_ADDRESS)
        return d->io_address;
    return offset == IO_DATA ? read_reg(d, d->io_address & ~3u) : 0;
}

static void io_bar_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct e1000e *d = dev;

    if (offset == IO_ADDRESS)
        d->io_address = (uint32_t)value & (BAR_SIZE - 1);
    else if (offset == IO_DATA)
        write_reg(d, d->io_address & ~3u, (uint32_t)value);
}

static uint64_t msix_read(void *dev, uint64_t offset, unsigned size) {
    uint64_t value = 0;

    pci_msix_read(dev, MSIX_BAR, offset, size, &value);
    return value;
}

static void msix_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    pci_msix_write(dev, MSIX_BAR, offset, size, value);
}

static const struct io_ops bar_ops = {bar_read, bar_write, 4, 4},
                           io_bar_ops = {io_bar_read, io_bar_write, 4, 4},
                           msix_ops = {msix_read, msix_write, 4, 8};

/* ---- the cable ---- */

static void plug_in(void *opaque) {
    struct e1000e *d = opaque;

    d->unplugged = false;
    d->plug_at = 0;
    e1000e_cause(d, INT_LSC);
}

void e1000e_replug(struct device *dev) {
    struct e1000e *d = (struct e1000e *)dev;

    d->unplugged = true;
    d->plug_at = clock_now(dev->env.clock) + PLUG_DELAY;
    clock_timer_arm(&d->plug, d->plug_at);
    e1000e_cause(d, INT_LSC);
}

/* ---- life ---- */

static int e1000e_init(struct device *dev, struct error *err) {
    static const uint8_t usual[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    struct e1000e *d = (struct e1000e *)dev;
    const struct e1000e_config *c = dev->env.config;

    clock_timer_init(&d->plug, dev->env.clock, plug_in, d);
    d->frame = zero_alloc(E1000E_PACKET_MAX);
    for (unsigned i = 0; i < TX_QUEUES; i++)
        d->packet[i] = zero_alloc(E1000E_PACKET_MAX);
    if (!d->frame || !d->packet[0] || !d->packet[1])
        return error_set(err, -ENOMEM, "device '%s': out of memory", dev->name);
    memcpy(d->mac, c ? c->mac : usual, sizeof(d->mac));
    e1000e_nvm_make(d);
    pci_init_header(&d->pci, VENDOR_INTEL, DEVICE_82574L, CLASS_ETHERNET, VENDOR_INTEL, 0);
    d->pci.config[PCI_INT_PIN] = 1;
    pci_init_bar(&d->pci, 0, BAR_SIZE, false, false, &bar_ops, "e1000e");
    pci_init_bar(&d->pci, 2, IO_SIZE, true, false, &io_bar_ops, "e1000e-io");
    pci_init_bar(&d->pci, MSIX_BAR, MSIX_SIZE, false, false, &msix_ops, "e1000e-msix");
    if (c)
        pci_use_rom(&d->pci, c->rom, c->rom_size);
    d->port = c ? c->port : NULL;
    if (d->port) {
        d->port->receive = e1000e_receive;
        d->port->received = e1000e_received;
        d->port->opaque = d;
    }
    return pci_init_msix(&d->pci, E1000E_VECTORS, MSIX_BAR, MSIX_TABLE, MSIX_PBA);
}

static void e1000e_reset(struct device *dev) {
    struct e1000e *d = (struct e1000e *)dev;

    clock_timer_disarm(&d->plug);
    d->unplugged = false;
    d->plug_at = 0;
    pci_reset(&d->pci);
    e1000e_phy_reset(d);
    reset_registers(d);
}

static void let_go(struct e1000e *d) {
    if (d->port) {
        d->port->receive = NULL;
        d->port->received = NULL;
    }
    d->port = NULL;
}

/* The cable is out for good. */
static void e1000e_abandon(struct device *dev) {
    let_go((struct e1000e *)dev);
    e1000e_cause((struct e1000e *)dev, INT_LSC);
}

static void e1000e_done(struct device *dev) {
    struct e1000e *d = (struct e1000e *)dev;

    let_go(d);
    if (d->frame) /* init had come so far */
        clock_timer_disarm(&d->plug);
    pci_bus_detach(&d->pci);
    zero_free(d->frame, E1000E_PACKET_MAX);
    for (unsigned i = 0; i < TX_QUEUES; i++)
        zero_free(d->packet[i], E1000E_PACKET_MAX);
}

static void post_load(void *obj) {
    struct e1000e *d = obj;

    pci_post_load(&d->pci);
    clock_timer_disarm(&d->plug);
    if (d->unplugged)
        clock_timer_arm(&d->plug, d->plug_at);
}

static const struct state_desc e1000e_state = {
    .name = "e1000e",
    .version = 1,
    .struct_size = sizeof(struct e1000e),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){
            STATE_SUB(struct e1000e, pci, &pci_device_state), STATE_ARRAY(struct e1000e, reg),
            STATE_ARRAY(struct e1000e, phy), STATE(struct e1000e, io_address),
            STATE(struct e1000e, unplugged), STATE(struct e1000e, starved),
            STATE(struct e1000e, plug_at), STATE(struct e1000e, got),
            STATE_SUB_ARRAY(struct e1000e, tx, &e1000e_tx_state), STATE_END},
};

const struct device_class e1000e_class = {
    .name = "e1000e",
    .help = "Ethernet controller 8086:10d3 (Intel 82574L)",
    .size = sizeof(struct e1000e),
    .state = &e1000e_state,
    .init = e1000e_init,
    .reset = e1000e_reset,
    .done = e1000e_done,
    .abandon = e1000e_abandon,
    .pci = true,
};
