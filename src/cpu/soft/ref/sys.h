/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the system side of the interpreter shares: descriptors, stacks under construction, transfers.
 * Everything here may leave by longjmp unless said otherwise.
 */
#ifndef CPU_SOFT_REF_SYS_H
#define CPU_SOFT_REF_SYS_H

#include "cpu/soft/ref/ref.h"

/* ---- mmu.c ---- */
/* Loads the PDPTE registers from CR3; false (nothing changed) if one has reserved bits set. */
bool ref_load_pdptes(struct ref *c, uint64_t cr3);

#endif
