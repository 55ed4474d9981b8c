/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hypercalls between processors. */
#include "machine/paravirt.h"

#include <errno.h>
#include <sched.h>

#include "base/trace.h"
#include "devices/lapic.h"
#include "machine/vcpu.h"

enum { /* linux/kvm_para.h */
       HC_VAPIC_POLL_IRQ = 1,
       HC_KICK_CPU = 5,
       HC_SEND_IPI = 10,
       HC_SCHED_YIELD = 11,
       KVM_ENOSYS = 1000,
};

enum { ICR_MODE = 7 << 8, MODE_FIXED = 0, MODE_NMI = 4 << 8 };

static int find(const struct paravirt_cpus *cpus, uint64_t apic_id) {
    for (unsigned i = 0; i < cpus->count; i++)
        if (lapic_id(cpus->lapic[i]) == apic_id)
            return (int)i;
    return -1;
}

static int64_t kick(const struct paravirt_cpus *cpus, uint64_t apic_id) {
    int i = find(cpus, apic_id);

    if (i >= 0)
        vcpu_signal(cpus->vcpu[i], CPU_SIGNAL_UNHALT, 0);
    return 0;
}

/* Vector and mode of icr to the processors min + n for each bit n of the map, whose words have the
 * width of the caller's. Returns how many there were. */
static int64_t send_ipi(const struct paravirt_cpus *cpus, unsigned caller, const uint64_t arg[4],
                        bool code64) {
    unsigned width = code64 ? 64 : 32;
    uint32_t min = (uint32_t)arg[2], icr = (uint32_t)arg[3], mode = icr & ICR_MODE;
    int64_t count = 0;

    if (mode != MODE_FIXED && mode != MODE_NMI)
        return -EINVAL;
    for (unsigned n = 0; n < 2 * width; n++) {
        int i = arg[n / width] >> n % width & 1 ? find(cpus, (uint64_t)min + n) : -1;

        if (i < 0)
            continue;
        lapic_send(cpus->lapic[caller], lapic_id(cpus->lapic[i]), mode | (icr & 0xff));
        count++;
    }
    return count;
}

/* To a processor that has something to do and is not let run by the host. Which of the host's
 * threads runs next is the host's affair; the caller makes room. */
static int64_t make_room(void) {
    sched_yield();
    return 0;
}

int64_t paravirt_call(const struct paravirt_cpus *cpus, unsigned caller, uint64_t nr,
                      const uint64_t arg[4], bool code64) {
    stat_inc(hypercalls);
    switch (nr) {
    case HC_VAPIC_POLL_IRQ:
        return 0;
    case HC_KICK_CPU:
        return kick(cpus, arg[1]);
    case HC_SEND_IPI:
        return send_ipi(cpus, caller, arg, code64);
    case HC_SCHED_YIELD:
        return make_room();
    default:
        return -KVM_ENOSYS;
    }
}
