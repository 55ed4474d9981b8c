/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's life: build, start, reset, end.
 *
 * Power events come from devices on any thread; they are noted and acted on by the loop's thread,
 * which first parks the processors. The first ending wins.
 */
#include "machine/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/trace.h"
#include "block/block.h"
#include "bus/windows.h"
#include "bus/wires.h"
#include "cpu/cpuid.h"
#include "devices/acpi_pm.h"
#include "devices/e1000e.h"
#include "devices/ioapic.h"
#include "devices/pic.h"
#include "devices/virtio/virtio_net.h"
#include "machine/board.h"
#include "machine/boot.h"
#include "machine/boot_screen.h"
#include "machine/firmware.h"
#include "machine/machine_internal.h"
#include "machine/paravirt.h"
#include "machine/passed.h"
#include "machine/plug.h"
#include "machine/plug_internal.h"
#include "net/net.h"
#include "share/share.h"

struct machine_cpu { /* what a pin or bus callback gets as opaque */
    struct machine *machine;
    struct vcpu *vcpu;
    unsigned index;
};

struct machine {
    struct machine_config config;
    struct loop *loop;
    pthread_mutex_t *lock;
    struct board board;
    struct machine_cpu cpu[MACHINE_MAX_CPUS];
    struct cpu *peers[MACHINE_MAX_CPUS]; /* the processors, for each other */
    const struct cpu_ops *ops;
    char cpu_why[200];
    /* Software processors that go on when KVM cannot, once more as each other's peers. */
    struct cpu *spare[MACHINE_MAX_CPUS], *spare_peers[MACHINE_MAX_CPUS];
    struct boot_image image;
    struct error boot_error; /* why a restored machine cannot boot again */
    struct error error;
    bool ending, reset_wanted, crashed, panicked;
    uint32_t less[CPUID_WORDS]; /* features that its processors lack, whatever runs them */
    bool soft_wanted;           /* the backend has failed, as `error` says */
    bool started, paused;
    bool apics_here; /* LAPICs that the processors bring are the board's for now */
    struct wires *wires;
    struct windows *windows;
    struct plug *plug;
    struct machine_dirty dirty;
    bool over; /* `ended` was called, or machine_stop */
    enum machine_end end;
    unsigned end_code;
};

/* ---- a processor's view of the board ---- */

static struct board_access access_of(const struct machine_cpu *c, bool port, uint64_t addr,
                                     unsigned size) {
    return (struct board_access){
        .cpu = c->index, .smm = vcpu_cpu(c->vcpu)->smm, .port = port, .addr = addr, .size = size};
}

static uint64_t bus_read(void *opaque, bool port, uint64_t addr, unsigned size) {
    struct machine_cpu *c = opaque;
    struct board_access a = access_of(c, port, addr, size);
    uint64_t v;

    pthread_mutex_lock(c->machine->lock);
    v = board_read(&c->machine->board, &a);
    pthread_mutex_unlock(c->machine->lock);
    return v;
}

static void bus_write(void *opaque, bool port, uint64_t addr, unsigned size, uint64_t value) {
    struct machine_cpu *c = opaque;
    struct board_access a = access_of(c, port, addr, size);

    pthread_mutex_lock(c->machine->lock);
    board_write(&c->machine->board, &a, value);
    pthread_mutex_unlock(c->machine->lock);
}

static void bus_freeze(void *opaque, bool on) {
    struct machine_cpu *c = opaque;

    if (on)
        pthread_mutex_lock(c->machine->lock);
    else
        pthread_mutex_unlock(c->machine->lock);
}

static void bus_settle(void *opaque) { vcpu_settle(((struct machine_cpu *)opaque)->vcpu); }

/* Calls into this processor's LAPIC, with the lock. */
#define WITH_LAPIC(c, expr)                                                                        \
    ({                                                                                             \
        struct device *lapic = (c)->machine->board.lapic[(c)->index];                              \
        pthread_mutex_lock((c)->machine->lock);                                                    \
        __auto_type result_ = (expr);                                                              \
        pthread_mutex_unlock((c)->machine->lock);                                                  \
        result_;                                                                                   \
    })

static int ack(struct device *lapic, unsigned *eoi) {
    int vector;

    if (*eoi & (CPU_EOI_ENDED | CPU_EOI_WITHDRAWN))
        lapic_settle_eoi(lapic, *eoi & CPU_EOI_ENDED);
    vector = lapic_ack(lapic);
    if (vector >= 0 && (*eoi & CPU_EOI_ASK) && lapic_offer_eoi(lapic))
        *eoi |= CPU_EOI_OFFERED;
    return vector;
}

