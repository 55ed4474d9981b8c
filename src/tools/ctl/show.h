/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers and events as people read them. */
#ifndef TOOLS_CTL_SHOW_H
#define TOOLS_CTL_SHOW_H

#include <jansson.h>
#include <stdio.h>

/* "name: value" a line; a list of objects with the same fields as a table. */
void show_result(const json_t *result, FILE *f);
void show_event(const char *name, const json_t *data, FILE *f); /* one line with the time */
void show_progress(const json_t *job, FILE *f);                 /* over the line before */

#endif
