/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The catalogue of guest systems, and the operations on it, which only read. */
#include "host/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "host/api.h"

const struct catalogue_os catalogue[] = {
#define OS(...) {__VA_ARGS__},
#include "host/catalogue.def"
#undef OS
    {0},
};

static json_t *words(const char *text) {
    json_t *list = json_array();

    while (*text) {
        size_t n = strcspn(text, ",");

        json_array_append_new(list, json_stringn(text, n));
        text += n + (text[n] == ',');
    }
    return list;
}

static json_t *item(const struct catalogue_os *s) {
    return json_pack("{s:s, s:s, s:i, s:o, s:o, s:s, s:s, s:s}", "name", s->name, "title", s->title,
                     "bits", s->bits, "boots", words(s->boots), "drivers", words(s->drivers),
                     "tested", s->date, "test", s->test, "remarks", s->remarks);
}

static int list(struct api_call *call) {
    int64_t limit = row_number(call->args, "limit");
    const char *after = row_text(call->args, "after"), *last = "";
    json_t *items = json_array();

    call->result = json_pack("{s:o}", "items", items);
    for (const struct catalogue_os *s = catalogue; s->name; s++) {
        if (strcmp(s->name, after) <= 0)
            continue;
        if ((int64_t)json_array_size(items) == limit) {
            json_object_set_new(call->result, "next", json_string(last));
            break;
        }
        json_array_append_new(items, item(s));
        last = s->name;
    }
    return 0;
}

static int get(struct api_call *call) {
    for (const struct catalogue_os *s = catalogue; s->name; s++)
        if (!strcmp(s->name, call->name)) {
            call->result = item(s);
            return 0;
        }
    return api_fail(call, FAILURE_NOT_FOUND, "name", "'viv os list' shows what there is",
                    "the catalogue has no guest system '%.60s'; others may work as well",
                    call->name);
}

const struct api_handler system_handlers[] = {{"list", list}, {"get", get}, {NULL, NULL}};
