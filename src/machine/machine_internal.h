/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine's parts, for those who save, load and look at it as a whole. Lock held, and the
 * machine at rest where processors are concerned. */
#ifndef MACHINE_MACHINE_INTERNAL_H
#define MACHINE_MACHINE_INTERNAL_H

#include "machine/board.h"
#include "machine/dirty.h"
#include "machine/machine.h"
#include "machine/vcpu.h"

struct board *machine_board(struct machine *m);
void machine_silence_cpu(struct machine *m, unsigned i); /* until it is started anew */
struct machine_dirty *machine_dirty_of(struct machine *m);
struct plug *machine_plug(struct machine *m);
struct cpu *machine_cpu(struct machine *m, unsigned i);
const struct machine_config *machine_config(const struct machine *m);
struct loop *machine_loop(struct machine *m);
bool machine_chooses_cpu(const struct machine *m); /* "auto" */
/* Software goes on from the state that KVM's processors have: possible while KVM runs it. */
bool machine_may_use_software(const struct machine *m);
int machine_use_software(struct machine *m, const char *why, struct error *err);
/* Its processors have no other features than these words (cpu/cpuid.h), as the guest was told; for
 * processors that have not run. */
int machine_tell_features(struct machine *m, const uint32_t *words, struct error *err);
bool machine_wants_reset(const struct machine *m); /* asked for, not yet done */

#endif