static int bus_intr_ack(void *opaque, unsigned *eoi) {
    struct machine_cpu *c = opaque;

    return WITH_LAPIC(c, ack(lapic, eoi));
}

static void bus_eoi_settle(void *opaque, bool ended) {
    struct machine_cpu *c = opaque;

    WITH_LAPIC(c, (lapic_settle_eoi(lapic, ended), 0));
}

static int64_t bus_hypercall(void *opaque, uint64_t nr, const uint64_t arg[4], bool code64) {
    struct machine_cpu *c = opaque;
    struct machine *m = c->machine;
    struct paravirt_cpus cpus = {.lapic = m->board.lapic, .count = m->config.cpus};
    int64_t result;

    pthread_mutex_lock(m->lock);
    for (unsigned i = 0; i < cpus.count; i++)
        cpus.vcpu[i] = m->cpu[i].vcpu;
    result = paravirt_call(&cpus, c->index, nr, arg, code64);
    pthread_mutex_unlock(m->lock);
    return result;
}

static int bus_ext_ack(void *opaque) {
    struct machine *m = ((struct machine_cpu *)opaque)->machine;
    int vector;

    pthread_mutex_lock(m->lock);
    vector = pic_ack(m->board.pic);
    pthread_mutex_unlock(m->lock);
    return vector;
}

static void bus_eoi(void *opaque, uint8_t vector) {
    struct machine *m = ((struct machine_cpu *)opaque)->machine;

    pthread_mutex_lock(m->lock);
    ioapic_eoi(m->board.ioapic, vector);
    pthread_mutex_unlock(m->lock);
}

static uint64_t bus_stolen(void *opaque) {
    return vcpu_stolen(((struct machine_cpu *)opaque)->vcpu);
}

static uint8_t bus_get_tpr(void *opaque) {
    struct machine_cpu *c = opaque;

    return (uint8_t)WITH_LAPIC(c, lapic_get_tpr(lapic));
}

static void bus_set_tpr(void *opaque, uint8_t cr8) {
    struct machine_cpu *c = opaque;

    WITH_LAPIC(c, (lapic_set_tpr(lapic, cr8), 0));
}

static int bus_msr_read(void *opaque, uint32_t msr, uint64_t *ret_value) {
    struct machine_cpu *c = opaque;

    return WITH_LAPIC(c, lapic_msr_read(lapic, msr, ret_value));
}

static int bus_msr_write(void *opaque, uint32_t msr, uint64_t value) {
    struct machine_cpu *c = opaque;

    return WITH_LAPIC(c, lapic_msr_write(lapic, msr, value));
}

/* ---- the LAPIC's pins into the processor ---- */

static void pin_intr(void *opaque, bool level) {
    struct machine_cpu *c = opaque;

    if (c->vcpu)
        vcpu_signal(c->vcpu, level ? CPU_SIGNAL_INTR_ON : CPU_SIGNAL_INTR_OFF, 0);
}

static void pin_nmi(void *opaque) {
    struct machine_cpu *c = opaque;

    if (c->vcpu)
        vcpu_signal(c->vcpu, CPU_SIGNAL_NMI, 0);
}

static void pin_smi(void *opaque) {
    struct machine_cpu *c = opaque;

    if (c->vcpu && c->machine->config.smm)
        vcpu_signal(c->vcpu, CPU_SIGNAL_SMI, 0);
}

static void pin_init(void *opaque) {
    struct machine_cpu *c = opaque;

    if (c->vcpu)
        vcpu_signal(c->vcpu, CPU_SIGNAL_INIT, 0);
}

static void pin_sipi(void *opaque, uint8_t vector) {
    struct machine_cpu *c = opaque;

    if (c->vcpu && !(board_absent_cpus(&c->machine->board) >> c->index & 1))
        vcpu_signal(c->vcpu, CPU_SIGNAL_SIPI, vector);
}

/* ---- LAPICs that the processors bring (cpu_ops.apic) ---- */

static bool apic_message(void *opaque, uint64_t addr, uint32_t data) {
    const struct machine *m = opaque;

    if (m->apics_here)
        return false;
    if (m->cpu[0].vcpu)
        m->ops->apic->message(vcpu_cpu(m->cpu[0].vcpu), addr, data);
    return true;
}

