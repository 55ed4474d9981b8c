/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands about networks: forwards that come and go. */
#include <errno.h>
#include <string.h>

#include "net/forward.h"
#include "net/user.h"
#include "proto/lines.h"
#include "vm/control.h"
#include "vm/options.h"

json_t *control_forwards(const struct options_nic *n) {
    json_t *list = json_array();
    char text[NET_FORWARD_TEXT];

    for (unsigned i = 0; i < n->forwards; i++) {
        net_forward_print(&n->forward[i], text);
        json_array_append_new(list, json_string(text));
    }
    return list;
}

/* The interface that is meant, with its port. */
static struct options_nic *find_nic(const struct control_call *call, struct net_port **ret_port,
                                    struct error *err) {
    const json_t *which = json_object_get(call->args, "nic");
    unsigned count = call->vm->options->nics, i = 0;

    while (!which && i < count && (call->vm->nic[i].link || call->vm->nic[i].absent))
        i++;
    if (which)
        i = (unsigned)json_integer_value(which);
    if (i >= count || call->vm->nic[i].link || call->vm->nic[i].absent) {
        error_set(err, which ? -EINVAL : -EBUSY,
                  "the machine has no such interface with a user-mode network");
        return NULL;
    }
    *ret_port = call->vm->port[i];
    return &call->vm->nic[i];
}

static int find(const struct options_nic *n, const struct net_forward *f) {
    for (unsigned i = 0; i < n->forwards; i++)
        if (net_forward_equal(&n->forward[i], f))
            return (int)i;
    return -1;
}

static int add(struct options_nic *n, struct net_port *p, const struct net_forward *f,
               struct error *err) {
    int r;

    if (n->forwards == OPTIONS_MAX_FORWARDS)
        return error_set(err, -EBUSY, "an interface has at most %d forwards: remove one first",
                         OPTIONS_MAX_FORWARDS);
    r = net_user_add_forward(p, f, err);
    if (r == 0)
        n->forward[n->forwards++] = *f;
    return r;
}

static void drop(struct options_nic *n, struct net_port *p, unsigned i) {
    struct error e = {0};

    net_user_remove_forward(p, &n->forward[i], &e);
    memmove(&n->forward[i], &n->forward[i + 1], (--n->forwards - i) * sizeof(n->forward[0]));
}

static int take(const struct control_call *call, struct net_forward *f, struct error *err) {
    return net_forward_parse(json_string_value(json_object_get(call->args, "forward")), f, err);
}

static int do_forward_add(struct control_call *call, struct error *err) {
    struct net_port *p = NULL;
    struct options_nic *n = find_nic(call, &p, err);
    struct net_forward f;

    if (!n || take(call, &f, err) < 0)
        return err->code;
    if (find(n, &f) >= 0)
        return error_set(err, -EALREADY, "that forward is open already");
    return add(n, p, &f, err);
}

static int do_forward_remove(struct control_call *call, struct error *err) {
    struct net_port *p = NULL;
    struct options_nic *n = find_nic(call, &p, err);
    struct net_forward f;
    int i;

    if (!n || take(call, &f, err) < 0)
        return err->code;
    i = find(n, &f);
    if (i < 0)
        return error_set(err, -EINVAL, "there is no forward '%s'",
                         json_string_value(json_object_get(call->args, "forward")));
    drop(n, p, (unsigned)i);
    return 0;
}

static bool is_wanted(const struct net_forward *f, const struct net_forward *wanted, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (net_forward_equal(f, &wanted[i]))
            return true;
    return false;
}

static int do_forward_set(struct control_call *call, struct error *err) {
    const json_t *list = json_object_get(call->args, "forwards"), *one;
    struct net_forward wanted[OPTIONS_MAX_FORWARDS];
    json_t *failed = json_array();
    struct net_port *p = NULL;
    struct options_nic *n = find_nic(call, &p, err);
    size_t i;

    json_object_set_new(call->result, "failed", failed);
    if (!n)
        return err->code;
    json_array_foreach(list, i, one)
        if (net_forward_parse(json_string_value(one), &wanted[i], err) < 0)
            return err->code;
    for (unsigned k = n->forwards; k-- > 0;) /* those that go make room for those that come */
        if (!is_wanted(&n->forward[k], wanted, json_array_size(list)))
            drop(n, p, k);
    json_array_foreach(list, i, one) {
        struct error e = {0};

        if (find(n, &wanted[i]) < 0 && add(n, p, &wanted[i], &e) < 0)
            json_array_append_new(
                failed, json_pack("{s:O, s:o}", "forward", one, "error", message_text(e.text)));
    }
    json_object_set_new(call->result, "open", control_forwards(n));
    return 0;
}

const struct control_handler control_net_handlers[] = {
    {"forward-add", do_forward_add},
    {"forward-remove", do_forward_remove},
    {"forward-set", do_forward_set},
    {NULL, NULL},
};
