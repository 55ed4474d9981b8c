/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How an image wants to be run (OCI image-spec 1.1, config.md), checked, for our init. */
#ifndef OCI_CONFIG_H
#define OCI_CONFIG_H

#include <jansson.h>

#include "base/error.h"

/* {"entrypoint": [...], "cmd": [...], "env": ["NAME=VALUE"...], "user": "", "workdir": "",
 * "stop_signal": ""} of an image's configuration; NULL with a sentence. */
json_t *oci_run_config(const json_t *config, struct error *err);

#endif