static int wire_ring(void *opaque, uint64_t addr, int fd, bool on) {
    const struct machine *m = opaque;

    return m->cpu[0].vcpu ? m->ops->apic->ring(vcpu_cpu(m->cpu[0].vcpu), addr, fd, on) : -ENODEV;
}

static int wire_carry(void *opaque, int fd, const struct msi_message *message) {
    const struct machine *m = opaque;

    return m->cpu[0].vcpu ? m->ops->apic->carry(vcpu_cpu(m->cpu[0].vcpu), fd, message) : -ENODEV;
}

static const struct wires_ops wire_ops = {wire_ring, wire_carry};

static int window(void *opaque, unsigned n, uint64_t at, void *memory, uint64_t size) {
    const struct machine *m = opaque;

    return m->cpu[0].vcpu ? m->ops->window(vcpu_cpu(m->cpu[0].vcpu), n, at, memory, size) : -ENODEV;
}

static void pin_ext_int(void *opaque, bool level) {
    struct machine_cpu *c = opaque;

    if (c->vcpu)
        c->machine->ops->apic->ext_int(vcpu_cpu(c->vcpu), level);
}

static void apic_fetch(void *opaque, struct lapic_image *ret) {
    struct machine_cpu *c = opaque;
    struct cpu_apic apic;

    c->machine->ops->apic->get(vcpu_cpu(c->vcpu), &apic);
    *ret = (struct lapic_image){.base = apic.base, .tsc_deadline = apic.tsc_deadline};
    memcpy(ret->reg, apic.reg, sizeof(ret->reg));
}

static void apic_store(void *opaque, const struct lapic_image *image) {
    struct machine_cpu *c = opaque;
    struct cpu_apic apic = {.base = image->base, .tsc_deadline = image->tsc_deadline};

    if (!c->vcpu) /* it is still being built */
        return;
    memcpy(apic.reg, image->reg, sizeof(apic.reg));
    if (c->machine->ops->apic->set(vcpu_cpu(c->vcpu), &apic, &c->machine->error) < 0)
        trace(machine_stop, c->index, c->machine->error.text);
}

/* What devices see of processors at rest, and, since the host's time goes on meanwhile, what these
 * go on from: until then, messages of devices that finish what they have begun come here as well.
 */
static void fetch_apics(struct machine *m) {
    wires_hold(m->wires);
    for (unsigned i = 0; i < m->config.cpus; i++)
        if (m->cpu[i].vcpu)
            lapic_fetch(m->board.lapic[i]);
    m->apics_here = m->ops->apic;
}

static void store_apics(struct machine *m) {
    m->apics_here = false;
    for (unsigned i = 0; m->ops->apic && i < m->config.cpus; i++)
        lapic_sync(m->board.lapic[i]);
    wires_let_go(m->wires);
}

static void code_written(void *opaque, gpa page) {
    struct machine *m = opaque;

    for (unsigned i = 0; i < m->config.cpus; i++)
        if (m->cpu[i].vcpu)
            m->ops->code_written(vcpu_cpu(m->cpu[i].vcpu), page);
}

static void park_all(struct machine *m) {
    for (unsigned i = 0; i < m->config.cpus; i++)
        if (m->cpu[i].vcpu) /* a machine that could not be built lacks some */
            vcpu_pause(m->cpu[i].vcpu);
}

/* One that is to be reset or to end stays at rest: act goes on from there. */
static void run_all(struct machine *m) {
    if (!m->started || m->paused || m->ending || m->reset_wanted)
        return;
    for (unsigned i = 0; i < m->config.cpus; i++)
        vcpu_resume(m->cpu[i].vcpu);
}

/* ---- pauses ---- */

static void run_devices(struct machine *m) {
    clock_start(m->board.clock);
    for (unsigned i = 0; i < m->config.nics; i++)
        if (m->config.nic[i].port)
            net_resume(m->config.nic[i].port);
    if (m->config.resumed)
        m->config.resumed(m->config.opaque);
}

void machine_pause(struct machine *m) {
    if (m->over || m->paused)
        return;
    m->paused = true;
    trace(machine_pause, machine_now(m));
    park_all(m);
    fetch_apics(m);
    wires_answer(m->wires);
    plug_finish(m->plug);
    clock_pause(m->board.clock);
    for (unsigned i = 0; i < m->config.disks; i++)
        if (m->config.disk[i])
            block_drain(m->config.disk[i]);
    for (unsigned i = 0; i < m->config.cdroms; i++)
        if (m->config.cdrom[i])
            block_drain(m->config.cdrom[i]);
    for (unsigned i = 0; i < m->config.shares; i++)
        share_drain(m->config.share[i].share);
}

