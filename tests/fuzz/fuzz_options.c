/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any command line: one argument a line. It is understood, or refused with a sentence of one line.
 */
#include "vm/options.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *rest = text, *word;
    char *argv[300] = {"viv-vm"};
    struct error err = {0};
    struct options o;
    int argc = 1;

    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    while (argc < 299 && (word = strsep(&rest, "\n")))
        argv[argc++] = word;
    if (options_parse(&o, argc, argv, &err) < 0) {
        if (err.code >= 0 || !*err.text || strchr(err.text, '\n'))
            abort();
    } else if (!o.help && !o.help_man && !o.version && !o.traces) {
        if ((!o.kernel && !o.restore && !o.firmware) || o.memory < 16ull << 20 ||
            o.memory > 128ull << 30 || o.memory % (2 << 20) || o.disks > MACHINE_MAX_DISKS ||
            o.nics > MACHINE_MAX_NICS)
            abort();
        for (unsigned i = 0; i < o.disks; i++)
            if (!*o.disk[i].path)
                abort();
    }
    options_done(&o);
    free(text);
    return 0;
}
