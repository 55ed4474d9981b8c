/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How callers say who they are, as the OpenAPI document tells it. */
#include <stddef.h>

#include "host/openapi_internal.h"

static void set(json_t *o, const char *name, json_t *value) { json_object_set_new(o, name, value); }

static json_t *content(const char *schema) {
    return json_pack("{s:{s:{s:o}}}", "application/json", "schema", "$ref",
                     json_sprintf("#/components/schemas/%s", schema));
}

static json_t *failure(const char *description) {
    return json_pack("{s:s, s:o}", "description", description, "content", content("Failure"));
}

static json_t *header(const char *help, const char *type) {
    return json_pack("{s:s, s:{s:s}}", "description", help, "schema", "type", type);
}

void openapi_add_failures(json_t *responses) {
    json_t *who = failure("the caller has not said who it is, or wrongly");
    json_t *often = failure("too many at the same time, or too often");

    set(who, "headers", json_pack("{s:o}", "WWW-Authenticate", header("how to say it", "string")));
    set(often, "headers", json_pack("{s:o}", "Retry-After", header("seconds to wait", "integer")));
    set(responses, "401", who);
    set(responses, "403", failure("the caller may not do this"));
    set(responses, "429", often);
    set(responses, "default", failure("it failed"));
}

/* One of them is enough. The local socket asks for none. */
json_t *openapi_security(void) { return json_pack("[{s:[]}, {s:[]}, {}]", "token", "session"); }

json_t *openapi_security_schemes(void) {
    return json_pack(
        "{s:{s:s, s:s, s:s}, s:{s:s, s:s, s:s, s:s}}", "token", "type", "http", "scheme", "bearer",
        "description", "a token: 'viv token create' on the manager's host makes the first one",
        "session", "type", "apiKey", "in", "cookie", "name", "viv_session", "description",
        "the cookie of POST /v1/session. What changes something needs the header 'X-Viv-Portal: "
        "1' as well, and an Origin, if there is one, that is the manager's");
}

static json_t *session_schema(void) {
    return json_pack("{s:s, s:s, s:{s:{s:s}, s:{s:s, s:[s,s,s]}, s:{s:s}, s:{s:s, s:s}, "
                     "s:{s:s, s:s, s:{s:s}}}, s:[s,s,s,s], s:b}",
                     "type", "object", "description", "who calls", "properties", "caller", "type",
                     "string", "role", "type", "string", "enum", "viewer", "operator", "admin",
                     "tenant", "type", "string", "expires", "type", "string", "format", "date-time",
                     "may", "type", "array", "description",
                     "permissions: x-permission of what is allowed", "items", "type", "string",
                     "required", "caller", "role", "tenant", "may", "additionalProperties", 0);
}

static json_t *sign_in_schema(void) {
    return json_pack("{s:s, s:{s:{s:s}, s:{s:s}}, s:i, s:i, s:b}", "type", "object", "properties",
                     "token", "type", "string", "code", "type", "string", "minProperties", 1,
                     "maxProperties", 1, "additionalProperties", 0);
}

static json_t *operation(const char *id, const char *summary, json_t *responses) {
    openapi_add_failures(responses);
    return json_pack("{s:s, s:s, s:[s], s:o}", "operationId", id, "summary", summary, "tags",
                     "session", "responses", responses);
}

static json_t *sign_in(void) {
    json_t *o = operation("session.create",
                          "Sign in with a token or a one-time code: the answer sets a cookie",
                          json_pack("{s:{s:s, s:o}}", "201", "description", "signed in", "content",
                                    content("Session")));

    set(o, "security", json_array());
    set(o, "requestBody", json_pack("{s:b, s:o}", "required", 1, "content", content("SignIn")));
    return o;
}

static json_t *web_socket(void) {
    json_t *o =
        operation("socket.open",
                  "Become a WebSocket (RFC 6455, subprotocol binary) to what the ticket is "
                  "for",
                  json_pack("{s:{s:s}, s:o}", "101", "description", "binary frames both ways",
                            "426", failure("another version of WebSocket is needed")));

    set(o, "security", json_array());
    return json_pack("{s:[{s:s, s:s, s:b, s:s, s:{s:s}}], s:o}", "parameters", "name", "ticket",
                     "in", "path", "required", 1, "description", "good once, and for half a minute",
                     "schema", "type", "string", "get", o);
}

void openapi_add_sessions(json_t *paths, json_t *schemas) {
    json_t *get = operation("session.get", "Who am I?",
                            json_pack("{s:{s:s, s:o}}", "200", "description", "who the caller is",
                                      "content", content("Session")));
    json_t *end = operation("session.delete", "Sign out",
                            json_pack("{s:{s:s}}", "204", "description", "signed out"));

    set(schemas, "Session", session_schema());
    set(schemas, "SignIn", sign_in_schema());
    set(paths, "/v1/session",
        json_pack("{s:o, s:o, s:o}", "post", sign_in(), "get", get, "delete", end));
    set(paths, "/v1/ws/{ticket}", web_socket());
}
