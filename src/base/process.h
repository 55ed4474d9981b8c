/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this process takes of the host. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdint.h>

uint64_t process_resident(void); /* bytes of memory; 0: not known */

#endif
