/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of a manager that is built without a portal. */
#include "host/portal.h"

const struct portal_file portal_files[] = {{.path = NULL}};