void machine_resume(struct machine *m) {
    if (m->over || !m->paused)
        return;
    m->paused = false;
    trace(machine_resume, machine_now(m));
    if (!m->started)
        return;
    store_apics(m);
    run_devices(m);
    run_all(m);
}

bool machine_is_paused(const struct machine *m) { return m->paused; }

uint64_t machine_now(const struct machine *m) { return clock_now(m->board.clock); }

/* ---- resets and endings ---- */

/* Loads the kernel afresh and puts the boot processor at its entry, the others in wait-for-SIPI. */
static int load_and_set(struct machine *m, struct error *err) {
    struct x86_state s;
    int r;

    if (m->boot_error.code)
        return error_set(err, m->boot_error.code, "the restored machine cannot be reset: %s",
                         m->boot_error.text);
    r = m->config.firmware ? firmware_load(m->config.firmware, &m->board.mem, &s, err)
                           : boot_load(&m->image, &m->board.mem, &s, err);

    for (unsigned i = 0; r == 0 && i < m->config.cpus; i++) {
        struct cpu *cpu = vcpu_cpu(m->cpu[i].vcpu);
        if (i) {
            x86_reset(&s, false);
            s.activity = X86_WAIT_SIPI;
        }
        r = cpu->ops->set_state(cpu, &s, err);
        lapic_sync(m->board.lapic[i]);
    }
    return r;
}

/* What was asked of a guest that is gone is done. */
static int reset_now(struct machine *m, struct error *err) {
    int r;

    plug_reset(m->plug);
    r = board_reset(&m->board, err);
    if (r == 0)
        r = load_and_set(m, err);
    machine_dirty_everything(m);
    return r;
}

static struct lapic_cpu make_pins(struct machine *m, unsigned i);

static void free_spares(struct machine *m) {
    for (unsigned i = 0; i < m->config.cpus; i++) {
        if (m->spare[i])
            m->spare[i]->ops->destroy(m->spare[i]);
        m->spare[i] = NULL;
    }
}

/* The LAPICs are the board's from here on. */
static void leave_kvm(struct machine *m, const char *why) {
    m->ops = cpu_software();
    snprintf(m->cpu_why, sizeof(m->cpu_why), "%.190s", why);
    m->apics_here = false;
    wires_come_home(m->wires);
    windows_come_home(m->windows);
    if (m->board.apics)
        apic_bus_come_home(m->board.apics);
    for (unsigned i = 0; i < m->config.cpus; i++) {
        struct lapic_cpu pins = make_pins(m, i);

        lapic_come_home(m->board.lapic[i], &pins);
    }
}

static int take_over(struct machine *m, const struct x86_state *state, const char *why,
                     struct error *err) {
    int r = 0;

    machine_dirty_lost(m);
    fetch_apics(m);
    for (unsigned i = 0; i < m->config.cpus; i++)
        m->spare[i] = vcpu_change(m->cpu[i].vcpu, m->spare[i]);
    leave_kvm(m, why);
    for (unsigned i = 0; r == 0 && i < m->config.cpus; i++) {
        r = m->ops->set_state(vcpu_cpu(m->cpu[i].vcpu), &state[i], err);
        lapic_sync(m->board.lapic[i]);
    }
    free_spares(m); /* which are KVM's now */
    return r;
}

/* The processors are parked, and their state is that between two instructions. Nothing is made for
 * it that a jail would refuse: the software processors have been there since the beginning. */
int machine_use_software(struct machine *m, const char *why, struct error *err) {
    struct x86_state *state = calloc(m->config.cpus, sizeof(*state));
    int r;

    if (!state)
        return error_set(err, -ENOMEM, "the processors: out of memory");
    for (unsigned i = 0; i < m->config.cpus; i++)
        m->ops->get_state(vcpu_cpu(m->cpu[i].vcpu), &state[i]);
    r = take_over(m, state, why, err);
    free(state);
    return r;
}

bool machine_may_use_software(const struct machine *m) { return m->spare[0]; }

bool machine_chooses_cpu(const struct machine *m) { return !strcmp(m->config.cpu, "auto"); }

/* A KVM that is an emulation cannot execute everything that guests do, and no KVM emulates all that
 * they may do with a device. What it leaves is the state before that instruction. */
