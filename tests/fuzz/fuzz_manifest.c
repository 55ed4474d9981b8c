/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of what is wanted, of any kind: what is taken is within the declarations, and what is
 * refused has a sentence with a place. */
#include <stdlib.h>
#include <string.h>

#include "proto/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct manifest m;
    const char *key;
    json_t *v;
    size_t k;

    manifest_init(&m);
    manifest_read(&m, "/x/f", (const char *)data, size);
    manifest_order(&m);
    for (size_t i = 0; i < m.count; i++) {
        const struct manifest_item *item = &m.item[i];

        check(manifest_find(&m, item->resource->name, item->name) == item);
        json_object_foreach(item->spec, key, v)
            check(field_check(field_find(item->resource->fields, key), v, NULL) == 0);
    }
    json_array_foreach(m.mistakes, k, v)
        check(!strncmp(json_string_value(v), "/x/f:", 5));
    manifest_done(&m);
    return 0;
}
