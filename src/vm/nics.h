/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands behind the machine's network interfaces: the network, and the ROM from which firmware
 * boots over it. */
#ifndef VM_NICS_H
#define VM_NICS_H

#include "vm/options.h"

/* Fills port, model and ROM of the interface; `port` and the ROM are the caller's to close and
 * free. */
int nics_open(const struct options *o, unsigned nic, struct loop *loop, struct machine_nic *ret,
              struct error *err);
/* The words of --nic for the model. */
const char *nics_model_name(enum machine_nic_model model);
bool nics_model_find(const char *name, enum machine_nic_model *ret);
/* What the interface's network is told to take; 0: the usual. */
uint16_t nics_mtu(const struct options *o, unsigned nic);
/* Is its ROM the one that the host has installed for the model? */
bool nics_rom_is_usual(const struct options_nic *n);
/* The path of the ROM that the interface has, NULL: none. */
const char *nics_rom(const struct options *o, unsigned nic);
/* Once, before the machine is made: a snapshot tells of them later, when the jail shows no files.
 */
void nics_choose_roms(struct options *o);

#endif
