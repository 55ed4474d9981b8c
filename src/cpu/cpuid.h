/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID models: which features a named model advertises, and the numbers other parts must agree on.
 *
 * Contract: pure functions of the model and of the host's CPUID (read once), any thread.
 */
#ifndef CPU_CPUID_H
#define CPU_CPUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu_model.h"
#include "cpu/cpu.h"

/* Family 6, model 8fh (Sapphire Rapids), stepping 4: the newest server part that guests know by
 * heart. */
#define CPUID_SIGNATURE 0x000806f4u

/* 40 bits are 1 TiB, ample. UEFI firmware maps all that there can be, by 2 MiB pages: with 46 bits
 * it would write page tables of 256 MiB first. */
enum { CPUID_PHYS_BITS = 40, CPUID_VIRT_BITS = 48 };

/* Physical address bits that no page-table entry, CR3 or base register may have set. */
#define CPUID_PHYS_RESERVED (~((1ull << CPUID_PHYS_BITS) - 1))

/* 0, or -EINVAL with a sentence: an unknown name (base/cpu_model.h), or the host cannot execute the
 * model. NULL is the default model. Whether a backend has the features that were added it knows
 * itself: */
int cpuid_check_model(const char *model, struct error *err);

/* 0, or -ENOTSUP with a sentence that names a feature which was added to the model and which is in
 * `lacks`, as KVM has it (struct cpu_config.less); NULL: which software lacks, and
 * with them the whole model native. */
int cpuid_check_added(const struct cpu_config *config, const uint32_t *lacks, struct error *err);

/* Name of the model in force ("x86-64-v3" when config->model is NULL and the host can execute
 * that). */
const char *cpuid_model_name(const struct cpu_config *config);

/* Feature bits of one word, as CPUID returns them but without what depends on state (OSXSAVE). */
uint32_t cpuid_word(const struct cpu_config *config, enum cpuid_word word);

/* The names of a word's bits, with commas between, as many as fit. */
void cpuid_print(enum cpuid_word word, uint32_t bits, char *text, size_t size);

/* Bit set of enum insn_feature: what the decoder's rows may ask for. The rest raises #UD. Errors as
 * cpuid_check_model. */
int cpuid_features(const struct cpu_config *config, uint64_t bits[4], struct error *err);

/* True if the table knows a feature of that name (tests: every row of the opcode table can be
 * decided). */
bool cpuid_knows(const char *feature);

/* Of CPUID_KVM: what guests ask for by an instruction of their own, VMCALL or VMMCALL. */
#define CPUID_KVM_CALLS (1u << 7 | 1u << 11 | 1u << 13)

/* 0, or -EINVAL with a sentence: a saved state uses a feature that the processor does not have. */
int cpuid_check_state(const struct cpu_config *config, const struct x86_state *s,
                      struct error *err);

/* Bits of XCR0 that the model allows: 7 with AVX, 3 with XSAVE only, else 1. */
uint64_t cpuid_xcr0(const struct cpu_config *config);

#endif
