/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values against their declarations: limits, sentences, standard values. */
#include <errno.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/resource.h"
#include "proto/units.h"

static bool is_choice(const char *choices, const char *word) {
    size_t len = strlen(word), n;

    for (;; choices += n + 1) {
        n = strcspn(choices, "|");
        if (n == len && !memcmp(choices, word, n))
            return true;
        if (!choices[n])
            return false;
    }
}

void field_limits(const struct field *f, char *out, size_t size) {
    char min[32], max[32];

    switch (f->type) {
    case FIELD_INT:
        if (f->max == INT64_MAX)
            snprintf(out, size, "a whole number from %" PRId64 " on", f->min);
        else
            snprintf(out, size, "%" PRId64 " to %" PRId64, f->min, f->max);
        break;
    case FIELD_SIZE:
        units_put_size(f->min, min, sizeof(min));
        units_put_size(f->max, max, sizeof(max));
        snprintf(out, size, "%s to %s", min, max);
        break;
    case FIELD_BOOL:
        snprintf(out, size, "true or false");
        break;
    case FIELD_CHOICE:
        snprintf(out, size, "one of %s", f->choices);
        break;
    case FIELD_STRINGS:
        snprintf(out, size, "at most %" PRId64 " strings", f->max);
        break;
    case FIELD_TIME:
        snprintf(out, size, "a time such as 2026-11-29T23:04:05.678Z");
        break;
    case FIELD_TEXT:
        snprintf(out, size, "%" PRId64 " to %" PRId64 " bytes of text", f->min, f->max);
        break;
    case FIELD_STRING:
        snprintf(out, size, "%" PRId64 " to %" PRId64 " characters%s", f->min, f->max,
                 f->pattern ? " of the form in its help" : "");
        break;
    default:
        snprintf(out, size, "an object");
    }
}

static bool matches(const char *pattern, const char *s) {
    regex_t re;
    bool good;

    if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        abort(); /* a mistake in a table of ours */
    good = regexec(&re, s, 0, NULL, 0) == 0;
    regfree(&re);
    return good;
}

/* Control characters have no place in anything that is shown on a terminal or given to a program.
 */
static bool is_plain_text(const char *s, bool lines) {
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 || *s == 0x7f) && !(lines && strchr("\n\r\t", *s)))
            return false;
    return true;
}

static int check_string(const struct field *f, const json_t *v, int64_t min, int64_t max,
                        struct error *err) {
    const char *s = json_string_value(v);
    size_t len = json_string_length(v);

    if (!s)
        return error_set(err, -EINVAL, "'%s' must be a string", f->name);
    if (strlen(s) != len || !is_plain_text(s, f->type == FIELD_TEXT))
        return error_set(err, -EINVAL, "'%s' must not hold control characters", f->name);
    if ((int64_t)len < min || (int64_t)len > max)
        return error_set(err, -EINVAL,
                         "'%s' has %zu characters, %" PRId64 " to %" PRId64 " are possible",
                         f->name, len, min, max);
    if (f->pattern && !matches(f->pattern, s))
        return error_set(err, -EINVAL, "'%.100s' cannot be the value of '%s', which is: %s", s,
                         f->name, f->help);
    return 0;
}

