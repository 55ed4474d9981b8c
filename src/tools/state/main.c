/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-state: looks into snapshots (docs/snapshot.md): prints them by field name, compares two,
 * checks one, merges a chain into one. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/man.h"
#include "base/version.h"
#include "state/snapshot.h"
#include "state/state_view.h"

enum exit_code { EXIT_OK = 0, EXIT_DIFFERENT = 1, EXIT_BAD = 2 };

static const struct {
    const char *name, *args, *help;
    unsigned min, max;
} commands[] = {
    {"info", "FOLDER", "what it is: configuration, parents, how much memory is kept where", 1, 1},
    {"print", "FOLDER [SECTION[.FIELD]...]", "the state by field name", 1, 2},
    {"diff", "FOLDER FOLDER", "the fields that differ between two, and how many pages of memory do",
     2, 2},
    {"check", "FOLDER", "read all of it, and of its parents, and compare the checksums", 1, 1},
    {"merge", "FOLDER NEW", "write a snapshot that needs no parents", 2, 2},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const struct {
    const char *code, *meaning;
} codes[] = {
    {"0", "done; with diff: no difference; with check: nothing is wrong"},
    {"1", "diff: there are differences"},
    {"2", "a wrong command line, a damaged or unreadable snapshot, or one that cannot be written"},
};

static const char usage[] = "[--json] COMMAND FOLDER [ARGUMENT]";
static const char about[] = "look into snapshots of machines";

static void help(void) {
    printf("viv-state: %s.\n\nusage: viv-state %s\n\nCommands:\n", about, usage);
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("  %s %s\n      %s.\n", commands[i].name, commands[i].args, commands[i].help);
    printf("\nOptions:\n  --json\n      print JSON.\n  --help, --help-man, --version\n"
           "      print this text, the manual page, the version.\n\nExit codes:\n");
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        printf("  %-7s%s\n", codes[i].code, codes[i].meaning);
    printf("\nExample: viv-state print /srv/web.monday cpu0.rip\n");
}

static void help_man(void) {
    man_begin(stdout, "viv-state", about, usage);
    puts(".SH COMMANDS");
    for (unsigned i = 0; i < COMMANDS; i++)
        man_item(stdout, commands[i].name, commands[i].args, commands[i].help);
    puts(".SH OPTIONS");
    man_item(stdout, "--json", NULL, "print JSON");
    man_item(stdout, "--help, --help-man, --version", NULL,
             "print a short text, this page, the version");
    puts(".SH EXIT STATUS");
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        man_item(stdout, codes[i].code, NULL, codes[i].meaning);
}

/* ------------------------------------------------------------------ trees of state */

static json_t *section_tree(const struct snapshot_section *s, struct error *err) {
    struct state_view view;
    struct buf text = {0};
    json_t *tree = NULL;

    if (s->kind == SNAPSHOT_RAW) { /* of somebody else's: bytes */
        for (size_t i = 0; i < s->size; i++)
            buf_printf(&text, "%02x", s->data[i]);
        tree = json_stringn(text.len ? (const char *)text.data : "", text.len);
    } else if (state_view_open(&view, s->data, s->size, err) == 0) {
        state_json(view.desc, view.obj, &text);
        tree = json_loadb((const char *)text.data, text.len, 0, NULL);
        state_view_close(&view);
    } else {
        error_prefix(err, "section '%s'", s->name);
    }
    buf_done(&text);
    return tree;
}

static json_t *state_tree(const struct snapshot *s, struct error *err) {
    json_t *all = json_object();

    for (unsigned i = 0; i < s->sections; i++) {
        json_t *tree = section_tree(&s->section[i], err);

        if (!tree) {
            json_decref(all);
            return NULL;
        }
        json_object_set_new(all, s->section[i].name, tree);
    }
    return all;
}

static void print_json(const json_t *v) {
    json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

/* One line a value: its path and what it is. */
static void print_flat(const char *path, const json_t *v) {
    char *text, *name;
    const char *key;
    json_t *part;
    size_t i;

    if (json_is_object(v)) {
        json_object_foreach((json_t *)v, key, part) {
            if (asprintf(&name, "%s%s%s", path, *path ? "." : "", key) < 0)
                abort();
            print_flat(name, part);
            free(name);
        }
        return;
    }
    if (json_is_array(v) && (json_is_object(json_array_get(v, 0)))) {
        json_array_foreach(v, i, part) {
            if (asprintf(&name, "%s.%zu", path, i) < 0)
                abort();
            print_flat(name, part);
            free(name);
        }
        return;
    }
    text = json_dumps(v, JSON_ENCODE_ANY);
    printf("%s %s\n", path, text ? text : "?");
    free(text);
}

/* ------------------------------------------------------------------ commands */

struct call {
    bool json;
    const char *arg[2];
    struct snapshot *snapshot; /* of arg[0] */
};

static void count_pages(const struct snapshot *s, uint64_t ret[3]) {
    for (uint64_t i = 0; i < s->pages; i++)
        ret[snapshot_page_kind(s, i)]++;
}

static json_t *layer_info(const struct snapshot *s) {
    uint64_t pages[4] = {0};
    char id[2 * SNAPSHOT_ID + 1];

    for (unsigned i = 0; i < SNAPSHOT_ID; i++)
        snprintf(id + 2 * i, 3, "%02x", s->id[i]);
    count_pages(s, pages);
    return json_pack("{s:s, s:s, s:I, s:I, s:I}", "folder", s->dir, "id", id, "pages_zero",
                     (json_int_t)pages[SNAPSHOT_ZERO], "pages_here",
                     (json_int_t)pages[SNAPSHOT_HERE], "pages_of_parent",
                     (json_int_t)pages[SNAPSHOT_PARENT]);
}

static int do_info(const struct call *c, struct error *err) {
    json_t *v =
        json_pack("{s:o, s:[]}", "machine", json_loads(c->snapshot->json, 0, NULL), "layers");

    if (!v)
        return error_set(err, -EINVAL, "snapshot '%s': 'machine.json' is no JSON", c->arg[0]);
    for (const struct snapshot *s = c->snapshot; s; s = s->parent)
        json_array_append_new(json_object_get(v, "layers"), layer_info(s));
    if (c->json)
        print_json(v);
    else
        print_flat("", v);
    json_decref(v);
    return 0;
}

static json_t *find(json_t *tree, const char *path) {
    char copy[512], *rest = copy, *name;

    snprintf(copy, sizeof(copy), "%s", path);
    while (tree && (name = strsep(&rest, ".")) && rest != name) {
        json_t *next = json_is_array(tree) ? json_array_get(tree, strtoul(name, NULL, 10))
                                           : json_object_get(tree, name);

        if (!next && rest &&
            json_is_object(tree)) { /* a section's name may hold a dot: nic0.port */
            rest[-1] = '.';
            rest = strchr(rest, '.');
            if (rest)
                *rest++ = 0;
            next = json_object_get(tree, name);
        }
        tree = next;
    }
    return tree;
}

static int do_print(const struct call *c, struct error *err) {
    json_t *all = state_tree(c->snapshot, err), *part = all;

    if (all && c->arg[1])
        part = find(all, c->arg[1]);
    if (all && !part)
        error_set(err, -ENOENT, "snapshot '%s' has no '%s': print without it shows all", c->arg[0],
                  c->arg[1]);
    if (part && c->json)
        print_json(part);
    else if (part)
        print_flat(c->arg[1] ? c->arg[1] : "", part);
    json_decref(all);
    return err->code;
}

struct difference {
    bool json;
    json_t *list;
    uint64_t count;
};

static void differs(struct difference *d, const char *path, const json_t *a, const json_t *b) {
    char *left = a ? json_dumps(a, JSON_ENCODE_ANY) : NULL;
    char *right = b ? json_dumps(b, JSON_ENCODE_ANY) : NULL;

    d->count++;
    if (!d->json)
        printf("%s %s != %s\n", path, left ? left : "(nothing)", right ? right : "(nothing)");
    else
        json_array_append_new(
            d->list, json_pack("{s:s, s:O?, s:O?}", "field", path, "first", a, "second", b));
    free(left);
    free(right);
}

static void compare(struct difference *d, const char *path, json_t *a, json_t *b) {
    const char *key;
    json_t *part;
    char *name;
    size_t i;

    if (a && b && json_equal(a, b))
        return;
    if (json_is_object(a) && json_is_object(b)) {
        json_object_foreach(a, key, part) {
            if (asprintf(&name, "%s%s%s", path, *path ? "." : "", key) < 0)
                abort();
            compare(d, name, part, json_object_get(b, key));
            free(name);
        }
        json_object_foreach(b, key, part) {
            if (json_object_get(a, key))
                continue;
            if (asprintf(&name, "%s%s%s", path, *path ? "." : "", key) < 0)
                abort();
            differs(d, name, NULL, part);
            free(name);
        }
    } else if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b)) {
        json_array_foreach(a, i, part) {
            if (asprintf(&name, "%s.%zu", path, i) < 0)
                abort();
            compare(d, name, part, json_array_get(b, i));
            free(name);
        }
    } else {
        differs(d, path, a, b);
    }
}

