/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli), the checksum of saved files. Source: RFC 3720, appendix B.4. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Begin with 0; give the last result to go on: crc32c(crc32c(0, a), b) is that of a and b in a row.
 */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same without the processor's instruction, for hosts that lack it and for tests. */
uint32_t crc32c_table(uint32_t crc, const void *p, size_t n);

#endif