static void change_backend(struct machine *m) {
    struct error failure = m->error;

    m->soft_wanted = false;
    m->error = (struct error){0};
    error_prefix(&failure, "KVM has failed");
    if (machine_use_software(m, failure.text, &m->error) < 0) {
        m->ending = true;
        m->end = MACHINE_FAILED;
        return;
    }
    log_warning("%s: the machine goes on with the software processor", failure.text);
}

/* The guest may have asked more than once before this runs; another thread may add to it while the
 * processors come to rest, so what to do is decided after that. */
static void act(void *opaque) {
    struct machine *m = opaque;
    bool crashed;

    if (m->panicked && !m->over && m->config.panicked)
        m->config.panicked(m->config.opaque);
    m->panicked = false;
    if (m->over || (!m->ending && !m->reset_wanted && !m->soft_wanted))
        return;
    park_all(m);
    crashed = m->crashed;
    if (!m->ending && m->soft_wanted)
        change_backend(m);
    if (!m->ending && !m->reset_wanted) {
        run_all(m);
        return;
    }
    if (!m->ending && reset_now(m, &m->error) < 0) {
        m->ending = true;
        m->end = MACHINE_FAILED;
    }
    m->reset_wanted = m->crashed = false;
    if (m->ending) {
        m->over = true;
        m->config.ended(m->config.opaque, m->end, m->end_code);
        return;
    }
    if (m->config.was_reset)
        m->config.was_reset(m->config.opaque, crashed);
    run_all(m);
}

static void kick_all(struct machine *m) /* no further instruction than need be */
{
    for (unsigned i = 0; i < m->config.cpus; i++)
        vcpu_kick(m->cpu[i].vcpu);
    loop_post(m->loop, act, m);
}

static void end(struct machine *m, enum machine_end how, unsigned code) {
    if (m->ending)
        return;
    m->ending = true;
    m->end = how;
    m->end_code = code;
    kick_all(m);
}

void machine_reset(struct machine *m) {
    if (m->ending || m->reset_wanted)
        return;
    m->reset_wanted = true;
    kick_all(m);
}

static void panicked(struct machine *m) {
    if (m->panicked)
        return;
    m->panicked = true;
    loop_post(m->loop, act, m);
}

static void power_request(void *opaque, enum power_event event, unsigned code) {
    struct machine *m = opaque;

    trace(machine_power, event, code);
    switch (event) {
    case POWER_OFF:
        end(m, MACHINE_POWERED_OFF, 0);
        break;
    case POWER_EXIT:
        end(m, MACHINE_DEBUG_EXIT, code);
        break;
    case POWER_RESET:
    case POWER_PANIC:
        if (m->config.no_reboot)
            end(m, event == POWER_RESET ? MACHINE_RESET : MACHINE_CRASHED, event == POWER_PANIC);
        else if (event == POWER_RESET)
            machine_reset(m);
        else /* the guest decides by itself what to do next */
            panicked(m);
        break;
    }
}

static void cpu_stopped(void *opaque, unsigned index, const struct error *failure) {
    struct machine *m = opaque;

    trace(machine_stop, index, failure ? failure->text : "triple fault");
    if (failure && m->spare[0] && !m->ending) {
        m->error = *failure;
        m->soft_wanted = true;
        kick_all(m);
    } else if (failure) {
        if (!m->ending)
            m->error = *failure;
        end(m, MACHINE_FAILED, 0);
    } else if (m->config.no_reboot) {
        end(m, MACHINE_CRASHED, 0);
    } else {
        m->crashed = true;
        machine_reset(m); /* a PC's chipset turns the shutdown cycle into a reset */
    }
}

/* ---- building ---- */

static struct cpu_config config_of(struct machine *m, unsigned i) {
    return (struct cpu_config){
        .index = i,
        .count = m->config.cpus,
        .model = m->config.cpu_model,
        .dirty_ring = m->config.dirty == DIRTY_RING,
        .peers = m->config.cpus > 1 ? m->peers : NULL,
        .debug = m->config.cpu_debug,
        .bus = {.opaque = &m->cpu[i],
                .mem = m->board.common,
                .smm_mem = m->config.smm ? &m->board.mem : NULL,
                .clock = m->board.clock,
                .io_read = bus_read,
                .io_write = bus_write,
                .intr_ack = bus_intr_ack,
                .eoi_settle = bus_eoi_settle,
                .hypercall = bus_hypercall,
                .stolen = bus_stolen,
                .ext_ack = bus_ext_ack,
                .eoi = bus_eoi,
                .get_tpr = bus_get_tpr,
                .set_tpr = bus_set_tpr,
                .msr_read = bus_msr_read,
                .msr_write = bus_msr_write,
                .freeze = bus_freeze,
                .settle = bus_settle},
    };
}

