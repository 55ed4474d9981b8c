/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parts of the OpenAPI document that are no resources: who calls, sessions, WebSockets. */
#ifndef HOST_OPENAPI_INTERNAL_H
#define HOST_OPENAPI_INTERNAL_H

#include <jansson.h>

json_t *openapi_security(void);
json_t *openapi_security_schemes(void);
void openapi_add_sessions(json_t *paths, json_t *schemas);
/* The failures that any operation may answer with. */
void openapi_add_failures(json_t *responses);

#endif
