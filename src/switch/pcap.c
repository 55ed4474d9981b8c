/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing a capture. */
#include "switch/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/write.h"

/*
 * Calls (net): openat fsync unlink
 */

/* File: 0 magic, 4 version 2.4, 8 zone, 12 accuracy, 16 longest, 20 link type.
 * Frame: 0 seconds, 4 nanoseconds, 8 bytes here, 12 bytes of the frame. */
enum { HEADER = 24, RECORD = 16, NANOSECONDS = 0xa1b23c4d, ETHERNET = 1, LONGEST = 262144 };
enum { PIECE = 256 << 10 };

struct pcap {
    int fd;
    char *path;
    uint64_t limit, size, frames;
    struct buf out;
    char error[200];
};

static void begin(struct pcap *p) {
    buf_put_le32(&p->out, NANOSECONDS);
    buf_put_le16(&p->out, 2);
    buf_put_le16(&p->out, 4);
    buf_put_le32(&p->out, 0);
    buf_put_le32(&p->out, 0);
    buf_put_le32(&p->out, LONGEST);
    buf_put_le32(&p->out, ETHERNET);
    p->size = HEADER;
}

void pcap_flush(struct pcap *p) {
    int r = write_all(p->fd, p->out.data, p->out.len);

    if (r < 0 && !*p->error)
        snprintf(p->error, sizeof(p->error), "'%.100s' cannot be written: %s", p->path,
                 strerror(-r));
    p->out.len = 0;
}

void pcap_put(struct pcap *p, const uint8_t *frame, size_t len) {
    struct timespec t;

    if (*p->error)
        return;
    if (RECORD + len > p->limit - p->size) {
        pcap_flush(p);
        if (!*p->error)
            snprintf(p->error, sizeof(p->error), "it has reached its limit of %llu bytes",
                     (unsigned long long)p->limit);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &t);
    buf_put_le32(&p->out, (uint32_t)t.tv_sec);
    buf_put_le32(&p->out, (uint32_t)t.tv_nsec);
    buf_put_le32(&p->out, (uint32_t)len);
    buf_put_le32(&p->out, (uint32_t)len);
    buf_put(&p->out, frame, len);
    p->size += RECORD + len;
    p->frames++;
    if (p->out.len >= PIECE)
        pcap_flush(p);
}

struct pcap *pcap_new(const char *path, uint64_t limit, struct error *err) {
    struct pcap *p = calloc(1, sizeof(*p));

    if (!p || !(p->path = strdup(path))) {
        free(p);
        error_set(err, -ENOMEM, "a capture: out of memory");
        return NULL;
    }
    p->limit = limit < HEADER ? HEADER : limit;
    p->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (p->fd < 0) {
        error_set(err, -errno, "the capture '%s' cannot be made: %s; choose another path", path,
                  strerror(errno));
        pcap_free(p);
        return NULL;
    }
    begin(p);
    return p;
}

const char *pcap_path(const struct pcap *p) { return p->path; }
const char *pcap_error(const struct pcap *p) { return p->error; }
uint64_t pcap_frames(const struct pcap *p) { return p->frames; }

void pcap_free(struct pcap *p) {
    if (!p)
        return;
    if (p->fd >= 0) {
        pcap_flush(p);
        close(p->fd);
    }
    buf_done(&p->out);
    free(p->path);
    free(p);
}
