/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the input is what comes to one end of a connection between host and guest agent, in
 * pieces; the first byte says how long they are. The same again as a folder that is copied: nothing
 * may appear beside it. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes the frames that are complete; false when the connection is of no use any more. */
static bool take(struct agent_reader *r) {
    struct error err = {0};
    enum agent_frame type;
    const uint8_t *p;
    size_t n;
    int got;

    while ((got = agent_receive(r, 0, &type, &p, &n, &err)) > 0) {
        json_t *v = agent_json(p, n, &err);

        if (type >= AGENT_FRAMES || n > AGENT_FRAME_MAX)
            abort();
        json_decref(v);
    }
    if (got < 0 && !err.text[0])
        abort(); /* nobody would know why */
    return got == 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *where) {
    return remove(path);
}

static unsigned count_names(const char *path) {
    DIR *d = opendir(path);
    unsigned n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* The connection ends where the input does. */
static void take_tree(const uint8_t *data, size_t size) {
    static struct agent_reader r;
    char top[] = "/tmp/viv-fuzz-XXXXXX", path[64];
    struct tree_count count;
    struct error err = {0};
    int fd[2], folder;

    if (!mkdtemp(top) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        abort();
    snprintf(path, sizeof(path), "%s/x", top);
    if (mkdir(path, 0700) < 0 || (folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        abort();
    send(fd[1], data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd[1]);
    r = (struct agent_reader){.fd = fd[0]};
    if (tree_receive(&r, 0, folder, "x", &count, &err) < 0 && !err.text[0])
        abort();
    close(folder);
    close(fd[0]);
    if (count_names(top) != 3)
        abort();
    nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct agent_reader r;
    size_t piece = size ? data[0] + 1u : 1;
    int fd[2];

    if (!size || size > 1 << 17 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        return 0;
    r = (struct agent_reader){.fd = fd[0]};
    for (size_t at = 1; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;

        if (send(fd[1], data + at, n, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)n || !take(&r))
            break;
    }
    close(fd[1]);
    while (take(&r))
        ;
    close(fd[0]);
    take_tree(data + 1, size - 1);
    return 0;
}
