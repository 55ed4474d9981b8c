/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-img: makes, looks at and changes disk images, with the words of qemu-img. The table below is
 * where options, help, manual page and completion come from. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/man.h"
#include "base/version.h"
#include "tools/img/img.h"

struct option {
    char letter;       /* 0: long form only */
    const char *name;  /* NULL: letter only */
    const char *value; /* NULL: a switch */
    const char *help;
    size_t field; /* in struct img_args */
};

struct img_command {
    const char *name, *words, *help, *example;
    unsigned min, max; /* words */
    img_fn *run;
    struct option options[12];
};

#define FIELD(name) offsetof(struct img_args, name)
#define FORMAT(help)                                                                               \
    { 'f', NULL, "FORMAT", help, FIELD(format) }
#define QUIET                                                                                      \
    { 'q', NULL, NULL, "print nothing but errors", FIELD(quiet) }
#define PROGRESS                                                                                   \
    { 'p', NULL, NULL, "show how far it is", FIELD(progress) }
#define OUTPUT                                                                                     \
    { 0, "output", "human|json", "for people or for programs", FIELD(output) }
#define SHARE                                                                                      \
    { 'U', "force-share", NULL, "do not mind that somebody writes the image", FIELD(share) }
#define IMAGE_FORMAT FORMAT("raw or qcow2; without it the first bytes of the file decide")

