/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the input is what comes to one end of a connection between host and guest agent, in
 * pieces; the first byte says how long they are. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/agent.h"

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
    return 0;
}
