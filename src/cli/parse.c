/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From words to a command with names and flags. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

bool cli_given(const struct cli *c, const char *flag) { return json_object_get(c->flags, flag); }

bool cli_true(const struct cli *c, const char *flag) {
    return json_is_true(json_object_get(c->flags, flag));
}

const char *cli_text(const struct cli *c, const char *flag) {
    const char *s = json_string_value(json_object_get(c->flags, flag));

    return s ? s : "";
}

int64_t cli_number(const struct cli *c, const char *flag, int64_t standard) {
    const json_t *v = json_object_get(c->flags, flag);

    return v ? json_integer_value(v) : standard;
}

/* How many words of argv name this command; 0: they do not. */
static int match(const char *words, int argc, char **argv) {
    int n = 0;

    while (*words) {
        size_t len = strcspn(words, " ");

        if (n == argc || strlen(argv[n]) != len || strncmp(argv[n], words, len) != 0)
            return 0;
        n++;
        words += len + (words[len] == ' ');
    }
    return n;
}

static bool begins_some(const char *word) {
    size_t len = strlen(word);

    for (const struct cli_command *c = cli_commands; c->words; c++)
        if (!strncmp(c->words, word, len) && c->words[len] == ' ')
            return true;
    return false;
}

static int find_command(struct cli *c, int argc, char **argv, struct error *err) {
    for (const struct cli_command *k = cli_commands; k->words; k++) {
        int n = match(k->words, argc, argv);

        if (n) {
            c->command = k;
            c->resource = k->resource ? resource_find(k->resource) : NULL;
            return n;
        }
    }
    if (begins_some(argv[0]) && (argc == 1 || !strcmp(argv[1], "--help"))) {
        c->help = true;
        return argc;
    }
    return error_set(err, -EINVAL, "there is no command '%.40s%s%.40s': 'viv --help' lists them",
                     argv[0], argc > 1 && begins_some(argv[0]) ? " " : "",
                     argc > 1 && begins_some(argv[0]) ? argv[1] : "");
}

/* "--no-wait" is the field no_wait; of a list one may be given as "--device". */
static bool is_flag(const struct field *f, const char *word, size_t len) {
    size_t n = strlen(f->name), k = 0;
    bool one = f->type == FIELD_STRINGS && n == len + 1 && f->name[len] == 's';

    while (k < len && k < n && word[k] == (f->name[k] == '_' ? '-' : f->name[k]))
        k++;
    return k == len && (n == len || one);
}

static const struct field *find_flag(const struct cli_command *c, const char *word, size_t len) {
    const struct field *f;

    for (unsigned i = 0; (f = cli_flag(c, i)); i++)
        if (is_flag(f, word, len))
            return f;
    return NULL;
}

/* The text in a file ("-": on standard input), not more than a byte too much of it. For free; NULL
 * with a sentence. */
static char *read_text(const struct field *f, const char *path, struct error *err) {
    size_t most = (size_t)f->max + 1, n;
    FILE *in = strcmp(path, "-") ? fopen(path, "re") : stdin;
    char *text = malloc(most + 1);

    if (!in || !text) {
        error_set(err, -errno, "--%s: the file '%s' cannot be read: %s", f->name, path,
                  strerror(errno));
    } else {
        n = fread(text, 1, most, in);
        text[n] = 0;
        if (ferror(in))
            error_set(err, -errno, "--%s: the file '%s' cannot be read: %s", f->name, path,
                      strerror(errno));
        else if (strlen(text) != n)
            error_set(err, -EINVAL, "--%s: the file '%s' is not text", f->name, path);
        else if (n == most)
            error_set(err, -EFBIG, "--%s: the file '%s' is longer than the %lld bytes possible",
                      f->name, path, (long long)f->max);
    }
    if (in && in != stdin)
        fclose(in);
    if (!err->code)
        return text;
    free(text);
    return NULL;
}

/* Several texts become one, a line end between them. */
static json_t *join_texts(const json_t *a, const json_t *b) {
    const char *first = json_string_value(a);
    size_t n = strlen(first);

    return json_sprintf("%s%s%s", first, n && first[n - 1] == '\n' ? "" : "\n",
                        json_string_value(b));
}

