/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file or block device of the host that an image lies in: what formats do their I/O with.
 *
 * Contract: the functions that transfer at once (file_read ... file_zero) may block and are called
 * on any thread; file_submit and file_try are for requests of the image's users, with the machine
 * lock held. All take any offset, length and buffer address: what a file without the host's cache
 * (cache=none) wants aligned is aligned here, through a copy. What lies behind the end reads as
 * zeroes, and writing there extends the file. Results are 0 or a negative errno; nothing is done
 * in part without an error.
 */
#ifndef BLOCK_FILE_H
#define BLOCK_FILE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

struct block;
struct block_options;
struct block_request;
struct file;

/* Opens and locks `path` (o->path, or another file of the image, as a backing file, with the cache
 * mode and engine of o). The file belongs to b, to whose requests it reports. */
struct file *file_open(struct block *b, const struct block_options *o, const char *path,
                       bool readonly, struct error *err);
void file_close(struct file *f);    /* nothing is in flight; accepts NULL */
uint64_t file_size(struct file *f); /* now, in bytes; 0 if the host does not tell */

int file_read(struct file *f, uint64_t offset, const struct iovec *iov, unsigned count);
int file_write(struct file *f, uint64_t offset, const struct iovec *iov, unsigned count);
int file_flush(struct file *f); /* cache=unsafe: nothing. After one failed all later ones fail */
int file_discard(struct file *f, uint64_t offset, uint64_t length); /* advice: unsupported is 0 */
int file_zero(struct file *f, uint64_t offset, uint64_t length, bool unmap);

int file_truncate(struct file *f, uint64_t size);
/* Where data begin at or behind offset, and where they end. */
int file_extent(struct file *f, uint64_t offset, uint64_t *ret_data, uint64_t *ret_hole);
/* A file that was opened to be read is written from now on, or the other way round; takes or gives
 * up the lock against others. While it changes nothing may be in the file's ring. */
int file_set_writable(struct file *f, const char *path, bool writable, struct error *err);

/* Does req at `offset` of the file instead of req->offset, then calls block_complete: by io_uring
 * where the host has it, else on a thread. */
void file_submit(struct file *f, struct block_request *req, uint64_t offset);
/* The same at once, if the host's cache allows it without waiting; as block_try. */
bool file_try(struct file *f, struct block_request *req, uint64_t offset, int *ret_result);

/* For block.c, with the machine lock held: brings the completions of all files of an image; hands
 * what is queued to the kernel. */
void file_reap_all(struct block *b);
/* As loop_lend and loop_take_back (without reaping), of all files of an image. */
unsigned file_lend_all(struct block *b, struct pollfd *fds, unsigned max);
void file_take_back_all(struct block *b);
void file_kick_all(struct block *b);

#endif
