/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Manual pages in roff with the macros of man(7). */
#include "base/man.h"

#include <ctype.h>
#include <stdbool.h>

#include "base/version.h"

void man_text(FILE *f, const char *s) {
    for (bool begin = true; *s; begin = *s++ == '\n') {
        if (begin && (*s == '.' || *s == '\''))
            fputs("\\&", f);
        if (*s == '-')
            fputs("\\-", f);
        else if (*s == '\\')
            fputs("\\e", f);
        else if (*s == '\'')
            fputs("\\(aq", f);
        else
            fputc(*s, f);
    }
}

void man_item(FILE *f, const char *what, const char *value, const char *meaning) {
    fputs(".TP\n.B \"", f);
    man_text(f, what);
    fputs("\"", f);
    if (value) {
        fputs(" \"", f);
        man_text(f, value);
        fputs("\"", f);
    }
    fputs("\n", f);
    man_text(f, meaning);
    fputs("\n", f);
}

void man_begin(FILE *f, const char *program, const char *summary, const char *usage) {
    fputs(".TH ", f);
    for (const char *p = program; *p; p++)
        fputs(*p == '-' ? "\\-" : (const char[]){(char)toupper((unsigned char)*p), 0}, f);
    fprintf(f, " 1 \"\" \"Vivarium %s\" \"Vivarium\"\n.SH NAME\n", VIVARIUM_VERSION);
    man_text(f, program);
    fputs(" \\- ", f);
    man_text(f, summary);
    fputs("\n.SH SYNOPSIS\n.B ", f);
    man_text(f, program);
    fputs("\n", f);
    man_text(f, usage);
    fputs("\n", f);
}
