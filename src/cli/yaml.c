/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Items as YAML that `viv apply` takes: kind, name and what may be said of a spec. */
#include <ctype.h>
#include <string.h>
#include <yaml.h>

#include "cli/cli.h"
#include "proto/units.h"

/* Would another reader of YAML take these characters for something else than a text? */
static bool is_misread(const char *s) {
    static const char *const words[] = {"",    "~", "null", "true", "false", "yes",  "no", "on",
                                        "off", "y", "n",    ".inf", "-.inf", ".nan", "<<", "="};

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (!strcasecmp(s, words[i]))
            return true;
    return (isdigit((unsigned char)*s) || strchr("+-.", *s)) &&
           strspn(s, "0123456789.+-:_eExXaAbBcCdDfFoOtTzZ ") == strlen(s);
}

static bool put(yaml_emitter_t *e, yaml_event_t *event) { return yaml_emitter_emit(e, event); }

static bool put_scalar(yaml_emitter_t *e, const char *s, bool text) {
    yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;
    yaml_event_t event;

    if (text && strchr(s, '\n'))
        style = YAML_LITERAL_SCALAR_STYLE;
    else if (text && is_misread(s))
        style = YAML_SINGLE_QUOTED_SCALAR_STYLE;
    return yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)s, (int)strlen(s),
                                        1, 1, style) &&
           put(e, &event);
}

static bool put_list(yaml_emitter_t *e, const json_t *list) {
    yaml_event_t event;
    const json_t *one;
    size_t i;

    if (!yaml_sequence_start_event_initialize(&event, NULL, NULL, 1,
                                              json_array_size(list) ? YAML_BLOCK_SEQUENCE_STYLE
                                                                    : YAML_FLOW_SEQUENCE_STYLE) ||
        !put(e, &event))
        return false;
    json_array_foreach(list, i, one)
        if (!put_scalar(e, json_is_string(one) ? json_string_value(one) : "", true))
            return false;
    return yaml_sequence_end_event_initialize(&event) && put(e, &event);
}

/* As people write it, if that says the same. */
static void write_size(int64_t bytes, char *out, size_t size) {
    int64_t back = -1;

    units_put_size(bytes, out, size);
    if (units_read_size(out, &back, NULL) < 0 || back != bytes)
        snprintf(out, size, "%lld", (long long)bytes);
}

static bool put_value(yaml_emitter_t *e, const struct field *f, const json_t *v) {
    char word[40];

    if (f->type == FIELD_STRINGS)
        return put_list(e, v);
    if (json_is_string(v))
        return put_scalar(e, json_string_value(v), true);
    if (json_is_boolean(v))
        return put_scalar(e, json_is_true(v) ? "true" : "false", false);
    if (f->type == FIELD_SIZE)
        write_size(json_integer_value(v), word, sizeof(word));
    else
        snprintf(word, sizeof(word), "%lld", (long long)json_integer_value(v));
    return put_scalar(e, word, false);
}

static bool put_map(yaml_emitter_t *e) {
    yaml_event_t event;

    return yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) &&
           put(e, &event);
}

static bool put_map_end(yaml_emitter_t *e) {
    yaml_event_t event;

    return yaml_mapping_end_event_initialize(&event) && put(e, &event);
}

static bool put_spec(yaml_emitter_t *e, const struct resource *r, const json_t *spec) {
    if (!put_scalar(e, "spec", false) || !put_map(e))
        return false;
    for (const struct field *f = r->fields; f->type != FIELD_END; f++) {
        const json_t *v = json_object_get(spec, f->name);

        if (v && f->place == FIELD_SPEC && f->flags & (FIELD_CREATE | FIELD_UPDATE) &&
            (!put_scalar(e, f->name, false) || !put_value(e, f, v)))
            return false;
    }
    return put_map_end(e);
}

static bool put_item(yaml_emitter_t *e, const struct resource *r, const json_t *item, bool many) {
    const json_t *spec = json_object_get(item, "spec");
    yaml_event_t event;

    if (!yaml_document_start_event_initialize(&event, NULL, NULL, NULL, !many) || !put(e, &event) ||
        !put_map(e) || !put_scalar(e, "kind", false) || !put_scalar(e, r->name, true) ||
        !put_scalar(e, "name", false) || !put_scalar(e, item_text(item, NULL, "name"), true) ||
        (json_object_size(spec) && !put_spec(e, r, spec)) || !put_map_end(e))
        return false;
    return yaml_document_end_event_initialize(&event, 1) && put(e, &event);
}

void show_yaml(const struct resource *r, const json_t *items) {
    const json_t *one;
    yaml_emitter_t e;
    yaml_event_t event;
    size_t i;
    bool good;

    if (!yaml_emitter_initialize(&e))
        return;
    yaml_emitter_set_output_file(&e, stdout);
    yaml_emitter_set_unicode(&e, 1);
    yaml_emitter_set_width(&e, -1);
    good = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) && put(&e, &event);
    json_array_foreach(items, i, one)
        good = good && put_item(&e, r, one, json_array_size(items) > 1);
    if (good && yaml_stream_end_event_initialize(&event))
        put(&e, &event);
    yaml_emitter_delete(&e);
}