static int compare_memory(const struct snapshot *a, const struct snapshot *b, uint64_t *ret_pages,
                          struct error *err) {
    static uint8_t ours[SNAPSHOT_CHUNK * SNAPSHOT_PAGE], theirs[SNAPSHOT_CHUNK * SNAPSHOT_PAGE];
    int code = 0;

    for (uint64_t page = 0; page < a->pages && code == 0; page += SNAPSHOT_CHUNK) {
        uint64_t left = a->pages - page;
        unsigned n = left < SNAPSHOT_CHUNK ? (unsigned)left : SNAPSHOT_CHUNK;

        code = snapshot_read(a, page, n, ours, err);
        if (code == 0)
            code = snapshot_read(b, page, n, theirs, err);
        for (unsigned i = 0; i < n && code == 0; i++)
            *ret_pages +=
                memcmp(ours + i * SNAPSHOT_PAGE, theirs + i * SNAPSHOT_PAGE, SNAPSHOT_PAGE) != 0;
    }
    return code;
}

static int do_diff(const struct call *c, struct error *err) {
    struct snapshot *other = snapshot_open(c->arg[1], err);
    json_t *a = other ? state_tree(c->snapshot, err) : NULL, *b = a ? state_tree(other, err) : NULL;
    struct difference d = {.json = c->json, .list = json_array()};
    uint64_t pages = 0;

    if (b) {
        compare(&d, "", a, b);
        if (c->snapshot->pages == other->pages)
            compare_memory(c->snapshot, other, &pages, err);
        else
            pages = UINT64_MAX;
    }
    if (b && !err->code && c->json) {
        json_t *v = json_pack("{s:O, s:I}", "state", d.list, "pages", (json_int_t)pages);
        print_json(v);
        json_decref(v);
    } else if (b && !err->code && pages == UINT64_MAX) {
        printf("memory %llu pages != %llu pages\n", (unsigned long long)c->snapshot->pages,
               (unsigned long long)other->pages);
    } else if (b && !err->code && pages) {
        printf("memory %llu of %llu pages differ\n", (unsigned long long)pages,
               (unsigned long long)other->pages);
    }
    json_decref(d.list);
    json_decref(a);
    json_decref(b);
    snapshot_close(other);
    return err->code ? err->code : d.count || pages;
}