json_t *cli_path(const char *path) {
    char here[PATH_MAX];

    if (*path == '/' || !getcwd(here, sizeof(here)))
        return json_string(path);
    return json_sprintf("%s/%s", here, path);
}

static json_t *read_value(const struct field *f, const char *word, struct error *err) {
    bool path = field_is_host_file(f) && *word && !field_is_word(f, word);
    json_t *whole = path ? cli_path(word) : NULL, *v;
    char *text = f->type == FIELD_TEXT ? read_text(f, word, err) : NULL;

    if (f->type == FIELD_TEXT && !text)
        return NULL;
    v = field_read(f, text ? text : whole ? json_string_value(whole) : word, err);
    free(text);
    json_decref(whole);
    return v;
}

/* A list may be given in several flags, or with commas. */
static void set_flag(struct cli *c, const struct field *f, json_t *v) {
    json_t *old = json_object_get(c->flags, f->name);

    if (old && f->flags & FIELD_REPEAT) {
        if (!json_is_array(old)) {
            old = json_pack("[O]", old);
            json_object_set_new(c->flags, f->name, old);
        }
        json_array_append_new(old, v);
    } else if (old && f->flags & FIELD_JOIN) {
        json_object_set_new(c->flags, f->name,
                            json_sprintf("%s,%s", json_string_value(old), json_string_value(v)));
        json_decref(v);
    } else if (old && f->type == FIELD_TEXT) {
        json_object_set_new(c->flags, f->name, join_texts(old, v));
        json_decref(v);
    } else if (old && f->type == FIELD_STRINGS) {
        json_array_extend(old, v);
        json_decref(v);
    } else {
        json_object_set_new(c->flags, f->name, v);
    }
}

/* -t is the flag whose name begins so; where words of others may follow any flag, else one that viv
 * alone has. */
static const struct field *find_short(const struct cli_command *c, const char *word) {
    const struct field *f = NULL;

    if (c->names != NAME_AND_WORDS) {
        for (f = c->own; f && f->type != FIELD_END; f++)
            if (word[0] == f->name[0] && !word[1])
                return f;
        return NULL;
    }
    for (unsigned i = 0; word[0] && !word[1] && (f = cli_flag(c, i)); i++)
        if (f->name[0] == word[0])
            return f;
    return NULL;
}

static int take_flag(struct cli *c, int argc, char **argv, int *i, struct error *err) {
    bool is_short = argv[*i][1] != '-';
    const char *word = argv[*i] + 2, *value = is_short ? NULL : strchr(word, '=');
    const struct field *f =
        is_short ? find_short(c->command, argv[*i] + 1)
                 : find_flag(c->command, word, value ? (size_t)(value - word) : strlen(word));
    json_t *v;

    if (!f)
        return error_set(err, -EINVAL, "'viv %s' has no flag '%.60s': 'viv %s --help' lists them",
                         c->command->words, argv[*i], c->command->words);
    if (value)
        value++;
    else if (f->type == FIELD_BOOL)
        value = "true";
    else if (*i + 1 < argc)
        value = argv[++*i];
    else
        return error_set(err, -EINVAL, "%s needs a value: %s", argv[*i], f->help);
    v = read_value(f, value, err);
    if (!v)
        return -EINVAL;
    set_flag(c, f, v);
    return 0;
}

static int take_word(struct cli *c, const char *word, struct error *err) {
    static const unsigned mosts[] = {[NO_NAME] = 0,
                                     [ONE_NAME] = 1,
                                     [TWO_NAMES] = 2,
                                     [ONE_OR_TWO_NAMES] = 2,
                                     [THREE_NAMES] = 3,
                                     [SOME_NAMES] = CLI_MAX_NAMES,
                                     [NAME_AND_WORDS] = CLI_MAX_NAMES,
                                     [NAME_THEN_WORDS] = 1};
    unsigned most = mosts[c->command->names];

    if (c->names == most)
        return error_set(err, -EINVAL,
                         "'%.60s' is one word too many: usage stands in 'viv %s "
                         "--help'",
                         word, c->command->words);
    c->name[c->names++] = word;
    return 0;
}

