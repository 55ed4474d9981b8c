/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loads the module with TLS, once it is wanted. */
#ifndef VM_TLS_H
#define VM_TLS_H

#include "base/error.h"

struct tls_module;

/* It stays for the life of the process. NULL with a sentence on failure. */
const struct tls_module *tls_module_load(struct error *err);

#endif
