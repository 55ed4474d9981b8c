/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arguments of commands: checked as JSON, read from the words of a command line. */
#include "proto/command.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LIST = 64 };

const struct command *command_find(const struct command *table, const char *name) {
    for (; table->name; table++)
        if (!strcmp(table->name, name))
            return table;
    return NULL;
}

static const struct command_arg *find_arg(const struct command *c, const char *name) {
    for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++)
        if (!strcmp(a->name, name))
            return a;
    return NULL;
}

static bool is_choice(const char *choices, const char *word, size_t len) {
    size_t n;

    if (!len)
        return false;
    for (;; choices += n + 1) {
        n = strcspn(choices, "|");
        if (n == len && !memcmp(choices, word, n))
            return true;
        if (!choices[n])
            return false;
    }
}

/* ------------------------------------------------------------------ values in a message */

static int check_text(const struct command_arg *a, const json_t *v, struct error *err) {
    size_t len;

    if (!json_is_string(v))
        return error_set(err, -EINVAL, "'%s' must be a string", a->name);
    len = json_string_length(v);
    if (len < (size_t)a->min || len > (size_t)a->max)
        return error_set(err, -EINVAL,
                         "'%s' must have %" PRId64 " to %" PRId64 " bytes, it has %zu", a->name,
                         a->min, a->max, len);
    if (strlen(json_string_value(v)) != len)
        return error_set(err, -EINVAL, "'%s' must not contain a zero byte", a->name);
    if (a->type == COMMAND_PATH && json_string_value(v)[0] != '/')
        return error_set(err, -EINVAL, "'%s' must be an absolute path", a->name);
    return 0;
}

static int check_choice(const struct command_arg *a, const json_t *v, struct error *err) {
    const char *s = json_string_value(v);

    if (s && is_choice(a->choices, s, json_string_length(v)))
        return 0;
    return error_set(err, -EINVAL, "'%s' must be one of %s", a->name, a->choices);
}

static int check_choices(const struct command_arg *a, const json_t *v, struct error *err) {
    const json_t *one;
    size_t i;

    if (!json_is_array(v) || json_array_size(v) > MAX_LIST)
        return error_set(err, -EINVAL, "'%s' must be an array of at most %d strings", a->name,
                         MAX_LIST);
    json_array_foreach(v, i, one)
        if (check_choice(a, one, err) < 0)
            return -EINVAL;
    return 0;
}

static int check_words(const struct command_arg *a, const json_t *v, struct error *err) {
    const json_t *one;
    size_t i, n = json_array_size(v);

    if (!json_is_array(v) || n < (size_t)a->min || n > (size_t)a->max)
        return error_set(err, -EINVAL,
                         "'%s' must be an array of %" PRId64 " to %" PRId64 " strings", a->name,
                         a->min, a->max);
    json_array_foreach(v, i, one)
        if (!json_is_string(one) || strlen(json_string_value(one)) != json_string_length(one))
            return error_set(err, -EINVAL, "'%s' must hold strings without zero bytes", a->name);
    return 0;
}

static int check_int(const struct command_arg *a, const json_t *v, struct error *err) {
    if (json_is_integer(v) && json_integer_value(v) >= a->min && json_integer_value(v) <= a->max)
        return 0;
    return error_set(err, -EINVAL, "'%s' must be %s from %" PRId64 " to %" PRId64, a->name,
                     a->type == COMMAND_INTS ? "an array of whole numbers" : "a whole number",
                     a->min, a->max);
}

static int check_ints(const struct command_arg *a, const json_t *v, struct error *err) {
    const json_t *one;
    size_t i;

    if (!json_is_array(v) || !json_array_size(v) || json_array_size(v) > MAX_LIST)
        return error_set(err, -EINVAL, "'%s' must be an array of 1 to %d whole numbers", a->name,
                         MAX_LIST);
    json_array_foreach(v, i, one)
        if (check_int(a, one, err) < 0)
            return -EINVAL;
    return 0;
}

static int check_value(const struct command_arg *a, const json_t *v, struct error *err) {
    switch (a->type) {
    case COMMAND_BOOL:
        return json_is_boolean(v) ? 0
                                  : error_set(err, -EINVAL, "'%s' must be true or false", a->name);
    case COMMAND_INT:
        return check_int(a, v, err);
    case COMMAND_INTS:
        return check_ints(a, v, err);
    case COMMAND_STRING:
    case COMMAND_PATH:
        return check_text(a, v, err);
    case COMMAND_CHOICE:
        return check_choice(a, v, err);
    case COMMAND_CHOICES:
        return check_choices(a, v, err);
    case COMMAND_WORDS:
        return check_words(a, v, err);
    case COMMAND_END:
        break;
    }
    abort();
}

int command_check(const struct command *c, const json_t *args, struct error *err) {
    const char *key;
    json_t *v;

    if (args && !json_is_object(args))
        return error_set(err, -EINVAL, "%s: 'arguments' must be an object", c->name);
    json_object_foreach((json_t *)args, key, v) {
        const struct command_arg *a = find_arg(c, key);

        if (!a)
            return error_set(err, -EINVAL, "%s has no argument '%.60s'", c->name, key);
        if (check_value(a, v, err) < 0)
            return error_prefix(err, "%s", c->name);
    }
    for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++)
        if (a->required && !json_object_get(args, a->name))
            return error_set(err, -EINVAL, "%s needs the argument '%s': %s", c->name, a->name,
                             a->help);
    return 0;
}

