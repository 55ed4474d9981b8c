/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words for manual pages: text and items in roff, for programs that print their own page. */
#ifndef BASE_MAN_H
#define BASE_MAN_H

#include <stdio.h>

/* Text with nothing in it that roff would take for a request, and real minus signs. */
void man_text(FILE *f, const char *s);
/* One entry of a list: what (bold), its value if not NULL, and what it means below. */
void man_item(FILE *f, const char *what, const char *value, const char *meaning);
/* Heading and synopsis of a page of section 1. */
void man_begin(FILE *f, const char *program, const char *summary, const char *usage);

#endif