static int make_cpus(struct machine *m, struct error *err) {
    struct vcpu_owner owner = {.lock = m->lock,
                               .clock = m->board.clock,
                               .loop = m->loop,
                               .stopped = cpu_stopped,
                               .opaque = m};

    for (unsigned i = 0; i < m->config.cpus; i++) {
        struct cpu_config c = config_of(m, i);

        m->cpu[i].vcpu = vcpu_new(m->ops, &c, &owner, err);
        if (!m->cpu[i].vcpu)
            return -ENOMEM;
    }
    clock_set_promise(m->board.clock, vcpu_promise, m);
    m->board.mem.code_opaque = m;
    m->board.mem.code_written = code_written;
    m->board.seen.code_opaque = m;
    m->board.seen.code_written = code_written;
    return 0;
}

/* What the guest was told of stays as it was when other processors go on. */
static void lack(struct machine *m) {
    for (unsigned i = 0; i < m->config.cpus; i++) {
        vcpu_cpu(m->cpu[i].vcpu)->config.less = m->less;
        if (m->spare[i])
            m->spare[i]->config.less = m->less;
    }
}

int machine_tell_features(struct machine *m, const uint32_t *words, struct error *err) {
    const uint32_t *own = vcpu_cpu(m->cpu[0].vcpu)->config.less;
    int r = 0;

    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        /* Snapshots do not say whether one that has nobody to call was told how to. */
        uint32_t unsaid = i == CPUID_KVM && m->config.cpus == 1 ? CPUID_KVM_CALLS : 0;

        m->less[i] = ~(words[i] | unsaid) | (own ? own[i] : 0);
    }
    lack(m);
    for (unsigned i = 0; m->ops->tell && r == 0 && i < m->config.cpus; i++)
        r = m->ops->tell(vcpu_cpu(m->cpu[i].vcpu), err);
    return r;
}

static void free_cpus(struct machine *m) {
    for (unsigned i = 0; i < m->config.cpus; i++) {
        vcpu_free(m->cpu[i].vcpu);
        m->cpu[i].vcpu = NULL;
    }
    memset(m->peers, 0, sizeof(m->peers));
}

/* Where software cannot run the machine, KVM does without. */
static void make_spares(struct machine *m) {
    const struct cpu_ops *ops = cpu_software();

    for (unsigned i = 0; i < m->config.cpus; i++) {
        struct cpu_config c = config_of(m, i);
        struct error err = {0};

        c.peers = m->config.cpus > 1 ? m->spare_peers : NULL;
        if (ops->create(&c, &m->spare[i], &err) < 0) {
            trace(machine_stop, i, err.text);
            free_spares(m);
            return;
        }
    }
}

static void keep_lacks(struct machine *m) {
    const uint32_t *less = vcpu_cpu(m->cpu[0].vcpu)->config.less;

    if (!less || m->config.restoring) /* the snapshot says what the guest was told */
        return;
    memcpy(m->less, less, sizeof(m->less));
    lack(m);
}

/* What auto has chosen may turn out not to do for this machine's model. */
static int make_chosen_cpus(struct machine *m, struct error *err) {
    struct error refused = {0};
    bool chooses;
    int r;

    if (!m->ops->apic)
        return make_cpus(m, err);
    make_spares(m);
    chooses = machine_chooses_cpu(m) && m->spare[0];
    r = make_cpus(m, chooses ? &refused : err);
    if (r == 0)
        keep_lacks(m);
    if (r == 0 || !chooses)
        return r;
    free_cpus(m);
    free_spares(m);
    leave_kvm(m, refused.text);
    return make_cpus(m, err);
}

static struct lapic_cpu make_pins(struct machine *m, unsigned i) {
    return (struct lapic_cpu){.intr = m->ops->apic ? pin_ext_int : pin_intr,
                              .nmi = pin_nmi,
                              .smi = pin_smi,
                              .init = pin_init,
                              .sipi = pin_sipi,
                              .store = m->ops->apic ? apic_store : NULL,
                              .fetch = m->ops->apic ? apic_fetch : NULL,
                              .opaque = &m->cpu[i]};
}

/* Of a kernel nothing is needed before the next reset. */
static int open_boot(struct machine *m, struct error *err) {
    int r;

    if (m->config.firmware)
        return 0;
    r = boot_open(&m->image, m->config.kernel, m->config.initrd, m->config.initrds,
                  m->config.cmdline, m->config.restoring ? &m->boot_error : err);
    return m->config.restoring ? 0 : r;
}

