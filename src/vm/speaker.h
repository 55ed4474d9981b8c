/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the PC speaker plays, as a WAV file: 44100 samples a second, 16 bits, one channel. The
 * guest's time is the file's, but of silence no more than a second is kept at a time, of a tone
 * that does not change no more than ten. The file is a complete one after every tone, whatever
 * becomes of us.
 */
#ifndef VM_SPEAKER_H
#define VM_SPEAKER_H

#include "base/error.h"
#include "devices/pit.h"

struct speaker;

/* Empties the file. NULL with a sentence on failure. */
struct speaker *speaker_open(const char *path, struct error *err);
struct pit_speaker speaker_sink(struct speaker *s);
void speaker_close(struct speaker *s); /* accepts NULL; after the device */

#endif
