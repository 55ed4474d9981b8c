/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A processor's thread: runs it, lets it sleep while halted, parks it when the machine is paused.
 * Inside of machine/. Functions with the machine lock held unless they say otherwise.
 */
#ifndef MACHINE_VCPU_H
#define MACHINE_VCPU_H

#include <pthread.h>

#include "cpu/cpu.h"

struct vcpu;

struct vcpu_owner {
    pthread_mutex_t *lock; /* the machine lock */
    struct clock *clock;
    struct loop *loop;
    /* The processor stopped for good: triple fault (error NULL) or our own failure. On its thread,
     * lock held. */
    void (*stopped)(void *opaque, unsigned index, const struct error *failure);
    void *opaque;
};

struct vcpu *vcpu_new(const struct cpu_ops *ops, const struct cpu_config *config,
                      const struct vcpu_owner *owner, struct error *err);
void vcpu_free(struct vcpu *v); /* without the lock: ends and joins the thread. Accepts NULL */
int vcpu_start(struct vcpu *v, struct error *err); /* makes the thread, parked */
void vcpu_resume(struct vcpu *v);
void vcpu_pause(struct vcpu *v); /* returns when it is parked; the lock is released while waiting */
struct cpu *vcpu_cpu(struct vcpu *v); /* state only while parked */
/* While parked, with the lock: its thread goes on with another processor. Returns the old one. */
struct cpu *vcpu_change(struct vcpu *v, struct cpu *cpu);

/* For clock_set_promise: true if the calling thread is a processor's that may halt soon. */
bool vcpu_promise(void *opaque);
/* Sets the host's timer, if a promise put it off. Without the lock, on the processor's thread. */
void vcpu_settle(struct vcpu *v);

/* ns for which the host let the thread wait although it had something to do; 0 if the host does not
 * say. On the processor's thread. */
uint64_t vcpu_stolen(struct vcpu *v);

/* Interrupt pins, from any thread. */
void vcpu_signal(struct vcpu *v, enum cpu_signal_kind kind, uint8_t vector);
/* Leave guest code soon and look whether to park. From any thread. */
void vcpu_kick(struct vcpu *v);

#endif
