/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stub machine around one device of any class: memory, stepped time, wires that count, backends
 * that answer at once. The generic tests and the fuzz target drive it by acts: one guest's or
 * host's deed each. The same acts on two rigs in the same state do the same.
 */
#ifndef TESTS_DEVICES_RIG_H
#define TESTS_DEVICES_RIG_H

#include "devices/pci.h"

enum { RIG_WINDOWS = 12, RIG_DISK_SIZE = 256 << 10 };
enum rig_space { RIG_PIO, RIG_MMIO, RIG_CONFIG };

struct rig_window { /* what the guest can reach of the device */
    enum rig_space space;
    uint64_t base, size;
};

struct loop;
struct block;
struct net_port;

struct rig;
struct screen;
struct vsock_conn;

enum { RIG_SOCKETS = 4 };

struct rig_sock { /* the host's side of a vsock connection */
    struct rig *rig;
    struct vsock_conn *conn;
};

struct rig {
    const struct device_class *cls;
    struct device *dev;
    struct mem mem;
    struct clock *clock; /* stepped */
    struct loop *loop;
    struct io_space pio, mmio;
    struct pci_bus *bus;
    unsigned devfn;
    struct rig_window window[RIG_WINDOWS];
    unsigned windows;

    uint32_t irq_levels;
    unsigned irq_changes, messages, power_requests, cpu_signals;
    bool flooded; /* a timer fired more often than any chip's */

    bool backend_full; /* output backends take nothing */
    uint64_t entropy;
    uint32_t console_size;
    struct rig_sock sock[RIG_SOCKETS];
    struct block *block;
    struct net_port *port;
    uint8_t *disk, *video;
    struct screen *screen;
    struct apic_bus *apic_bus;
};

/* How a choice is drawn: bytes of a fuzzer, or random ones if `rng` is set. */
struct choices {
    const uint8_t *p;
    size_t left;
    struct rng *rng;
};
uint64_t choices_draw(struct choices *c, unsigned bytes);

enum rig_act_kind {
    RIG_READ,
    RIG_WRITE,
    RIG_STEP,
    RIG_GUEST,
    RIG_POKE,
    RIG_DRIVE,
    RIG_KICK,
    RIG_ASSIGN,
    RIG_RESET
};
struct rig_act {
    enum rig_act_kind kind;
    unsigned window, size;
    uint64_t offset, value; /* meanings by kind */
};

/* Aborts if the machine cannot be made. `config` false: the class's defaults, all wires open. */
void rig_open(struct rig *r, const struct device_class *cls, uint64_t now, bool config);
void rig_close(struct rig *r); /* finds timers and regions that the device has left behind */

struct rig_act rig_draw(const struct rig *r, struct choices *c);
uint64_t rig_do(struct rig *r, const struct rig_act *act); /* what the guest sees of it */
void rig_print_act(const struct rig *r, const struct rig_act *act);

/* Copies all around the device (memory, disk, time); comes before a load of its state. */
void rig_copy_world(struct rig *to, const struct rig *from);
bool rig_same_memory(const struct rig *a, const struct rig *b);

/* Sets a random field of the table to a random value within its limits. */
void rig_disturb(const struct state_desc *d, void *obj, struct rng *rng);

#endif
