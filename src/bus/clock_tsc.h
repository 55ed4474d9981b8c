/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frequency of the host's TSC. */
#ifndef BUS_CLOCK_TSC_H
#define BUS_CLOCK_TSC_H

#include <stdint.h>

/* Hz, to 20 ppm of CLOCK_MONOTONIC or better; 0 if the host's TSC cannot serve as a clock. Takes 2
 * to 25 ms. `known`: what was found earlier, perhaps on another host; 0: nothing. If that still
 * holds it takes less than 2 ms, and is good to 100 ppm where the kernel does not confirm it. */
uint64_t clock_tsc_measure(uint64_t known);

#endif
