/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What guests say on a serial line, any bytes: nothing that a terminal would obey is left, and what
 * was cleaned stays. */
#include <stdlib.h>
#include <string.h>

#include "host/console.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size + !size);
    size_t n;

    if (!exact)
        return 0;
    memcpy(exact, data, size);
    n = console_log_clean(exact, size);
    if (n > size)
        abort();
    for (size_t i = 0; i < n; i++)
        if ((exact[i] < 0x20 && exact[i] != '\n' && exact[i] != '\t') || exact[i] == 0x7f ||
            (exact[i] == 0xc2 && (i + 1 == n || exact[i + 1] < 0xa0)))
            abort();
    if (console_log_clean(exact, n) != n)
        abort();
    free(exact);
    return 0;
}
