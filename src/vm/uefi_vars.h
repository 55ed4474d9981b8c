/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file with the variables of UEFI firmware: what its flash memory holds.
 *
 * Contract: main thread, but uefi_vars_changed from any with the machine lock. A file that is
 * missing is made from the template that belongs to the firmware, whole or not at all. Each change
 * goes into the file at once, so it outlives this process whatever becomes of it, and to the disk
 * within a moment. One machine at a time.
 */
#ifndef VM_UEFI_VARS_H
#define VM_UEFI_VARS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct uefi_vars;

/* `path` NULL: from the template, kept nowhere; *ret NULL: there is no template either. `rom_size`:
 * that of the firmware, which must fit. */
int uefi_vars_open(const char *path, const char *rom, uint64_t rom_size, struct uefi_vars **ret,
                   struct error *err);
const uint8_t *uefi_vars_data(const struct uefi_vars *v, uint32_t *ret_size);
void uefi_vars_changed(void *vars, uint32_t offset, const uint8_t *p, uint32_t n);
void uefi_vars_close(struct uefi_vars *v); /* to the disk first; accepts NULL */

#endif
