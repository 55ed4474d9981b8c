/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers of DHCP servers of any bytes: nothing behind them is read, and texts are words. */
#include "agent/dhcp.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size + !size);
    struct dhcp_lease l = {0};
    uint32_t xid = 0;

    if (!exact)
        return 0;
    memcpy(exact, data, size);
    if (size >= HEAD + 4) { /* numbers that fit, or all would end there */
        static const uint8_t cookie[] = {0x63, 0x82, 0x53, 0x63};

        memcpy(exact + HEAD, cookie, 4);
        memcpy(&xid, exact + 4, 4);
        exact[0] = 2;
    }
    if (dhcp_read(exact, (unsigned)size, xid, &l) &&
        (strlen(l.domain) >= sizeof(l.domain) || strpbrk(l.domain, " \n")))
        abort();
    free(exact);
    return 0;
}
