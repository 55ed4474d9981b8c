/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * viv-oci: looks at OCI images (image layouts as folders or archives, archives of "docker save")
 * and makes disks of them that machines can start from. vivd runs it for imports; it works alone as
 * well.
 *
 * Images come from anywhere. So this is a process of its own, which gives up rights and memory
 * before it reads the first byte, and writes nothing but the files that it was told.
 */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/man.h"
#include "base/sha256.h"
#include "base/version.h"
#include "oci/config.h"
#include "oci/initrd.h"
#include "oci/layer.h"
#include "proto/units.h"
#include "tools/oci/expand.h"

#define GIB           (1ull << 30)
#define MOST_EXPANDED (16ull << 40) /* more than ext4 has in one file */

enum { EXIT_USAGE = 2, MOST_ENTRIES = 4000000 };

struct args {
    const char *disk, *initrd, *modules, *agent, *size;
    uint64_t offset, length;
    bool progress;
};

static const struct rlimit memory = {4ll << 30, 4ll << 30};

#define USAGE                                                                                      \
    "viv-oci inspect IMAGE\n"                                                                      \
    "       viv-oci pack IMAGE --disk FILE [--size SIZE] [--initrd FILE --modules FILE --agent "   \
    "FILE]"

static const char about[] =
    "IMAGE is oci:PATH[:TAG][@DIGEST]: an OCI image layout (a folder or a tar archive, also a "
    "compressed one) or an archive of 'docker save'. With several images in it TAG or DIGEST "
    "chooses. inspect prints what it is as JSON. pack unpacks its layers into a new ext4 file "
    "system "
    "in a file, with all owners, modes and attributes; it needs no rights for that. expand unpacks "
    "a "
    "compressed file (gzip, zstd, xz, bzip2); zeros become holes.";