static int check_strings(const struct field *f, const json_t *v, struct error *err) {
    const json_t *one;
    size_t i;

    if (!json_is_array(v) || json_array_size(v) > (size_t)f->max)
        return error_set(err, -EINVAL, "'%s' must be an array of at most %" PRId64 " strings",
                         f->name, f->max);
    json_array_foreach(v, i, one) {
        int r = check_string(f, one, 1, 200, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int check_number(const struct field *f, const json_t *v, struct error *err) {
    json_int_t n = json_integer_value(v);
    char limits[100], shown[32];

    field_limits(f, limits, sizeof(limits));
    if (!json_is_integer(v))
        return error_set(err, -EINVAL, "'%s' must be a number%s: %s", f->name,
                         f->type == FIELD_SIZE ? " of bytes" : "", limits);
    if (n >= f->min && n <= f->max)
        return 0;
    if (f->type == FIELD_SIZE)
        units_put_size(n, shown, sizeof(shown));
    else
        snprintf(shown, sizeof(shown), "%lld", (long long)n);
    return error_set(err, -EINVAL, "'%s' cannot be %s, only %s", f->name, shown, limits);
}

int field_check(const struct field *f, const json_t *v, struct error *err) {
    int64_t ms;

    switch (f->type) {
    case FIELD_STRING:
    case FIELD_TEXT:
        return check_string(f, v, f->min, f->max, err);
    case FIELD_STRINGS:
        return check_strings(f, v, err);
    case FIELD_INT:
    case FIELD_SIZE:
        return check_number(f, v, err);
    case FIELD_BOOL:
        return json_is_boolean(v) ? 0
                                  : error_set(err, -EINVAL, "'%s' must be true or false", f->name);
    case FIELD_CHOICE:
        if (json_is_string(v) && is_choice(f->choices, json_string_value(v)))
            return 0;
        return error_set(err, -EINVAL, "'%s' must be one of %s", f->name, f->choices);
    case FIELD_TIME:
        if (!json_is_string(v))
            return error_set(err, -EINVAL, "'%s' must be a time", f->name);
        return units_read_time(json_string_value(v), &ms, err);
    case FIELD_OBJECT:
        return json_is_object(v) ? 0 : error_set(err, -EINVAL, "'%s' must be an object", f->name);
    case FIELD_END:
        break;
    }
    abort();
}

/* ------------------------------------------------------------------ words */

static json_t *read_list(const struct field *f, const char *word) {
    json_t *list = json_array();

    while (list && *word) {
        size_t n = f->flags & FIELD_WHOLE ? strlen(word) : strcspn(word, ",");

        if (json_array_append_new(list, json_stringn(word, n)) < 0) {
            json_decref(list);
            return NULL;
        }
        word += word[n] ? n + 1 : n;
    }
    return list;
}

/* A span is one from now on. */
static json_t *read_time(const char *word) {
    char text[UNITS_TIME_SIZE];
    int64_t ms;

    if (units_read_span(word, &ms, NULL) < 0)
        return json_string(word);
    units_put_time(units_now_ms() + ms, text);
    return json_string(text);
}

static json_t *read_word(const struct field *f, const char *word, struct error *err) {
    int64_t bytes;
    char *end;
    long long n;

    switch (f->type) {
    case FIELD_INT:
        errno = 0;
        n = strtoll(word, &end, 10);
        return errno || end == word || *end ? json_string(word) : json_integer(n);
    case FIELD_SIZE:
        return units_read_size(word, &bytes, err) < 0 ? NULL : json_integer(bytes);
    case FIELD_BOOL:
        return !strcmp(word, "true") || !strcmp(word, "false") ? json_boolean(*word == 't')
                                                               : json_string(word);
    case FIELD_STRINGS:
        return read_list(f, word);
    case FIELD_TIME:
        return read_time(word);
    default:
        return json_string(word);
    }
}

json_t *field_read(const struct field *f, const char *word, struct error *err) {
    struct error e = {0};
    json_t *v = read_word(f, word, &e);

    if (!v) {
        error_set(err, -EINVAL, "'%s': %s", f->name,
                  e.code ? e.text : "the value is not valid UTF-8");
        return NULL;
    }
    if (field_check(f, v, err) == 0)
        return v;
    json_decref(v);
    return NULL;
}

bool field_is_word(const struct field *f, const char *text) {
    return f->flags & FIELD_FILE && *text != '/' && (!f->pattern || matches(f->pattern, text));
}

/* ------------------------------------------------------------------ objects */

static int wrong(char *ret_field, const char *part, const char *name) {
    snprintf(ret_field, FIELD_PATH_MAX, "%s%s%.60s", part, *part ? "." : "", name);
    return -EINVAL;
}

/* Those fields of `place` that have one of `flags`. */
static int check_object(const struct field *fields, enum field_place place, unsigned flags,
                        const char *part, const json_t *v, char *ret_field, struct error *err) {
    const char *key;
    json_t *one;

    json_object_foreach((json_t *)v, key, one) {
        const struct field *f = field_find(fields, key);

        if (!f || f->place != place) {
            wrong(ret_field, part, key);
            return error_set(err, -EINVAL, "there is no field '%.60s'", key);
        }
        if (flags && !(f->flags & flags)) {
            wrong(ret_field, part, key);
            return error_set(err, -EINVAL, "'%s' cannot be %s", key,
                             flags & FIELD_UPDATE && f->flags & FIELD_CREATE
                                 ? "changed later; it is chosen when the thing is made"
                                 : "set");
        }
        if (field_check(f, one, err) < 0)
            return wrong(ret_field, part, key);
    }
    return 0;
}

static int check_required(const struct field *fields, const char *part, const json_t *v,
                          char *ret_field, struct error *err) {
    for (const struct field *f = fields; f->type != FIELD_END; f++)
        if (f->flags & FIELD_REQUIRED && !json_object_get(v, f->name)) {
            wrong(ret_field, part, f->name);
            return error_set(err, -EINVAL, "'%s' is missing: %s", f->name, f->help);
        }
    return 0;
}

int fields_check_args(const struct field *args, const json_t *v, char *ret_field,
                      struct error *err) {
    int r;

    *ret_field = 0;
    if (v && !json_is_object(v))
        return error_set(err, -EINVAL, "the arguments must be a JSON object");
    r = check_object(args, FIELD_META, 0, "", v, ret_field, err);
    return r < 0 ? r : check_required(args, "", v, ret_field, err);
}

int resource_check_create(const struct resource *r, const json_t *v, char *ret_field,
                          struct error *err) {
    const json_t *spec = json_object_get(v, "spec"), *name = json_object_get(v, "name");
    const char *key;
    json_t *one;

    *ret_field = 0;
    if (!json_is_object(v))
        return error_set(err, -EINVAL, "the body must be a JSON object with name and spec");
    json_object_foreach((json_t *)v, key, one)
        if (strcmp(key, "name") != 0 && strcmp(key, "spec") != 0) {
            wrong(ret_field, "", key);
            return error_set(err, -EINVAL, "'%.60s' cannot be set: give name and spec", key);
        }
    if (!name) {
        wrong(ret_field, "", "name");
        return error_set(err, -EINVAL, "'name' is missing: every %s has one", r->noun);
    }
    if (field_check(field_find(resource_common, "name"), name, err) < 0)
        return wrong(ret_field, "", "name");
    if (spec && !json_is_object(spec)) {
        wrong(ret_field, "", "spec");
        return error_set(err, -EINVAL, "'spec' must be an object");
    }
    if (check_object(r->fields, FIELD_SPEC, FIELD_CREATE, "spec", spec, ret_field, err) < 0)
        return -EINVAL;
    return check_required(r->fields, "spec", spec, ret_field, err);
}

int resource_check_update(const struct resource *r, const json_t *v, char *ret_field,
                          struct error *err) {
    const json_t *spec = json_object_get(v, "spec");

    *ret_field = 0;
    if (!json_is_object(v) || json_object_size(v) != 1 || !json_is_object(spec)) {
        wrong(ret_field, "", "spec");
        return error_set(err, -EINVAL,
                         "the body must be an object with 'spec' alone, which holds what changes");
    }
    return check_object(r->fields, FIELD_SPEC, FIELD_UPDATE, "spec", spec, ret_field, err);
}

bool field_is_standard(const struct field *f, const json_t *value) {
    json_t *standard = f->standard ? json_loads(f->standard, JSON_DECODE_ANY, NULL) : NULL;
    bool same = standard && json_equal(standard, value);

    json_decref(standard);
    return same;
}

void resource_fill(const struct resource *r, json_t *spec) {
    for (const struct field *f = r->fields; f->type != FIELD_END; f++)
        if (f->place == FIELD_SPEC && f->standard && !json_object_get(spec, f->name))
            json_object_set_new(spec, f->name, json_loads(f->standard, JSON_DECODE_ANY, NULL));
}
