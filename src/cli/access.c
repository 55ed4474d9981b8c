/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands on who may come in: tokens, and the portal for a person. */
#include <string.h>

#include "cli/cli.h"

int do_token_create(struct cli *c) {
    json_t *spec = cli_spec(c, resource_op(c->resource, "create")), *token = NULL;
    const char *secret;

    if (remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", c->name[0], "spec", spec),
                    &token, &c->failure, "/v1/tokens") < 0)
        return -1;
    secret = item_text(token, "status", "secret");
    if (!*secret) { /* the answer was lost on its way, and its repeat does not have it */
        json_decref(token);
        return remote_fail(&c->failure, FAILURE_FAILED,
                           "remove the token with 'viv token rm', and make another one",
                           "the token '%s' was made, but its secret was lost on the way",
                           c->name[0]);
    }
    if (c->json)
        show_json(token);
    else
        puts(secret);
    show_note(c, "'%s' is a token of role %s; what it says is shown only now", c->name[0],
              item_text(token, "spec", "role"));
    json_decref(token);
    return 0;
}

int do_token_rm(struct cli *c) {
    for (unsigned i = 0; i < c->names; i++) {
        if (remote_call(c->remote, "DELETE", NULL, NULL, &c->failure, "/v1/tokens/%s", c->name[i]) <
            0)
            return -1;
        show_note(c, "'%s' is good no more", c->name[i]);
    }
    show_names(c, "deleted");
    return 0;
}

static int close_portal(struct cli *c) {
    json_t *portal = NULL;
    int r = remote_call(c->remote, "POST", NULL, &portal, &c->failure, "/v1/portals/local/close");

    if (r == 0 && c->json)
        show_json(portal);
    else if (r == 0)
        show_note(c, "the manager listens to the network no more");
    json_decref(portal);
    return r;
}

int do_portal(struct cli *c) {
    json_t *opened = NULL;

    if (cli_true(c, "close"))
        return close_portal(c);
    for (int i = 0; i < 2 && !*item_text(opened, NULL, "code"); i++) {
        json_decref(opened); /* its code was lost on the way */
        opened = NULL;
        if (remote_call(c->remote, "POST", cli_args(c, "open"), &opened, &c->failure,
                        "/v1/portals/local/open") < 0)
            return -1;
    }
    if (c->json)
        show_json(opened);
    else
        puts(item_text(opened, NULL, "url"));
    show_note(
        c,
        "The address signs one browser in, within ten minutes. The browser will ask about the "
        "certificate, whose SHA-256 fingerprint is\n%s",
        item_text(opened, NULL, "fingerprint"));
    json_decref(opened);
    return 0;
}