static const struct cli_common *find_common(const char *word, const char **ret_value) {
    for (const struct cli_common *k = cli_commons; k->flag; k++) {
        size_t n = strlen(k->flag);

        *ret_value = k->value && !strncmp(word, k->flag, n) && word[n] == '=' ? word + n + 1 : NULL;
        if (*ret_value || !strcmp(word, k->flag))
            return k;
    }
    return NULL;
}

/* Flags that every command has; they may stand before it as well. 1: argv[*i] was one. */
static int take_common(struct cli *c, int argc, char **argv, int *i, struct error *err) {
    const char *word = strcmp(argv[*i], "-h") ? argv[*i] : "--help", *value;
    const struct cli_common *k = find_common(word, &value);

    if (!k)
        return 0;
    if (k->value && !value && *i + 1 < argc)
        value = argv[++*i];
    if (k->value && (!value || !*value))
        return error_set(err, -EINVAL, "%s needs a value: %s", k->flag, k->help);
    if (k->value)
        setenv(k->variable, value, 1);
    c->json |= !strcmp(word, "--json");
    c->system |= !strcmp(word, "--system");
    c->help |= !strcmp(word, "--help");
    return 1;
}

static unsigned least_names(const struct cli_command *k) {
    return k->names == THREE_NAMES ? 3 : k->names == TWO_NAMES ? 2 : k->names != NO_NAME;
}

static int check(struct cli *c, struct error *err) {
    const struct field *f;

    if (c->help)
        return 0;
    if (c->names < least_names(c->command) &&
        !(c->command->run == do_run && (cli_given(c, "firmware") || cli_given(c, "cdrom"))))
        return error_set(err, -EINVAL, "'viv %s' needs a %s, as in 'viv %s'", c->command->words,
                         c->command->operand, c->command->example);
    for (unsigned i = 0; (f = cli_flag(c->command, i)); i++)
        if (f->flags & FIELD_REQUIRED &&
            (c->command->run == do_create || c->command->run == do_volume_create) &&
            !cli_given(c, f->name) && !(cli_given(c, "template") && !strcmp(f->name, "image")))
            return error_set(err, -EINVAL, "'viv %s' needs --%s: %s", c->command->words, f->name,
                             f->help);
    return 0;
}

/* Words of the guest's command begin; true if the rest is theirs. */
static bool begins_rest(struct cli *c, bool flags, int argc, char **argv, int i) {
    enum cli_names kind = c->command->names;

    if (!c->names || (kind == NAME_THEN_WORDS ? flags : kind != NAME_AND_WORDS) ||
        (flags && argv[i][0] == '-'))
        return false;
    c->rest = argv + i;
    c->rest_count = argc - i;
    return true;
}

int cli_parse(struct cli *c, int argc, char **argv, struct error *err) {
    bool flags = true;
    int i = 0, r = 0;

    while (i < argc && (r = take_common(c, argc, argv, &i, err)) > 0)
        i++;
    if (r < 0)
        return r;
    if (i == argc)
        return c->help ? 0
                       : error_set(err, -EINVAL,
                                   "say what to do: 'viv --help' lists the "
                                   "commands, 'viv run debian' begins");
    r = find_command(c, argc - i, argv + i, err);
    if (r < 0)
        return r;
    for (i += r; i < argc; i++) {
        if (begins_rest(c, flags, argc, argv, i))
            break;
        if (flags && !strcmp(argv[i], "--"))
            flags = false;
        else if (flags && (r = take_common(c, argc, argv, &i, err)) != 0)
            r = r < 0 ? r : 0;
        else if (flags && (!strncmp(argv[i], "--", 2) ||
                           (c->command->names == NAME_AND_WORDS && argv[i][0] == '-') ||
                           (argv[i][0] == '-' && find_short(c->command, argv[i] + 1))))
            r = take_flag(c, argc, argv, &i, err);
        else if (flags && argv[i][0] == '-' && argv[i][1])
            r = error_set(err, -EINVAL, "'%.20s' is no flag: 'viv %s --help' lists them", argv[i],
                          c->command->words);
        else
            r = take_word(c, argv[i], err);
        if (r < 0)
            return r;
    }
    return c->command ? check(c, err) : 0;
}