static const struct {
    struct option option;
    const char *value, *help;
} options[] = {
    {{"disk", required_argument, NULL, 'd'}, "FILE", "the file that is made"},
    {{"size", required_argument, NULL, 's'},
     "SIZE",
     "of the file system; by default 8G, or eight times the layers if that is more"},
    {{"initrd", required_argument, NULL, 'i'},
     "FILE",
     "make an initramfs as well that runs the image: our init, modules, the configuration"},
    {{"modules", required_argument, NULL, 'm'},
     "FILE",
     "the initramfs that its modules are taken from: tiny.cpio.gz of make guest"},
    {{"agent", required_argument, NULL, 'a'},
     "FILE",
     "the program that becomes its init: viv-agent"},
    {{"offset", required_argument, NULL, 'o'}, "BYTES", "of expand: where in the file it begins"},
    {{"length", required_argument, NULL, 'l'}, "BYTES", "of expand: how much of the file it takes"},
    {{"progress", no_argument, NULL, 'p'}, NULL, "print how far it is"},
    {{"help-man", no_argument, NULL, 'M'}, NULL, NULL},
    {{"version", no_argument, NULL, 'V'}, NULL, "print the version"},
    {{"help", no_argument, NULL, 'h'}, NULL, "print this help"},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static void print_help(void) {
    printf("usage: %s\n\n%s\n\n", USAGE, about);
    for (unsigned i = 0; i < OPTIONS; i++)
        if (options[i].help)
            printf("  --%-8s %-5s %s\n", options[i].option.name,
                   options[i].value ? options[i].value : "", options[i].help);
    puts("\nexample: viv-oci pack oci:alpine.tar --disk alpine.raw");
}

static void print_man(void) {
    char name[40];

    man_begin(stdout, "viv-oci", "make disks of OCI images", USAGE);
    puts(".SH DESCRIPTION");
    man_text(stdout, about);
    puts("\n.SH OPTIONS");
    for (unsigned i = 0; i < OPTIONS; i++) {
        snprintf(name, sizeof(name), "--%s", options[i].option.name);
        if (options[i].help)
            man_item(stdout, name, options[i].value, options[i].help);
    }
}

static int fail(const struct error *err) {
    fprintf(stderr, "viv-oci: %s\n", err->text);
    return 1;
}

/* ------------------------------------------------------------------ inspect */

/* Other where our init is another one, so that what was made with an older one is not taken. */
static void identity(const struct oci_image *image, const char *agent, char out[SHA256_TEXT]) {
    struct stat st = {0};
    struct sha256 h;
    char text[200];

    if (agent)
        stat(agent, &st);
    snprintf(text, sizeof(text), "%s %lld %lld.%09ld", image->digest, (long long)st.st_size,
             (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    sha256_begin(&h);
    sha256_put(&h, text, strlen(text));
    sha256_end_text(&h, out);
}

static int inspect(const struct oci_image *image, const json_t *run, const struct args *a) {
    char id[SHA256_TEXT];
    uint64_t size = 0;
    json_t *v;

    for (unsigned i = 0; i < image->layers; i++)
        size += image->layer[i].size;
    identity(image, a->agent, id);
    v = json_pack("{s:s, s:s, s:s, s:i, s:I, s:O}", "digest", image->digest, "identity", id, "name",
                  image->name, "layers", (int)image->layers, "size", (json_int_t)size, "run", run);
    if (!v)
        return 1;
    json_dumpf(v, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(v);
    return 0;
}

/* ------------------------------------------------------------------ pack */

struct meter {
    bool on;
    unsigned shown;
};

static void show(void *opaque, uint64_t done, uint64_t total) {
    struct meter *m = opaque;
    unsigned part = total ? (unsigned)((double)done * 10000 / (double)total) : 10000;

    if (!m->on || part / 10 == m->shown)
        return;
    m->shown = part / 10;
    printf("    (%u.%02u/100%%)\r", part / 100, part % 100);
    fflush(stdout);
}

static uint64_t size_for(const struct oci_image *image) {
    uint64_t size = 0;

    for (unsigned i = 0; i < image->layers; i++)
        size += image->layer[i].size;
    size = 8 * size;
    return size < 8 * GIB ? 8 * GIB : (size + GIB - 1) / GIB * GIB;
}

static int pack(struct oci_source *s, const struct oci_image *image, const json_t *run,
                const struct args *a, uint64_t size, struct error *err) {
    struct meter m = {a->progress, 0};
    const struct oci_progress progress = {show, &m};
    const struct oci_limits limits = {8 * size, MOST_ENTRIES};
    struct oci_fs *fs;
    int r = 0, closed;

    if (a->initrd)
        r = oci_initrd_write(a->initrd, a->modules, a->agent, run, err);
    if (r < 0)
        return r;
    fs = fs_create(a->disk, size, err);
    if (!fs)
        return -EIO;
    r = oci_unpack(s, image, fs, &limits, &progress, err);
    closed = fs_close(fs, err);
    r = r < 0 ? r : closed;
    if (r < 0)
        unlink(a->disk);
    return r;
}

static int check_pack(const struct args *a, const struct oci_image *image, uint64_t *size,
                      struct error *err) {
    int64_t given;

    *size = size_for(image);
    if (!a->disk || (a->initrd && (!a->modules || !a->agent)))
        return error_set(err, -EINVAL,
                         "pack needs --disk, and with --initrd also --modules and "
                         "--agent");
    if (!a->size)
        return 0;
    if (units_read_size(a->size, &given, err) < 0)
        return -EINVAL;
    if (given < 24 << 20)
        return error_set(err, -EINVAL, "'%.40s' is too small for a disk", a->size);
    *size = (uint64_t)given & ~4095ull;
    return 0;
}

/* ------------------------------------------------------------------ both */

static int run(const char *verb, const char *word, const struct args *a, struct error *err) {
    struct oci_image image = {0};
    struct oci_source *s = NULL;
    struct oci_ref ref;
    json_t *how = NULL;
    uint64_t size;
    int r = oci_ref_parse(word, &ref, err);

    if (r == 0)
        r = (s = oci_source_open(ref.path, err)) ? 0 : -EINVAL;
    if (r == 0)
        r = oci_image_find(s, ref.tag, &image, err);
    if (r == 0)
        r = (how = oci_run_config(image.config, err)) ? 0 : -EINVAL;
    if (r == 0 && !strcmp(verb, "inspect"))
        r = inspect(&image, how, a);
    else if (r == 0 && (r = check_pack(a, &image, &size, err)) == 0)
        r = pack(s, &image, how, a, size, err);
    json_decref(how);
    oci_image_done(&image);
    oci_source_close(s);
    return r;
}

static int expand_file(const char *from, const struct args *a, struct error *err) {
    if (!a->disk)
        return error_set(err, -EINVAL, "expand needs --disk");
    return expand(from, a->offset, a->length, a->disk, MOST_EXPANDED, a->progress, err);
}

static bool is_verb(const char *s) {
    return !strcmp(s, "inspect") || !strcmp(s, "pack") || !strcmp(s, "expand");
}

static int usage(const char *what) {
    fprintf(stderr, "viv-oci: %s; 'viv-oci --help' tells more\n", what);
    return EXIT_USAGE;
}

/* 0: an option was taken, 1: all is done, -1: it is none. */
static int take_option(int c, struct args *a) {
    switch (c) {
    case 'd':
        a->disk = optarg;
        return 0;
    case 'i':
        a->initrd = optarg;
        return 0;
    case 'm':
        a->modules = optarg;
        return 0;
    case 'a':
        a->agent = optarg;
        return 0;
    case 's':
        a->size = optarg;
        return 0;
    case 'o':
        a->offset = strtoull(optarg, NULL, 10);
        return 0;
    case 'l':
        a->length = strtoull(optarg, NULL, 10);
        return 0;
    case 'p':
        a->progress = true;
        return 0;
    case 'M':
        print_man();
        return 1;
    case 'V':
        puts("viv-oci " VIVARIUM_VERSION);
        return 1;
    case 'h':
        print_help();
        return 1;
    default:
        return -1;
    }
}

int main(int argc, char **argv) {
    struct option list[OPTIONS + 1] = {{0}};
    struct args a = {0};
    struct error err = {0};
    int c, r;

    for (unsigned i = 0; i < OPTIONS; i++)
        list[i] = options[i].option;
    while ((c = getopt_long(argc, argv, "hV", list, NULL)) != -1)
        if ((r = take_option(c, &a)) != 0)
            return r > 0 ? 0 : EXIT_USAGE;
    if (argc - optind != 2 || !is_verb(argv[optind]))
        return usage("say 'inspect IMAGE', 'pack IMAGE' or 'expand FILE'");
    /* Names of files are bytes; in this locale they stay what they are. */
    setlocale(LC_CTYPE, "C.UTF-8");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    setrlimit(RLIMIT_AS, &memory);
    r = strcmp(argv[optind], "expand") ? run(argv[optind], argv[optind + 1], &a, &err)
                                       : expand_file(argv[optind + 1], &a, &err);
    return r < 0 ? fail(&err) : 0;
}