static int build(struct machine *m, struct error *err) {
    struct lapic_cpu pins[MACHINE_MAX_CPUS];
    struct board_config config = {
        .machine = &m->config,
        .loop = m->loop,
        .power = {.request = power_request, .opaque = m},
        .cpu_pins = pins,
        .apic_message = m->ops->apic ? apic_message : NULL,
        .apic_opaque = m,
        .wires = m->wires,
        .windows = m->windows,
    };
    int r;

    if (m->config.smm && m->ops->apic)
        return error_set(
            err, -ENOTSUP,
            "the machine has system management mode, which is not there under KVM; use "
            "--cpu soft, or --smm off");
    m->plug = plug_new(m, &m->config, &config.unplug, &config.unplug_cpu, err);
    if (!m->plug)
        return -ENOMEM;

    for (unsigned i = 0; i < m->config.cpus; i++) {
        m->cpu[i] = (struct machine_cpu){.machine = m, .index = i};
        pins[i] = make_pins(m, i);
    }
    m->apics_here = m->ops->apic && m->config.restoring;
    r = open_boot(m, err);
    m->image.text_screen = m->config.display.adapter == MACHINE_VGA;
    m->image.screen = (struct boot_screen){boot_screen_set, &m->board};
    config.rom = m->config.firmware ? m->config.firmware->size : 0;
    if (r == 0)
        r = board_init(&m->board, &config, err);
    m->config.backing = NULL; /* copied */
    m->config.numa = NULL;
    m->config.sites = 0; /* they have what they wanted */
    if (r == 0)
        r = make_chosen_cpus(m, err);
    return r < 0 || m->config.restoring ? r : reset_now(m, err);
}

/* Why auto must not choose KVM for it. */
static const char *not_kvm(const struct machine_config *config) {
    const struct cpu_debug *d = &config->cpu_debug;

    if (config->smm)
        return "the machine has system management mode, which is not there under KVM";
    if (d->off || d->dump || d->count || d->check || d->perf_map)
        return "the options look into the translator";
    return NULL;
}

struct machine *machine_new(const struct machine_config *config, struct loop *loop,
                            pthread_mutex_t *lock, struct error *err) {
    struct machine *m = calloc(1, sizeof(*m));
    int r;

    if (!m) {
        error_set(err, -ENOMEM, "the machine: out of memory");
        return NULL;
    }
    m->config = *config;
    m->loop = loop;
    m->lock = lock;
    m->image.kernel.fd = -1;
    m->ops = cpu_select(config->cpu, not_kvm(config), m->cpu_why, sizeof(m->cpu_why), err);
    if (m->ops) {
        m->wires = wires_new(loop, m->ops->apic ? &wire_ops : NULL, m);
        m->windows = windows_new(m->ops->window ? window : NULL, m);
    }
    pthread_mutex_lock(lock);
    r = m->ops ? build(m, err) : -EINVAL;
    pthread_mutex_unlock(lock);
    if (r < 0) {
        machine_free(m);
        return NULL;
    }
    return m;
}

int machine_settle_memory(struct machine *m, struct error *err) {
    int r = m->board.mem.kept || m->board.mem.backing.nodes ? mem_settle(&m->board.mem, err) : 0;

    return r == 0 && m->config.vfio ? passed_map(&m->board, m->config.vfio, err) : r;
}

bool machine_memory_is_scarce(const struct machine *m) { return m->board.mem.area; }

int machine_start(struct machine *m, struct error *err) {
    int r = 0;

    pthread_mutex_lock(m->lock);
    for (unsigned i = 0; r == 0 && i < m->config.cpus; i++)
        r = vcpu_start(m->cpu[i].vcpu, err);
    if (r == 0) {
        m->started = true;
        if (!m->paused) {
            if (m->apics_here) /* it was paused before */
                store_apics(m);
            run_devices(m);
        }
        run_all(m);
    }
    pthread_mutex_unlock(m->lock);
    return r;
}

void machine_stop(struct machine *m) {
    pthread_mutex_lock(m->lock);
    m->ending = m->over = true;
    park_all(m);
    if (m->board.clock)
        clock_pause(m->board.clock);
    pthread_mutex_unlock(m->lock);
}

