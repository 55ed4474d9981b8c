/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The catalogue of guest systems: what was tested, when, with which firmware and drivers. Its rows
 * are in catalogue.def; `viv os list` and GET /v1/systems show them.
 */
#ifndef HOST_CATALOGUE_H
#define HOST_CATALOGUE_H

struct catalogue_os {
    const char *name, *title;
    int bits;
    const char *boots, *drivers; /* words with commas between */
    const char *date, *test, *remarks;
};

extern const struct catalogue_os catalogue[]; /* by name; ends with name NULL */

#endif
