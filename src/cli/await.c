/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waiting for the agent of a machine that has only just begun. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "proto/units.h"

enum { YOUNG_SECONDS = 120, PIECE_SECONDS = 2 };

/* An agent may come to a machine that boots. One that has answered, and does not now, is busy or
 * gone; nothing comes to a guest that holds still or is off. */
static bool may_come(const json_t *vm) {
    const char *state = item_text(vm, "status", "state");

    return (!strcmp(state, "creating") || !strcmp(state, "starting") ||
            !strcmp(state, "running")) &&
           !*item_text(vm, "status", "agent");
}

/* How long it is worth while: as somebody said, or until the machine is no longer young. */
static int64_t patience(const struct cli *c, const json_t *vm) {
    int64_t since = 0, age;

    if (cli_given(c, "wait-agent"))
        return cli_number(c, "wait-agent", 0);
    if (units_read_time(item_text(vm, "status", "since"), &since, NULL) < 0)
        return 0;
    age = (units_now_ms() - since) / 1000;
    return age < 0 ? YOUNG_SECONDS : age < YOUNG_SECONDS ? YOUNG_SECONDS - age : 0;
}

static int too_late(struct cli *c, const char *name, int64_t seconds) {
    remote_fail(&c->failure, FAILURE_CONFLICT,
                "docs/agent.md tells how a guest gets one; --wait-agent SECONDS waits longer",
                "no agent answers in '%s' after %lld s: it is still booting, or viv-agent is not "
                "installed there",
                name, (long long)seconds);
    snprintf(c->failure.field, sizeof(c->failure.field), "status.agent");
    return -1;
}

int cli_await_agent(struct cli *c, const char *name) {
    int64_t begin = units_now_ms(), seconds = -1, gone = 0;
    struct remote_failure first = c->failure, unused = {0};
    int r = -1;

    for (;;) {
        json_t *vm = NULL;
        bool more = remote_call(c->remote, "GET", NULL, &vm, &unused, "/v1/vms/%s", name) == 0 &&
                    may_come(vm);

        if (more && seconds < 0)
            seconds = patience(c, vm);
        json_decref(vm);
        gone = (units_now_ms() - begin) / 1000;
        if (!more || gone >= seconds)
            break;
        show_progress(c, name, (int)(gone * 100 / seconds), "waiting for the guest's agent");
        r = remote_call(c->remote, "GET", NULL, NULL, &c->failure,
                        "/v1/vms/%s/wait?for=ready&timeout=%d", name, PIECE_SECONDS);
        if (r == 0 || c->failure.kind != FAILURE_TIMEOUT)
            break;
    }
    show_progress_end(c);
    if (r == 0) {
        c->failure = (struct remote_failure){0};
        return 0;
    }
    c->failure = first;
    return seconds > 0 && gone >= seconds ? too_late(c, name, seconds) : -1;
}