void machine_free(struct machine *m) {
    if (!m)
        return;
    machine_stop(m);
    for (unsigned i = 0; i < m->config.cpus; i++) {
        struct vcpu *v = m->cpu[i].vcpu;
        m->cpu[i].vcpu = NULL; /* devices that go away may still move their wires */
        vcpu_free(v);
    }
    free_spares(m);
    m->board.mem.code_written = m->board.seen.code_written = NULL;
    pthread_mutex_lock(m->lock);
    board_done(&m->board);
    plug_free(m->plug);
    wires_free(m->wires);
    windows_free(m->windows);
    pthread_mutex_unlock(m->lock);
    boot_close(&m->image);
    free(m);
}

const struct device *machine_device(const struct machine *m, unsigned i) {
    return i < m->board.devices ? m->board.device[i] : NULL;
}

void machine_cpu_state(struct machine *m, unsigned i, struct x86_state *ret) {
    struct vcpu *v = m->cpu[i].vcpu;

    vcpu_pause(v);
    m->ops->get_state(vcpu_cpu(v), ret);
    run_all(m);
}

const char *machine_cpu_backend(const struct machine *m, const char **ret_why) {
    *ret_why = *m->cpu_why ? m->cpu_why : "as asked for";
    return m->ops->name;
}

int machine_set_boot_order(struct machine *m, const char *order, const char *first,
                           struct error *err) {
    if (!m->config.firmware)
        return error_set(err, -EBUSY,
                         "the machine has no firmware that chooses what to boot: --kernel is "
                         "booted directly");
    m->config.boot_order = m->board.boot_order = order;
    m->config.boot_first = m->board.boot_first = first;
    return 0;
}

void machine_replug_nics(struct machine *m) {
    for (unsigned i = 0; i < m->board.devices; i++)
        if (!strcmp(m->board.device[i]->cls->name, "virtio_net"))
            virtio_net_replug(m->board.device[i]);
        else if (!strcmp(m->board.device[i]->cls->name, "e1000e"))
            e1000e_replug(m->board.device[i]);
}

const char *machine_drive_name(const struct machine *m, unsigned drive) {
    return m->board.drive[drive].name;
}

bool machine_has_sata(const struct machine *m) { return m->board.ahci; }

void machine_change_medium(struct machine *m, unsigned drive, struct block *block) {
    const struct board_drive *d = &m->board.drive[drive];

    d->change(d->dev, d->unit, block);
    m->config.cdrom[drive] = block;
}

bool machine_medium_locked(const struct machine *m, unsigned drive) {
    const struct board_drive *d = &m->board.drive[drive];

    return d->locked(d->dev, d->unit);
}

void machine_power_button(struct machine *m) { acpi_pm_power_button(m->board.pm); }

struct device *machine_serial(struct machine *m, unsigned i) {
    return m->board.uart[i];
}

struct device *machine_balloon(struct machine *m) {
    return m->board.balloon;
}

struct device *machine_vmem(struct machine *m) {
    return m->board.vmem;
}

struct device *machine_vsock(struct machine *m) {
    return m->board.vsock;
}

struct device *machine_i8042(struct machine *m) {
    return m->board.i8042;
}

struct device *machine_keyboard(struct machine *m) {
    return m->board.keyboard;
}

struct device *machine_tablet(struct machine *m) {
    return m->board.tablet;
}

struct device *machine_console(struct machine *m) {
    return m->board.console;
}

struct machine_dirty *machine_dirty_of(struct machine *m) {
    return &m->dirty;
}

struct plug *machine_plug(struct machine *m) {
    return m->plug;
}

void machine_silence_cpu(struct machine *m, unsigned i) {
    vcpu_signal(m->cpu[i].vcpu, CPU_SIGNAL_INIT, 0);
    device_reset(m->board.lapic[i]);
}

struct board *machine_board(struct machine *m) {
    return &m->board;
}

struct cpu *machine_cpu(struct machine *m, unsigned i) {
    return vcpu_cpu(m->cpu[i].vcpu);
}

const struct machine_config *machine_config(const struct machine *m) { return &m->config; }

struct loop *machine_loop(struct machine *m) {
    return m->loop;
}

bool machine_wants_reset(const struct machine *m) { return m->reset_wanted; }

const struct error *machine_error(const struct machine *m) { return &m->error; }

void machine_print_stats(struct machine *m, FILE *f) {
    const char *why, *backend = machine_cpu_backend(m, &why);

    fprintf(f, "cpu backend: %s (%s)\n", backend, why);
    for (unsigned i = 0; i < m->config.cpus; i++)
        if (m->ops->stats)
            m->ops->stats(vcpu_cpu(m->cpu[i].vcpu), f);
    stats_print(f);
}
