/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The version that every program of the project reports. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define VIVARIUM_VERSION "0.1.0"

#endif