static const struct img_command commands[] = {
    {"create",
     "FILE [SIZE]",
     "make an empty image",
     "create -f qcow2 -b base.raw -F raw top.qcow2",
     1,
     2,
     img_create,
     {FORMAT("raw (default) or qcow2"),
      {'b', NULL, "FILE", "the backing file, whose contents show where the image holds none",
       FIELD(backing)},
      {'F', NULL, "FORMAT", "the format of the backing file", FIELD(other_format)},
      {'o', NULL, "NAME=VALUE,...",
       "of qcow2: cluster_size=64k, compat=1.1|0.10, refcount_bits=16, compression_type=zlib|zstd, "
       "lazy_refcounts=off",
       FIELD(settings)},
      {'u', NULL, NULL, "do not look at the backing file", FIELD(unsafe)},
      QUIET}},
    {"info",
     "FILE",
     "say what an image is",
     "info --output json disk.qcow2",
     1,
     1,
     img_info,
     {IMAGE_FORMAT,
      OUTPUT,
      {0, "backing-chain", NULL, "its backing files, too", FIELD(chain)},
      SHARE}},
    {"check",
     "FILE",
     "compare an image's refcounts with its references",
     "check -r leaks disk.qcow2",
     1,
     1,
     img_check,
     {IMAGE_FORMAT,
      OUTPUT,
      {'r', NULL, "leaks|all", "repair what only wastes space, or everything", FIELD(repair)},
      QUIET,
      SHARE}},
    {"convert",
     "FILE NEW",
     "copy a disk to a new image; formats other than raw and qcow2 are handed to qemu-img",
     "convert -p -O qcow2 a.raw b.qcow2",
     2,
     2,
     img_convert,
     {IMAGE_FORMAT,
      {'O', NULL, "FORMAT", "of the new image: raw (default) or qcow2", FIELD(other_format)},
      {'o', NULL, "NAME=VALUE,...", "as for create", FIELD(settings)},
      {'c', NULL, NULL, "compress (qcow2)", FIELD(compress)},
      {'m', NULL, "COUNT", "threads that copy; default: one a processor", FIELD(threads)},
      {'n', NULL, NULL, "write to an image that is there already", FIELD(no_create)},
      PROGRESS,
      QUIET,
      SHARE}},
    {"resize",
     "FILE [+-]SIZE",
     "make a disk larger or smaller",
     "resize disk.qcow2 +10G",
     2,
     2,
     img_resize,
     {IMAGE_FORMAT,
      {0, "shrink", NULL, "smaller is meant: what lies behind the new end is deleted",
       FIELD(shrink)},
      QUIET}},
    {"map",
     "FILE",
     "list which layer holds what",
     "map --output json top.qcow2",
     1,
     1,
     img_map,
     {IMAGE_FORMAT, OUTPUT, SHARE}},
    {"commit",
     "FILE",
     "write what an image holds into its backing file, and empty it",
     "commit top.qcow2",
     1,
     1,
     img_commit,
     {IMAGE_FORMAT,
      {'b', NULL, "FILE", "into this layer of the chain; the image is not emptied then",
       FIELD(backing)},
      {'d', NULL, NULL, "do not empty it", FIELD(keep)},
      PROGRESS,
      QUIET}},
    {"rebase",
     "FILE",
     "give an image another backing file, or none, with the same contents",
     "rebase -b new.raw -F raw top.qcow2",
     1,
     1,
     img_rebase,
     {IMAGE_FORMAT,
      {'b', NULL, "FILE", "the new backing file; '' or nothing: none", FIELD(backing)},
      {'F', NULL, "FORMAT", "its format", FIELD(other_format)},
      {'u', NULL, NULL, "change the name only: for a backing file that has moved", FIELD(unsafe)},
      PROGRESS,
      QUIET,
      SHARE}},
    {"bitmap",
     "FILE NAME",
     "change a dirty bitmap, which says what was written since, for incremental backups",
     "bitmap --add disk.qcow2 nightly",
     2,
     2,
     img_bitmap,
     {IMAGE_FORMAT,
      {0, "add", NULL, "make it", FIELD(add)},
      {'g', NULL, "SIZE", "with --add: bytes a bit stands for; default 64k", FIELD(granularity)},
      {0, "clear", NULL, "forget what was written", FIELD(clear)},
      {0, "merge", "NAME", "add what that one says was written", FIELD(merge)},
      {'b', NULL, "FILE", "of --merge: the image that has it; default FILE itself", FIELD(backing)},
      {'F', NULL, "FORMAT", "its format", FIELD(other_format)},
      {0, "enable", NULL, "keep it up to date from now on", FIELD(enable)},
      {0, "disable", NULL, "leave it as it is from now on", FIELD(disable)},
      {0, "remove", NULL, "delete it", FIELD(remove)}}},
    {"compare",
     "FILE FILE",
     "say whether two disks have the same contents; exit code 1: they differ, 2: it failed",
     "compare a.raw b.qcow2",
     2,
     2,
     img_compare,
     {FORMAT("of the first"),
      {'F', NULL, "FORMAT", "of the second", FIELD(other_format)},
      {'s', NULL, NULL, "different sizes are a difference", FIELD(strict)},
      PROGRESS,
      QUIET,
      SHARE}},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const char about[] = "make, inspect and change disk images";
static const char usage[] = "COMMAND [OPTION]... FILE...";

/* ------------------------------------------------------------------ texts */

static void option_name(const struct option *o, char out[64]) {
    const char *comma = o->letter && o->name ? ", " : "";

    if (o->letter)
        snprintf(out, 64, "-%c%s%s%s", o->letter, comma, o->name ? "--" : "",
                 o->name ? o->name : "");
    else
        snprintf(out, 64, "--%s", o->name);
}

static void command_text(const struct img_command *c) {
    char name[64];

    printf("usage: viv-img %s [OPTION]... %s\n  %s.\n", c->name, c->words, c->help);
    for (const struct option *o = c->options; o->help; o++) {
        option_name(o, name);
        printf("  %s%s%s\n      %s\n", name, o->value ? " " : "", o->value ? o->value : "",
               o->help);
    }
    printf("\nExample: viv-img %s\n", c->example);
}

static void print_help(void) {
    printf("viv-img: %s.\n\nusage: viv-img %s\n\nCommands:\n", about, usage);
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("  %-9s%s\n", commands[i].name, commands[i].help);
    printf("\n  viv-img COMMAND --help says more of each.\n\nExamples:\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("  viv-img %s\n", commands[i].example);
    printf(
        "\nExit codes: 0 done, 1 failed; check: 2 damaged, 3 clusters leaked, 63 not checkable;\n"
        "compare: 1 they differ, 2 failed.\n");
}

static void print_man(void) {
    char name[64], heading[128];

    man_begin(stdout, "viv-img", about, usage);
    for (unsigned i = 0; i < COMMANDS; i++) {
        snprintf(heading, sizeof(heading), "viv-img %s", commands[i].name);
        printf(".SH COMMAND %s\n", commands[i].name);
        man_item(stdout, heading, commands[i].words, commands[i].help);
        for (const struct option *o = commands[i].options; o->help; o++) {
            option_name(o, name);
            man_item(stdout, name, o->value, o->help);
        }
    }
    puts(".SH EXIT STATUS\n0 done, 1 failed; check: 2 damaged, 3 clusters leaked, 63 not "
         "checkable; compare: 1 they differ, 2 failed.\n.SH SEE ALSO\n.BR viv\\-vm (1)");
}

static void print_completion(void) {
    printf("# bash completion of viv-img: eval \"$(viv-img --completion bash)\"\n_viv_img() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} words=\n"
           "    case $COMP_CWORD:${COMP_WORDS[1]} in\n        1:*) words='");
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("%s%s", i ? " " : "", commands[i].name);
    puts("' ;;");
    for (unsigned i = 0; i < COMMANDS; i++) {
        printf("        *:%s) words='", commands[i].name);
        for (const struct option *o = commands[i].options; o->help; o++) {
            if (o->letter)
                printf("-%c ", o->letter);
            if (o->name)
                printf("--%s ", o->name);
        }
        puts("--help' ;;");
    }
    puts("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n"
         "complete -o default -F _viv_img viv-img");
}

/* ------------------------------------------------------------------ words */

static const struct img_command *find_command(const char *name) {
    for (unsigned i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static const struct option *find_option(const struct img_command *c, char letter, const char *name,
                                        size_t length) {
    for (const struct option *o = c->options; o->help; o++)
        if (name ? o->name && strlen(o->name) == length && !strncmp(o->name, name, length)
                 : o->letter == letter)
            return o;
    return NULL;
}

static int set_option(struct img_args *a, const struct option *o, const char *value,
                      struct error *err) {
    char name[64];

    if (!o->value) {
        *(bool *)((char *)a + o->field) = true;
        return 0;
    }
    option_name(o, name);
    if (!value)
        return error_set(err, -EINVAL, "%s needs %s behind it", name, o->value);
    *(const char **)((char *)a + o->field) = value;
    return 0;
}

/* One word of the command line that begins with a minus sign; *i moves on behind its value. */
static int parse_option(const struct img_command *c, struct img_args *a, int argc, char **argv,
                        int *i, struct error *err) {
    const char *s = argv[*i];
    const struct option *o;

    if (s[1] == '-') {
        size_t n = strcspn(s + 2, "=");

        o = find_option(c, 0, s + 2, n);
        if (!o)
            return error_set(err, -EINVAL, "%s has no option %s; see viv-img %s --help", c->name, s,
                             c->name);
        return set_option(a, o,
                          s[2 + n]                    ? s + 3 + n
                          : o->value && *i + 1 < argc ? argv[++*i]
                                                      : NULL,
                          err);
    }
    for (s++; *s; s++) {
        const char *value = NULL;

        o = find_option(c, *s, NULL, 0);
        if (!o)
            return error_set(err, -EINVAL, "%s has no option -%c; see viv-img %s --help", c->name,
                             *s, c->name);
        if (o->value)
            value = s[1] ? s + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (set_option(a, o, value, err) < 0)
            return -EINVAL;
        if (o->value)
            break;
    }
    return 0;
}

static int parse(const struct img_command *c, struct img_args *a, int argc, char **argv,
                 struct error *err) {
    bool only_words = false;

    for (int i = 2; i < argc; i++) {
        bool number = argv[i][0] == '-' && argv[i][1] >= '0' && argv[i][1] <= '9';

        if (!only_words && !strcmp(argv[i], "--")) {
            only_words = true;
        } else if (only_words || argv[i][0] != '-' || !argv[i][1] || number) {
            if (a->words == IMG_MAX_WORDS || a->words == c->max)
                return error_set(err, -EINVAL, "'%s' is one word too many: viv-img %s %s", argv[i],
                                 c->name, c->words);
            a->word[a->words++] = argv[i];
        } else if (parse_option(c, a, argc, argv, &i, err) < 0) {
            return -EINVAL;
        }
    }
    if (a->words < c->min)
        return error_set(err, -EINVAL, "words are missing: viv-img %s [OPTION]... %s", c->name,
                         c->words);
    if (a->output && strcmp(a->output, "json") != 0 && strcmp(a->output, "human") != 0)
        return error_set(err, -EINVAL, "--output %s: say human or json", a->output);
    return 0;
}

static int run(int argc, char **argv, struct error *err) {
    const struct img_command *c = find_command(argv[1]);
    struct img_args a = {.argv = argv};
    int code;

    if (!c) {
        error_set(err, -EINVAL, "there is no command '%s'; see viv-img --help", argv[1]);
        return IMG_EXIT_FAILED;
    }
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--help")) {
            command_text(c);
            return 0;
        }
    if (parse(c, &a, argc, argv, err) < 0)
        return IMG_EXIT_FAILED;
    code = c->run(&a, err);
    if (fflush(stdout) != 0 && !code) {
        error_set(err, -EIO, "the output cannot be written");
        code = IMG_EXIT_FAILED;
    }
    return code;
}

int main(int argc, char **argv) {
    struct error err = {0};
    int code = 0;

    signal(SIGXFSZ, SIG_IGN); /* a file size limit gives an error, not an end in the middle */
    if (argc < 2) {
        fprintf(stderr, "viv-img: what is to be done? See viv-img --help\n");
        return IMG_EXIT_FAILED;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        print_help();
    else if (!strcmp(argv[1], "--help-man"))
        print_man();
    else if (!strcmp(argv[1], "--completion"))
        print_completion();
    else if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
        printf("viv-img %s\n", VIVARIUM_VERSION);
    else
        code = run(argc, argv, &err);
    if (err.code)
        fprintf(stderr, "viv-img: %s\n", err.text);
    return code;
}
