/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cloud-init in a guest is told: from the fields ssh_key, user, hostname and user_data of a
 * machine's spec to the texts of a NoCloud seed disk (host/seed.h).
 */
#ifndef HOST_CLOUD_H
#define HOST_CLOUD_H

#include <jansson.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"

struct cloud_texts {
    struct buf user_data, meta_data, network_config;
};

/* Has the guest anything to be told? Machines without it have no seed disk. */
bool cloud_wanted(const json_t *spec);

/* What the declaration of the fields cannot say: keys that are none, user data that cannot be
 * joined with ours. -EINVAL with a sentence, and the name of the field. */
int cloud_check(const json_t *spec, const char **ret_field, struct error *err);

/* `id` names the instance: another one lets the guest set everything up anew. For cloud_done. */
void cloud_make(const json_t *spec, const char *id, const char *name, struct cloud_texts *ret);
void cloud_done(struct cloud_texts *t);

/* The seed disk of a machine, as a file in its folder. */
int cloud_write(int folder, const char *file, const json_t *spec, const char *id, const char *name,
                struct error *err);

#endif
