/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the input is a guest of a shared folder. Requests of all kinds
 * with numbers that were answered before and others, over a small tree with
 * links that lead outside, a FIFO and what earlier requests made; sometimes the
 * session is saved and loaded. What lies outside is never read, changed, or
 * joined by others.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/rig.h"
#include "share/fuse_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 60, IDS = 32 };
static const char secret[] = "what nobody may read";

static char base[64];
static struct choices input;
static struct fuse_client c;
static uint64_t ids[IDS];

static void check(bool good) {
    if (!good)
        abort();
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *ftw) {
    return ftw->level ? remove(path) : 0;
}

static const char *at(const char *name) {
    static char path[2][128];
    static unsigned next;
    char *p = path[next++ % 2];

    snprintf(p, sizeof(path[0]), "%s/%s", base, name);
    return p;
}

static void put_file(const char *name, const char *text) {
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

    check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void make_tree(void) {
    if (!*base) {
        snprintf(base, sizeof(base), "/tmp/viv-fuzz-share-XXXXXX");
        check(mkdtemp(base) != NULL);
    }
    nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    check(mkdir(at("in"), 0755) == 0 && mkdir(at("in/d"), 0755) == 0);
    put_file("secret", secret);
    put_file("in/a", "a");
    put_file("in/d/b", "b");
    check(symlink("..", at("in/up")) == 0 && symlink("../secret", at("in/s")) == 0);
    check(mkfifo(at("in/fifo"), 0644) == 0);
}

static void check_outside(void) {
    char text[64] = "";
    int fd = open(at("secret"), O_RDONLY);
    DIR *d = opendir(base);
    unsigned n = 0;

    check(fd >= 0 && read(fd, text, sizeof(text)) == (ssize_t)strlen(secret));
    check(!strcmp(text, secret));
    close(fd);
    while (readdir(d))
        n++;
    closedir(d);
    check(n == 4); /* ".", "..", "in" and "secret" */
}

/* Numbers in answers are the guest's to use: nodes and handles stand first. */
static void learn(void) {
    for (size_t at = 0; at + 8 <= c.len && at <= sizeof(struct fuse_entry_out); at += 128) {
        memcpy(&ids[choices_draw(&input, 1) % IDS], c.reply + at, 8);
    }
    for (size_t i = 0; i + sizeof(secret) - 1 <= c.len; i++)
        check(memcmp(c.reply + i, secret, sizeof(secret) - 1) != 0);
}

static uint64_t some_id(void) { return ids[choices_draw(&input, 1) % IDS]; }

static const char *some_name(void) {
    static const char *const names[] = {"a",
                                        "b",
                                        "d",
                                        "up",
                                        "s",
                                        "fifo",
                                        "new",
                                        "..",
                                        ".",
                                        "secret",
                                        "../secret",
                                        "user.x",
                                        "user.vivarium.owner",
                                        "",
                                        "x/y"};

    return names[choices_draw(&input, 1) % (sizeof(names) / sizeof(names[0]))];
}

static void save_and_load(void) {
    struct buf b = {0};

    share_save(c.share, &b);
    if (choices_draw(&input, 1) & 1 && b.len)
        b.data[choices_draw(&input, 2) % b.len] = (uint8_t)choices_draw(&input, 1);
    share_load(c.share, b.data, b.len, NULL);
    buf_done(&b);
}

/* Arguments are words of 64 bits (numbers that are known, and small ones), then
 * names. */
static void step(void) {
    unsigned opcode = (unsigned)choices_draw(&input, 1) % 56, words, names, n = 0;
    uint64_t args[16];
    struct iovec v[4];

    if (opcode == 55) {
        save_and_load();
        return;
    }
    words = (unsigned)choices_draw(&input, 1) % 16;
    names = (unsigned)choices_draw(&input, 1) % 3;
    for (unsigned i = 0; i < words; i++) {
        uint64_t how = choices_draw(&input, 1);

        args[i] = how & 1 ? some_id() : how & 2 ? choices_draw(&input, 8) : how >> 2;
    }
    if (words)
        v[n++] = (struct iovec){args, words * 8};
    while (names--) {
        const char *s = some_name();

        v[n++] = (struct iovec){(void *)s, strlen(s) + 1};
    }
    fuse_ask(&c, opcode, some_id(), v, n, choices_draw(&input, 2) % 5000);
    learn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    make_tree();
    input = (struct choices){.p = data, .left = size};
    c.share = share_open(
        NULL,
        &(struct share_options){.path = at("in"), .readonly = choices_draw(&input, 1) % 8 == 0},
        NULL);
    check(c.share != NULL);
    fuse_hello(&c);
    for (unsigned i = 0; i < IDS; i++)
        ids[i] = i % 4;
    fuse_walk(&c, "d/b");
    for (unsigned i = 0; i < STEPS && input.left; i++)
        step();
    share_close(c.share);
    check_outside();
    return 0;
}
