/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Texts for cloud-init. What we write is JSON, which is YAML, so that every value is quoted right.
 * The user's own user data stays as it is; if there is something of ours as well, both become parts
 * of a MIME message, theirs last, so that in case of doubt theirs holds.
 */
#include "host/cloud.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/seed.h"

static const char *text(const json_t *spec, const char *name) {
    const char *s = json_string_value(json_object_get(spec, name));

    return s ? s : "";
}

bool cloud_wanted(const json_t *spec) {
    return *text(spec, "ssh_key") || *text(spec, "user") || *text(spec, "hostname") ||
           *text(spec, "user_data") || *text(spec, "network_config");
}

/* ------------------------------------------------------------------ keys */

/* The next line that is neither empty nor a comment, without blanks around it; NULL: no more. */
static const char *next_line(const char **at, size_t *ret_len) {
    while (**at) {
        const char *s = *at + strspn(*at, " \t\r"), *end = s + strcspn(s, "\n");
        size_t len = (size_t)(end - s);

        *at = end + (*end == '\n');
        while (len && strchr(" \t\r", s[len - 1]))
            len--;
        if (len && *s != '#') {
            *ret_len = len;
            return s;
        }
    }
    return NULL;
}

static bool is_key(const char *s, size_t len) {
    static const char *const kinds[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-"};

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (len > strlen(kinds[i]) && !strncmp(s, kinds[i], strlen(kinds[i])))
            return memchr(s, ' ', len);
    return false;
}

static json_t *keys_of(const json_t *spec) {
    const char *at = text(spec, "ssh_key"), *line;
    json_t *keys = json_array();
    size_t len;

    while ((line = next_line(&at, &len)))
        json_array_append_new(keys, json_stringn(line, len));
    return keys;
}

static int check_keys(const char *at, struct error *err) {
    unsigned count = 0;
    const char *line;
    size_t len;

    if (!*at)
        return 0;
    for (; (line = next_line(&at, &len)); count++)
        if (strstr(line, "PRIVATE KEY"))
            return error_set(err, -EINVAL,
                             "'ssh_key' holds a private key, which should stay where it is: give "
                             "the public one, whose file ends in .pub");
        else if (!is_key(line, len))
            return error_set(
                err, -EINVAL,
                "'%.*s' is no public key of OpenSSH: its lines begin with ssh-ed25519, "
                "ssh-rsa or the like",
                (int)(len < 40 ? len : 40), line);
    return count ? 0 : error_set(err, -EINVAL, "'ssh_key' holds no key");
}

/* ------------------------------------------------------------------ user data */

static bool has_own(const json_t *spec) {
    return *text(spec, "ssh_key") || *text(spec, "user") || *text(spec, "hostname");
}

/* Of a message in MIME's form no part of ours can be made. */
static bool is_message(const char *s) {
    return !strncasecmp(s, "Content-Type:", 13) || !strncasecmp(s, "MIME-Version:", 13) ||
           !strncasecmp(s, "From ", 5);
}

int cloud_check(const json_t *spec, const char **ret_field, struct error *err) {
    *ret_field = "spec.ssh_key";
    if (check_keys(text(spec, "ssh_key"), err) < 0)
        return -EINVAL;
    *ret_field = "spec.user_data";
    if (has_own(spec) && is_message(text(spec, "user_data")))
        return error_set(err, -EINVAL,
                         "user data that is a MIME message cannot be joined with user, key or host "
                         "name: say these in the message, or leave it out");
    return 0;
}

static json_t *user_of(const char *name, json_t *keys) {
    json_t *user = json_pack("{s:s, s:s, s:s, s:b}", "name", name, "shell", "/bin/bash", "sudo",
                             "ALL=(ALL) NOPASSWD:ALL", "lock_passwd", 1);

    if (!strcmp(name, "root")) {
        json_decref(user);
        user = json_pack("{s:s}", "name", name);
    }
    if (json_array_size(keys))
        json_object_set(user, "ssh_authorized_keys", keys);
    return user;
}

/* Without a name the keys go to the user that the image has for that. */
static json_t *config_of(const json_t *spec) {
    const char *name = text(spec, "user"), *host = text(spec, "hostname");
    json_t *config = json_object(), *keys = keys_of(spec);

    if (*name)
        json_object_set_new(config, "users", json_pack("[o]", user_of(name, keys)));
    else if (json_array_size(keys))
        json_object_set(config, "ssh_authorized_keys", keys);
    if (!strcmp(name, "root")) /* cloud-init puts a refusal before its keys otherwise */
        json_object_set_new(config, "disable_root", json_false());
    if (*host) {
        json_object_set_new(config, "hostname", json_string(host));
        json_object_set_new(config, "preserve_hostname", json_false());
        json_object_set_new(config, "manage_etc_hosts", json_true());
    }
    json_decref(keys);
    return config;
}

static void put_json(struct buf *out, json_t *v, size_t indent) {
    char *s = json_dumps(v, JSON_INDENT(indent) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);

    if (!s)
        abort();
    buf_put(out, s, strlen(s));
    buf_put(out, "\n", 1);
    free(s);
    json_decref(v);
}

/* A line that does not occur in the text. */
static void choose_boundary(const char *s, char *out, size_t size) {
    for (unsigned i = 1;; i++) {
        snprintf(out, size, "====viv-part-%u====", i);
        if (!strstr(s, out))
            return;
    }
}

static void put_both(struct buf *out, const json_t *spec, const char *theirs) {
    char line[64];

    choose_boundary(theirs, line, sizeof(line));
    buf_printf(out, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n", line);
    buf_printf(out, "--%s\nContent-Type: text/cloud-config; charset=\"utf-8\"\n\n#cloud-config\n",
               line);
    put_json(out, config_of(spec), 1);
    /* text/plain: cloud-init looks at the first line for what it is. */
    buf_printf(out,
               "\n--%s\nContent-Type: text/plain; charset=\"utf-8\"\n"
               "Content-Transfer-Encoding: 8bit\n\n",
               line);
    buf_put(out, theirs, strlen(theirs));
    buf_printf(out, "\n--%s--\n", line);
}

static void put_user_data(struct buf *out, const json_t *spec) {
    const char *theirs = text(spec, "user_data");

    if (*theirs && has_own(spec)) {
        put_both(out, spec, theirs);
    } else if (*theirs) {
        buf_put(out, theirs, strlen(theirs));
    } else {
        buf_printf(out, "#cloud-config\n");
        put_json(out, config_of(spec), 1);
    }
}

/* ------------------------------------------------------------------ all texts */

void cloud_make(const json_t *spec, const char *id, const char *name, struct cloud_texts *ret) {
    const char *host = text(spec, "hostname");

    *ret = (struct cloud_texts){0};
    put_user_data(&ret->user_data, spec);
    put_json(&ret->meta_data,
             json_pack("{s:s, s:s}", "instance-id", id, "local-hostname", *host ? host : name), 1);
    /* Without one cloud-init asks by DHCP, with the names that its distribution gives interfaces.
     */
    buf_put(&ret->network_config, text(spec, "network_config"),
            strlen(text(spec, "network_config")));
}

void cloud_done(struct cloud_texts *t) {
    buf_done(&t->user_data);
    buf_done(&t->meta_data);
    buf_done(&t->network_config);
}

int cloud_write(int folder, const char *file, const json_t *spec, const char *id, const char *name,
                struct error *err) {
    struct cloud_texts t;
    int r;

    cloud_make(spec, id, name, &t);
    r = seed_write(
        folder, file,
        (const struct seed_file[]){{"user-data", t.user_data.data, t.user_data.len},
                                   {"meta-data", t.meta_data.data, t.meta_data.len},
                                   {"network-config", t.network_config.data, t.network_config.len}},
        t.network_config.len ? 3 : 2, err);
    cloud_done(&t);
    return r;
}
