/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why translated code comes back to C, and from where: what --stats shows of the translator.
 *
 * Contract: vCPU thread; profile_print when it has ended. c->jit.profile is NULL without --stats.
 */
#ifndef CPU_SOFT_JIT_PROFILE_H
#define CPU_SOFT_JIT_PROFILE_H

#include <stdio.h>

#include "base/error.h"

struct ref;
struct ref_block;

int profile_new(struct ref *c, struct error *err);
void profile_free(struct ref *c);
void profile_enter(struct ref *c); /* in front of translated code, and behind it */
void profile_leave(struct ref *c);
void profile_interpret(struct ref *c,
                       const struct ref_block *b); /* a block that has no translation */
void profile_print(struct ref *c, FILE *f);

#endif
