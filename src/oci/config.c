/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is not there gets its standard, what is of another type is refused. */
#include "oci/config.h"

#include <errno.h>
#include <string.h>

enum { MOST_WORDS = 4096, MOST_TEXT = 128 * 1024 };

static json_t *words(const json_t *from, const char *name, struct error *err) {
    const json_t *list = json_object_get(from, name);
    json_t *out = json_array(), *one;
    size_t i;

    if (list && !json_is_null(list) &&
        (!json_is_array(list) || json_array_size(list) > MOST_WORDS)) {
        error_set(err, -EINVAL, "the image's '%s' is no list of words", name);
        return out;
    }
    json_array_foreach(list, i, one) {
        if (!json_is_string(one) || json_string_length(one) > MOST_TEXT)
            error_set(err, -EINVAL, "the image's '%s' holds something else than words", name);
        json_array_append(out, one);
    }
    return out;
}

static json_t *text(const json_t *from, const char *name, size_t most, struct error *err) {
    const json_t *v = json_object_get(from, name);

    if (v && !json_is_null(v) && (!json_is_string(v) || json_string_length(v) > most))
        error_set(err, -EINVAL, "the image's '%s' is no text, or too long", name);
    return json_string(json_is_string(v) ? json_string_value(v) : "");
}

json_t *oci_run_config(const json_t *config, struct error *err) {
    const json_t *c = json_object_get(config, "config");
    struct error e = {0};
    json_t *out;

    if (c && !json_is_object(c) && !json_is_null(c))
        error_set(&e, -EINVAL, "the image's 'config' is no object");
    out = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "entrypoint", words(c, "Entrypoint", &e),
                    "cmd", words(c, "Cmd", &e), "env", words(c, "Env", &e), "user",
                    text(c, "User", 256, &e), "workdir", text(c, "WorkingDir", 4000, &e),
                    "stop_signal", text(c, "StopSignal", 32, &e));
    if (!out)
        error_set(&e, -EINVAL, "the image's configuration holds text that is no UTF-8");
    if (!e.code)
        return out;
    json_decref(out);
    error_set(err, e.code, "%s", e.text);
    return NULL;
}
