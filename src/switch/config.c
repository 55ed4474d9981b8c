/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a network's configuration. */
#include "switch/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/forward.h"
#include "net/link.h"

/*
 * Calls (net): openat newfstatat
 */

static int wrong(const char *key, const char *what, struct error *err) {
    return error_set(err, -EINVAL, "'%s' must be %s", key, what);
}

static int take_text(const json_t *v, const char *key, const char **ret, struct error *err) {
    const char *s = json_string_value(json_object_get(v, key));

    if (!s)
        return wrong(key, "a string", err);
    *ret = s;
    return 0;
}

static int take_flag(const json_t *v, const char *key, bool *ret, struct error *err) {
    const json_t *flag = json_object_get(v, key);

    if (flag && !json_is_boolean(flag))
        return wrong(key, "true or false", err);
    *ret = json_is_true(flag);
    return 0;
}

static int check_keys(const json_t *v, const char *const *known, struct error *err) {
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)v, key, value) {
        const char *const *k = known;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return error_set(err, -EINVAL, "'%.60s' is not known here", key);
    }
    return 0;
}

static int take_member(struct directory *d, const json_t *v, struct error *err) {
    static const char *const known[] = {"name", "mac", "address", NULL};
    const char *name = "", *mac = "", *address = NULL;
    struct member m = {.guest = false};

    if (!json_is_object(v))
        return wrong("members", "a list of objects", err);
    if (check_keys(v, known, err) < 0 || take_text(v, "name", &name, err) < 0 ||
        take_text(v, "mac", &mac, err) < 0 || mac_parse(mac, m.mac, err) < 0)
        return -EINVAL;
    if (strlen(name) >= sizeof(m.name))
        return error_set(err, -EINVAL, "the name '%.80s...' is too long", name);
    snprintf(m.name, sizeof(m.name), "%s", name);
    if (json_object_get(v, "address")) {
        if (take_text(v, "address", &address, err) < 0)
            return -EINVAL;
        if (!address_parse(address, &m.address))
            return error_set(err, -EINVAL, "'%.40s' is no IPv4 address", address);
    }
    return directory_add(d, &m, err);
}

static int take_members(struct config *c, const json_t *list, struct error *err) {
    const json_t *v;
    size_t i;

    if (list && !json_is_array(list))
        return wrong("members", "a list of objects", err);
    json_array_foreach(list, i, v)
        if (take_member(&c->directory, v, err) < 0)
            return -EINVAL;
    return 0;
}

int config_forward(const struct directory *d, const char *text, const char *to,
                   struct net_forward *ret, struct error *err) {
    const struct member *m = directory_by_name(d, to);
    uint32_t guest = m ? m->address : 0;

    if (net_forward_parse(text, ret, err) < 0)
        return -EINVAL;
    if (!m && !address_parse(to, &guest))
        return error_set(err, -EINVAL, "the forward '%s': there is no machine '%.60s' here", text,
                         to);
    if (!subnet_usable(&d->subnet, guest))
        return error_set(err, -EINVAL, "the forward '%s': '%.60s' has no address in this subnet",
                         text, to);
    ret->guest = guest;
    return 0;
}

static int take_forwards(struct config *c, const json_t *list, struct error *err) {
    static const char *const known[] = {"forward", "to", NULL};
    const char *text = "", *to = "";
    const json_t *v;
    size_t i;

    if (list && (!json_is_array(list) || json_array_size(list) > CONFIG_MAX_FORWARDS))
        return wrong("forwards", "a list of at most 2048 objects", err);
    c->forward = calloc(json_array_size(list) + 1, sizeof(*c->forward));
    if (!c->forward)
        return error_set(err, -ENOMEM, "out of memory");
    json_array_foreach(list, i, v) {
        if (!json_is_object(v))
            return wrong("forwards", "a list of at most 2048 objects", err);
        if (check_keys(v, known, err) < 0 || take_text(v, "forward", &text, err) < 0 ||
            take_text(v, "to", &to, err) < 0 ||
            config_forward(&c->directory, text, to, &c->forward[c->forwards], err) < 0)
            return -EINVAL;
        c->forwards++;
    }
    return 0;
}

static int parse(const json_t *v, struct config *c, struct error *err) {
    static const char *const known[] = {"name", "subnet",  "isolated", "spoofing",    "open",
                                        "mtu",  "members", "forwards", "connections", NULL};
    const json_t *mtu = json_object_get(v, "mtu"), *most = json_object_get(v, "connections");
    const char *name = "", *subnet = "";

    c->mtu = LINK_MTU_MAX;
    c->connections = CONFIG_CONNECTIONS;
    if (!json_is_object(v))
        return error_set(err, -EINVAL, "it is no JSON object");
    if (check_keys(v, known, err) < 0 || take_text(v, "name", &name, err) < 0 ||
        take_text(v, "subnet", &subnet, err) < 0 ||
        subnet_parse(subnet, &c->directory.subnet, err) < 0 ||
        take_flag(v, "isolated", &c->isolated, err) < 0 ||
        take_flag(v, "spoofing", &c->spoofing, err) < 0 || take_flag(v, "open", &c->open, err) < 0)
        return -EINVAL;
    if (!*name || strlen(name) >= sizeof(c->name))
        return wrong("name", "of 1 to 63 characters", err);
    snprintf(c->name, sizeof(c->name), "%s", name);
    if (mtu && (!json_is_integer(mtu) || json_integer_value(mtu) < LINK_MTU_MIN ||
                json_integer_value(mtu) > LINK_MTU_MAX))
        return wrong("mtu", "a number of 576 to 65520", err);
    if (mtu)
        c->mtu = (uint16_t)json_integer_value(mtu);
    if (most && (!json_is_integer(most) || json_integer_value(most) < CONFIG_MIN_CONNECTIONS ||
                 json_integer_value(most) > CONFIG_MAX_CONNECTIONS))
        return wrong("connections", "a number of 16 to 16384", err);
    if (most)
        c->connections = (unsigned)json_integer_value(most);
    if (take_members(c, json_object_get(v, "members"), err) < 0)
        return -EINVAL;
    return take_forwards(c, json_object_get(v, "forwards"), err);
}

int config_parse(const json_t *v, struct config *ret, struct error *err) {
    struct config c = {.forwards = 0};
    int r = parse(v, &c, err);

    if (r < 0)
        config_done(&c);
    else
        *ret = c;
    return r;
}

int config_read(const char *path, struct config *ret, struct error *err) {
    FILE *f = fopen(path, "re");
    json_error_t e = {.text = "it is too large"};
    json_t *v = NULL;
    char *text = f ? malloc(CONFIG_MAX_BYTES) : NULL;
    size_t n = text ? fread(text, 1, CONFIG_MAX_BYTES, f) : 0;
    int r;

    if (!f)
        return error_set(err, -errno, "the configuration '%s' cannot be read: %s", path,
                         strerror(errno));
    fclose(f);
    if (text && n < CONFIG_MAX_BYTES)
        v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    free(text);
    r = v ? config_parse(v, ret, err)
          : error_set(err, -EINVAL, "it is no JSON: line %d: %.100s", e.line, e.text);
    json_decref(v);
    return r < 0 ? error_prefix(err, "the configuration '%s'", path) : 0;
}

void config_done(struct config *c) {
    directory_done(&c->directory);
    free(c->forward);
    c->forward = NULL;
    c->forwards = 0;
}
