/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lock-step (--check): everything that translated code does is done again by the interpreter, from
 * the same state, and must come to the same.
 *
 * Theory of operation: a trial lets translated code run up to where it comes back to the loop.
 * Every page of RAM is copied before its first write: no write tag of the TLB outlives a trial,
 * so each page passes through check_grant once. Then memory and processor are put back, and the
 * interpreter goes the same way one instruction at a time, until it is where the translated code
 * came out: all registers and every touched page must be equal there. So the translator may stop at
 * any instruction boundary, and nothing here knows how it works. Devices stand still meanwhile
 * (cpu_bus.freeze); what asks for one, or for the time, leaves the trial and is done once, by the
 * interpreter (check_leaves, and the wrapped bus).
 *
 * Arithmetic flags that nobody reads any more may differ. The difference is kept: translated code
 * goes on with its own flags, the interpreter with the true ones, and who reads a wrong one comes
 * to another result.
 *
 * The interpreter looks every access up in the page tables meanwhile.
 *
 * Not compared: accessed and dirty bits that page walks set, for the two walk at other times.
 * Not seen: a write through an entry that a flush has forgotten, for the first write of a trial
 * looks its page up anew. Reads through such an entry are.
 *
 * Contract: vCPU thread. c->jit.check is NULL without --check; callers look at that first.
 */
#ifndef CPU_SOFT_JIT_CHECK_H
#define CPU_SOFT_JIT_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct insn;
struct ref;
struct ref_block;

int check_new(struct ref *c, struct error *err);
void check_free(struct ref *c);

void check_forget(struct ref *c);                           /* the code cache has been flushed */
void check_enter(struct ref *c, const struct ref_block *b); /* in place of jit_enter */
/* In front of whatever the interpreter is about to execute because there is no translation. */
void check_interpret(struct ref *c, const struct ref_block *b);

/* True for instructions that are done once: their results differ each time, or what they flush. */
bool check_leaves(const struct insn *in);

/* A TLB entry is about to allow writes to a page; `tag` will hold its address. */
void check_grant(struct ref *c, const void *host, uint64_t *tag, uint64_t page);
/* Something else will hold the page of an entry that was granted, and `none` afterwards. */
void check_grant_again(struct ref *c, uint64_t *tag, uint64_t page, uint64_t none);
void check_store(struct ref *c, const void *host); /* a write past the TLB, within one page */
void check_walk(struct ref *c, const void *entry); /* a page walk is about to set A or D */

#endif