static int do_check(const struct call *c, struct error *err) {
    json_t *all = state_tree(c->snapshot, err);
    int code = all ? snapshot_check_memory(c->snapshot, err) : err->code;

    json_decref(all);
    if (code == 0)
        puts(c->json ? "{\"good\": true}" : "nothing is wrong");
    return code;
}

static const uint8_t *merged_pages(void *opaque, uint64_t page, unsigned count, uint8_t *buf,
                                   struct error *err) {
    return snapshot_read(opaque, page, count, buf, err) < 0 ? NULL : buf;
}

static int do_merge(const struct call *c, struct error *err) {
    struct snapshot_sections sections = {0};
    struct snapshot_image image = {.dir = c->arg[1],
                                   .sections = &sections,
                                   .json = c->snapshot->json,
                                   .pages = c->snapshot->pages,
                                   .pages_at = merged_pages,
                                   .opaque = c->snapshot};
    int code = snapshot_check_memory(c->snapshot, err); /* damage must not get a new checksum */

    for (unsigned i = 0; i < c->snapshot->sections; i++) {
        const struct snapshot_section *s = &c->snapshot->section[i];
        snapshot_add(&sections, s->name, s->kind, s->data, s->size);
    }
    if (code == 0)
        code = snapshot_write(&image, err);
    snapshot_sections_done(&sections);
    return code;
}

static int (*const functions[COMMANDS])(const struct call *c, struct error *err) = {
    do_info, do_print, do_diff, do_check, do_merge};

/* ------------------------------------------------------------------ the command line */

static int run(struct call *c, unsigned command, struct error *err) {
    int code;

    c->snapshot = snapshot_open(c->arg[0], err);
    code = c->snapshot ? functions[command](c, err) : -EINVAL;
    snapshot_close(c->snapshot);
    if (code == 0 && fflush(stdout) < 0)
        code = error_set(err, -errno, "the output cannot be written: %s", strerror(errno));
    return code;
}

int main(int argc, char **argv) {
    struct call call = {0};
    struct error err = {0};
    unsigned command = 0, args;
    int code, i = 1;

    if (argc > 1 && !strcmp(argv[1], "--help"))
        return help(), EXIT_OK;
    if (argc > 1 && !strcmp(argv[1], "--help-man"))
        return help_man(), EXIT_OK;
    if (argc > 1 && !strcmp(argv[1], "--version"))
        return puts("viv-state " VIVARIUM_VERSION), EXIT_OK;
    if (i < argc && !strcmp(argv[i], "--json"))
        call.json = ++i;
    while (i < argc && command < COMMANDS && strcmp(argv[i], commands[command].name) != 0)
        command++;
    args = i < argc ? (unsigned)(argc - i - 1) : 0;
    if (i >= argc || command == COMMANDS || args < commands[command].min ||
        args > commands[command].max) {
        fprintf(stderr, "viv-state: the command line is wrong: 'viv-state --help' shows how\n");
        return EXIT_BAD;
    }
    for (unsigned k = 0; k < args; k++)
        call.arg[k] = argv[i + 1 + (int)k];
    code = run(&call, command, &err);
    if (code < 0)
        fprintf(stderr, "viv-state: error: %s\n", err.text);
    return code < 0 ? EXIT_BAD : code ? EXIT_DIFFERENT : EXIT_OK;
}
