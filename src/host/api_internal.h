/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the API share: api_request.c (from a request to an operation and its
 * arguments), api.c (doing it), api_answer.c (what is said back). */
#ifndef HOST_API_INTERNAL_H
#define HOST_API_INTERNAL_H

#include "host/api.h"

enum { API_LIST_STANDARD = 1000, API_LIST_MAX = 10000 };

/* ---- api_request.c; 0 or api_fail ---- */

int api_route(struct api_call *call); /* sets resource, name and op */
int api_read_arguments(struct api_call *call);
bool api_has_item(enum op_shape shape);

/* ---- api_answer.c ---- */

void api_put_row(struct buf *out, const struct store_row *row);
/* A field by which lists can be asked for; NULL: it is none. */
const struct field *api_find_filter(const struct resource *r, const char *name);
int api_send_list(struct api_call *call); /* as an operation */

#endif
