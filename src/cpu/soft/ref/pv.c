/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The paravirtual pages of a processor.
 *
 * Steal time: written anew when an interrupt comes and some time has passed, for then the guest's
 * scheduler is about to look. `preempted` says that the processor sleeps: others that want its TLB
 * flushed leave a note there instead of waking it, and their locks do not spin for it.
 *
 * EOI: with an interrupt that nothing waits behind, a bit is set in the guest's memory. The guest
 * ends the interrupt by clearing it, which costs no call of the LAPIC. What it did is looked up
 * when somebody must know: at the next interrupt, before the LAPIC's registers are accessed, and
 * before the processor sleeps or is saved.
 */
#include "cpu/soft/ref/pv.h"

#include "base/trace.h"
#include "cpu/soft/ref/sys.h"

enum { ENABLED = 1 };

struct steal_page { /* struct kvm_steal_time, aligned to 64 */
    uint64_t steal; /* ns */
    uint32_t version, flags;
    uint8_t preempted; /* enum */
    uint8_t pad[47];
};

enum { PREEMPTED = 1, FLUSH_TLB = 2 };
enum { STEAL_RESERVED = 0x3e, EOI_RESERVED = 2, UPDATES_PER_SEC = 250 };

static struct steal_page *steal_page(struct ref *c) {
    gpa addr = c->s.kvm_steal & ~(gpa)63;

    return c->s.kvm_steal & ENABLED
               ? mem_ptr(c->cpu.config.bus.mem, addr, sizeof(struct steal_page), true)
               : NULL;
}

static void written(struct ref *c, uint64_t length) {
    mem_written(c->cpu.config.bus.mem, c->s.kvm_steal & ~(gpa)63, length);
}

/* ---- steal time ---- */

static void update_steal(struct ref *c) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    struct steal_page *p = steal_page(c);
    uint64_t stolen;

    if (!p || !bus->stolen)
        return;
    stolen = bus->stolen(bus->opaque);
    /* Of another thread, in another life of the machine: the guest's number must not go back. */
    if (c->pv.first)
        c->pv.offset = p->steal - stolen;
    c->pv.first = false;
    __atomic_store_n(&p->version, (p->version | 1), __ATOMIC_RELEASE); /* odd: being written */
    p->steal = stolen + c->pv.offset;
    p->flags = 0;
    __atomic_store_n(&p->version, p->version + 1, __ATOMIC_RELEASE);
    written(c, sizeof(*p));
}

static void update_steal_sometimes(struct ref *c) {
    struct clock *clock = c->cpu.config.bus.clock;
    uint64_t now;

    if (!(c->s.kvm_steal & ENABLED) || !clock)
        return;
    now = clock_tsc(clock);
    if (now - c->pv.updated < clock_tsc_hz(clock) / UPDATES_PER_SEC)
        return;
    c->pv.updated = now;
    update_steal(c);
}

bool ref_pv_write_steal(struct ref *c, uint32_t msr, uint64_t value) {
    if (c->cpu.config.no_hypervisor || (value & STEAL_RESERVED))
        return false;
    c->s.kvm_steal = value;
    c->pv.first = true;
    update_steal(c);
    return true;
}

/* ---- sleep ---- */

static void fall_asleep(struct ref *c) {
    struct steal_page *p = steal_page(c);

    if (!p)
        return;
    __atomic_store_n(&p->preempted, PREEMPTED, __ATOMIC_SEQ_CST);
    written(c, sizeof(*p));
    c->pv.asleep = true;
}

static void wake_up(struct ref *c) {
    struct steal_page *p = steal_page(c);
    uint8_t was;

    c->pv.asleep = false;
    if (!p)
        return;
    was = __atomic_exchange_n(&p->preempted, 0, __ATOMIC_SEQ_CST);
    written(c, sizeof(*p));
    if (!(was & FLUSH_TLB))
        return;
    stat_inc(ref_pv_flushes);
    ref_tlb_flush(c);
}

void ref_pv_enter(struct ref *c) {
    if (c->pv.asleep)
        wake_up(c);
}

void ref_pv_leave(struct ref *c, enum cpu_exit why) {
    ref_pv_settle(c);
    if (why == CPU_EXIT_HALT && c->group.several && (c->s.kvm_steal & ENABLED))
        fall_asleep(c);
}

/* ---- the end of an interrupt ---- */

static uint32_t *eoi_word(struct ref *c) {
    return c->s.kvm_eoi & ENABLED
               ? mem_ptr(c->cpu.config.bus.mem, c->s.kvm_eoi & ~(gpa)3, sizeof(uint32_t), true)
               : NULL;
}

static void set_word(struct ref *c, uint32_t *word, uint32_t value) {
    *word = value;
    mem_written(c->cpu.config.bus.mem, c->s.kvm_eoi & ~(gpa)3, sizeof(*word));
}

/* Takes the offer back and says whether the guest has made use of it. */
static bool take_back(struct ref *c) {
    uint32_t *word = eoi_word(c);

    c->pv.offered = false;
    if (!word)
        return false;
    if (!(*word & 1))
        return true;
    set_word(c, word, *word & ~1u);
    return false;
}

void ref_pv_settle(struct ref *c) {
    struct cpu_bus *bus = &c->cpu.config.bus;

    if (!c->pv.offered)
        return;
    ref_bus_begin(c);
    bus->eoi_settle(bus->opaque, take_back(c));
    ref_bus_end(c);
}

int ref_pv_ack(struct ref *c) {
    struct cpu_bus *bus = &c->cpu.config.bus;
    uint32_t *word = bus->eoi_settle ? eoi_word(c) : NULL;
    unsigned eoi = word ? CPU_EOI_ASK : 0;
    int vector;

    update_steal_sometimes(c);
    if (c->pv.offered)
        eoi |= take_back(c) ? CPU_EOI_ENDED : CPU_EOI_WITHDRAWN;
    vector = bus->intr_ack(bus->opaque, &eoi);
    if (word && (eoi & CPU_EOI_OFFERED)) {
        stat_inc(ref_pv_eois);
        set_word(c, word, *word | 1);
        c->pv.offered = true;
    }
    return vector;
}

bool ref_pv_write_eoi(struct ref *c, uint32_t msr, uint64_t value) {
    if (c->cpu.config.no_hypervisor || (value & EOI_RESERVED))
        return false;
    ref_pv_settle(c);
    c->s.kvm_eoi = value;
    return true;
}
