/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bodies and words of any kind against the declarations of the resources: what is accepted is
 * within them, and stays accepted when what was left out has been filled in. */
#include <stdlib.h>
#include <string.h>

#include "proto/lines.h"
#include "proto/resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

static void check_fields(const struct resource *r, const json_t *spec) {
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)spec, key, v) {
        const struct field *f = field_find(r->fields, key);

        check(f && f->place == FIELD_SPEC && field_check(f, v, NULL) == 0);
    }
}

static void try_body(const struct resource *r, const json_t *body) {
    char field[FIELD_PATH_MAX];
    struct error err = {0};
    json_t *spec;

    if (resource_check_create(r, body, field, &err) == 0) {
        spec = json_deep_copy(json_object_get(body, "spec"));
        if (!spec)
            spec = json_object();
        resource_fill(r, spec);
        check_fields(r, spec);
        json_decref(spec);
    } else {
        check(*err.text);
    }
    if (resource_check_update(r, body, field, NULL) == 0)
        check_fields(r, json_object_get(body, "spec"));
    for (const struct operation *o = r->ops; o->shape != OP_END; o++)
        fields_check_args(o->args, body, field, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = strndup((const char *)data, size);
    json_t *body = message_parse((const char *)data, size, NULL);

    for (const struct resource *const *r = resources; *r; r++) {
        if (body)
            try_body(*r, body);
        for (const struct field *f = (*r)->fields; f->type != FIELD_END; f++) {
            json_t *v = field_read(f, text, NULL);

            check(!v || field_check(f, v, NULL) == 0);
            json_decref(v);
        }
    }
    json_decref(body);
    free(text);
    return 0;
}
