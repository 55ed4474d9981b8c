/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the commands of viv-img share: their arguments, opening of images, progress. */
#ifndef TOOLS_IMG_IMG_H
#define TOOLS_IMG_IMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "block/chain.h"

enum { IMG_MAX_WORDS = 8, IMG_EXIT_FAILED = 1 };

struct img_args { /* what the options of a command said; NULL or false: nothing */
    const char *format, *other_format, *backing, *settings, *output, *repair, *threads, *sparse,
        *merge, *granularity;
    bool progress, quiet, compress, unsafe, share, chain, shrink, strict, keep, no_create, add,
        remove, clear, enable, disable;
    const char *word[IMG_MAX_WORDS];
    unsigned words;
    char **argv; /* the whole command line, for qemu-img */
};

/* The exit code; a sentence in err is printed. */
typedef int img_fn(const struct img_args *a, struct error *err);
img_fn img_create, img_info, img_check, img_convert, img_resize, img_map, img_commit, img_rebase,
    img_compare, img_bitmap;

/* Number with an optional unit: 512, 64k, 10G. False if it is none. */
bool img_parse_size(const char *s, uint64_t *ret);
/* The same as people read it: "10 GiB". */
const char *img_show_size(uint64_t bytes, char out[32]);

/* Of a comma list of name=value, the value of `name`: into out; false if it is not there. */
bool img_setting(const char *settings, const char *name, char *out, size_t size);

enum img_mode { IMG_READ, IMG_WRITE };
/* As the -f and -U of the command say. */
struct chain *img_open(const struct img_args *a, const char *path, const char *format,
                       enum img_mode mode, struct error *err);
/* "vmdk" and so on: what only qemu-img reads, by its first bytes or by the given format. NULL: our
 * own formats. */
const char *img_foreign(const char *path, const char *format);
/* Runs qemu-img instead of this program, with the same words; returns only with an error. */
int img_hand_over(const struct img_args *a, const char *why, struct error *err);

void img_progress(const struct img_args *a, uint64_t done, uint64_t total);
void img_progress_end(const struct img_args *a);

#endif
