/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio driver for tests: finds the device through PCI configuration space, negotiates, puts
 * chains into rings in guest memory and takes used buffers out, all by the accesses that a guest
 * would make.
 *
 * A board has RAM at 0, port and memory space, a PCI bus, a stepped clock, and remembers
 * interrupts.
 */
#ifndef TESTS_DEVICES_VIRTIO_DRIVER_H
#define TESTS_DEVICES_VIRTIO_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/virtio.h"

enum { BOARD_MSI_MAX = 256, DRIVER_VECTOR_BASE = 0x40 };

struct board {
    struct mem mem;
    struct io_space pio, mmio;
    struct clock *clock;
    struct pci_bus *bus;
    bool intx[4];
    unsigned intx_edges; /* rising */
    struct board_msi {
        uint64_t addr;
        uint32_t data;
    } msi[BOARD_MSI_MAX];
    unsigned msi_count; /* all that came, also those that no longer fit */
    gpa next;           /* board_alloc gives out from here */
    gpa bar_next;
};

void test_board_init(struct board *b, uint64_t ram);
void test_board_done(struct board *b); /* free the devices after it (the bus lets go of them) */
struct device_env board_env(struct board *b, const void *config);
/* Makes a device of the class and attaches it at devfn. Failure ends the test. */
struct device *board_add(struct board *b, const char *cls, const void *config, unsigned devfn);
gpa board_alloc(struct board *b, uint64_t len, uint64_t align); /* zeroed guest memory */

/* Guest memory. */
uint16_t board_load16(struct board *b, gpa addr);
uint32_t board_load32(struct board *b, gpa addr);
void board_store16(struct board *b, gpa addr, uint16_t v);
void board_store32(struct board *b, gpa addr, uint32_t v);
void board_store64(struct board *b, gpa addr, uint64_t v);

struct driver_queue {
    uint16_t size, next_desc, avail_idx, last_used;
    gpa desc, avail, used, notify;
};

struct driver {
    struct board *b;
    unsigned devfn;
    gpa common, isr, device, notify; /* addresses of the areas */
    uint32_t device_len, stride;
    unsigned msix_cap;
    gpa msix_table;
    uint64_t features; /* negotiated */
    struct driver_queue q[VIRTIO_MAX_QUEUES];
};

struct driver_buf {
    gpa addr;
    uint32_t len;
    bool write; /* the device may write */
};

/* Finds the areas, gives the BARs addresses, switches memory decoding and bus mastering on. */
void driver_find(struct driver *d, struct board *b, unsigned devfn);
uint64_t driver_read(struct driver *d, unsigned offset, unsigned size); /* common configuration */
void driver_write(struct driver *d, unsigned offset, unsigned size, uint64_t value);
uint64_t driver_config(struct driver *d, unsigned offset, unsigned size); /* device configuration */
void driver_config_write(struct driver *d, unsigned offset, unsigned size, uint64_t value);
uint8_t driver_status(struct driver *d);
uint64_t driver_offered(struct driver *d);
uint8_t driver_isr(struct driver *d); /* acknowledges */

/* MSI-X on; vector n sends data DRIVER_VECTOR_BASE + n to fee00000. Before driver_queue. */
void driver_use_msix(struct driver *d);
/* Reset, ACKNOWLEDGE, DRIVER, features & offered, FEATURES_OK; false if the device refuses. */
bool driver_negotiate(struct driver *d, uint64_t features);
/* Rings in fresh memory, vector queue + 1 with MSI-X, enabled. size 0: what the device offers. */
void driver_queue(struct driver *d, unsigned queue, uint16_t size);
void driver_ready(struct driver *d); /* DRIVER_OK */
/* All of it: find, MSI-X if asked for, negotiate everything in `features`, `queues` queues,
 * DRIVER_OK. */
void driver_start(struct driver *d, struct board *b, unsigned devfn, uint64_t features,
                  unsigned queues, bool msix);

/* Descriptors are used round robin without bookkeeping: keep fewer than size in flight. Returns the
 * head. */
uint16_t driver_add(struct driver *d, unsigned queue, const struct driver_buf *buf, unsigned count);
uint16_t driver_add_indirect(struct driver *d, unsigned queue, const struct driver_buf *buf,
                             unsigned count);
void driver_desc(struct driver *d, gpa table, unsigned i, gpa addr, uint32_t len, uint16_t flags,
                 uint16_t next);
void driver_avail(struct driver *d, unsigned queue, uint16_t head); /* publishes one head */
void driver_kick(struct driver *d, unsigned queue);
/* Takes the next used element; false if there is none. */
bool driver_used(struct driver *d, unsigned queue, uint16_t *ret_head, uint32_t *ret_len);

#endif
