/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which model-specific registers our processors have, whatever backend runs them. Pure, any thread.
 */
#ifndef CPU_MSR_H
#define CPU_MSR_H

#include <stdbool.h>
#include <stdint.h>

/* What is not there raises #GP, read or written. */
bool cpu_has_msr(uint32_t msr);

#endif
