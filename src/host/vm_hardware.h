/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What machines are built of and how they boot: firmware and its variables, optical drive, screen,
 * what SMBIOS tells (proto/resource_hardware.h). The variables of UEFI firmware are the file
 * UEFI_VARS in the machine's folder.
 */
#ifndef HOST_VM_HARDWARE_H
#define HOST_VM_HARDWARE_H

#include "host/api.h"
#include "host/image.h"
#include "host/words.h"

/* Of a spec, or of a change of one: what the declaration cannot say. */
int hardware_check(struct api_call *call, const json_t *spec);
/* Of a whole spec: is there something that it can boot? `files`: of its image. */
int hardware_check_boot(struct api_call *call, const json_t *spec, const struct image_files *files);
/* Does the change touch what a memory that is kept knows? */
bool hardware_changes(const json_t *patch);

/* "kernel", "bios", "uefi" or the path of a ROM image. */
const char *hardware_boots_by(const json_t *spec, const struct image_files *files);
/* The options of viv-vm that make it so; `restored`: it goes on from a memory. */
void hardware_words(struct words *w, const struct store_row *row, const struct image_files *files,
                    bool restored);
/* spec.boot as the command boot-order-set of viv-vm takes it. */
json_t *hardware_boot_args(const json_t *spec);
/* A clone by somebody who may not bind machines to nodes of the host is bound to none. */
void hardware_forget_nodes(const struct api_call *call, json_t *spec);
/* It has no volumes: none comes first. */
void hardware_forget_volume(json_t *spec);
/* Into status: what its process is started with. True: something is new. */
bool hardware_note(struct store_row *row, const struct image_files *files);
/* Its process is gone. */
void hardware_unset(struct store_row *row);

/* Operations. */
int hardware_insert(struct api_call *call);
int hardware_eject(struct api_call *call);

#endif