/* ------------------------------------------------------------------ words of a command line */

/* The program may have another working directory than who types. */
static json_t *absolute(const char *path) {
    char cwd[PATH_MAX], *whole = NULL;
    json_t *v;

    if (*path == '/' || !*path || !getcwd(cwd, sizeof(cwd)))
        return json_string(path);
    if (asprintf(&whole, "%s/%s", strcmp(cwd, "/") ? cwd : "", path) < 0)
        return NULL;
    v = json_string(whole);
    free(whole);
    return v;
}

/* What is no number stays a word, for which it is refused. */
static json_t *to_int(const char *word) {
    char *end;
    long long n;

    errno = 0;
    n = strtoll(word, &end, 0);
    return errno || end == word || *end ? json_string(word) : json_integer(n);
}

static json_t *split(const char *word, bool numbers) {
    json_t *list = json_array();

    for (;;) {
        size_t n = strcspn(word, ",");
        char *one = strndup(word, n);
        json_t *v = !one ? NULL : numbers ? to_int(one) : json_string(one);

        free(one);
        if (json_array_append_new(list, v) < 0) {
            json_decref(list);
            return NULL;
        }
        if (!word[n])
            return list;
        word += n + 1;
    }
}

static json_t *to_value(const struct command_arg *a, const char *word) {
    switch (a->type) {
    case COMMAND_BOOL:
        return !strcmp(word, "true") || !strcmp(word, "false") ? json_boolean(*word == 't')
                                                               : json_string(word);
    case COMMAND_INT:
        return to_int(word);
    case COMMAND_PATH:
        return absolute(word);
    case COMMAND_CHOICES:
    case COMMAND_INTS:
        return split(word, a->type == COMMAND_INTS);
    default:
        return json_string(word);
    }
}

static int set(const struct command *c, const struct command_arg *a, json_t *args, const char *word,
               struct error *err) {
    json_t *v = to_value(a, word);

    if (!v)
        return error_set(err, -EINVAL, "%s: the value of '%s' is not valid UTF-8", c->name,
                         a->name);
    if (json_object_get(args, a->name)) {
        json_decref(v);
        return error_set(err, -EINVAL, "%s: '%s' is given twice", c->name, a->name);
    }
    if (json_object_set_new(args, a->name, v) < 0)
        return error_set(err, -ENOMEM, "%s: out of memory", c->name);
    return 0;
}

/* "--name value", "--name=value", "--name" for a switch; *i is moved on. */
static int set_option(const struct command *c, int argc, char **argv, int *i, json_t *args,
                      struct error *err) {
    const char *word = argv[*i] + 2, *value = strchr(word, '=');
    const struct command_arg *a;
    char name[64];

    snprintf(name, sizeof(name), "%.*s", value ? (int)(value - word) : (int)strlen(word), word);
    a = find_arg(c, name);
    if (!a)
        return error_set(err, -EINVAL, "%s has no argument '--%s'", c->name, name);
    if (value)
        value++;
    else if (a->type == COMMAND_BOOL)
        value = "true";
    else if (*i + 1 < argc)
        value = argv[++*i];
    else
        return error_set(err, -EINVAL, "%s: --%s needs a value", c->name, name);
    return set(c, a, args, value, err);
}

static const struct command_arg *next_required(const struct command *c, const json_t *args) {
    for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++)
        if (a->required && !json_object_get(args, a->name))
            return a;
    return NULL;
}

static const struct command_arg *words_of(const struct command *c) {
    for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++)
        if (a->type == COMMAND_WORDS)
            return a;
    return NULL;
}

static int set_words(const struct command *c, const struct command_arg *a, int argc, char **argv,
                     json_t *args, struct error *err) {
    json_t *list = json_array();

    for (int i = 0; i < argc; i++)
        if (json_array_append_new(list, json_string(argv[i])) < 0) {
            json_decref(list);
            return error_set(err, -EINVAL, "%s: '%.60s' is not valid UTF-8", c->name, argv[i]);
        }
    if (json_object_set_new(args, a->name, list) < 0)
        return error_set(err, -ENOMEM, "%s: out of memory", c->name);
    return command_check(c, args, err);
}

static int parse_words(const struct command *c, int argc, char **argv, json_t *args,
                       struct error *err) {
    bool options = true;

    for (int i = 0; i < argc; i++) {
        const struct command_arg *a = next_required(c, args);
        int r;

        if (options && !strcmp(argv[i], "--") && words_of(c))
            return set_words(c, words_of(c), argc - i - 1, argv + i + 1, args, err);
        if (options && !strcmp(argv[i], "--")) {
            options = false;
            continue;
        }
        if (options && !strncmp(argv[i], "--", 2))
            r = set_option(c, argc, argv, &i, args, err);
        else if (a)
            r = set(c, a, args, argv[i], err);
        else
            r = error_set(err, -EINVAL, "%s takes no further word: '%.60s' is one too many",
                          c->name, argv[i]);
        if (r < 0)
            return r;
    }
    return command_check(c, args, err);
}

json_t *command_parse(const struct command *c, int argc, char **argv, struct error *err) {
    json_t *args = json_object();

    if (!args)
        error_set(err, -ENOMEM, "%s: out of memory", c->name);
    else if (parse_words(c, argc, argv, args, err) == 0)
        return args;
    json_decref(args);
    return NULL;
}
