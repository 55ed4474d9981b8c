/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of OCI images. Tags may be what OCI's annotation org.opencontainers.image.ref.name may be.
 */
#include "proto/oci_ref.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const prefixes[] = {"oci:", "oci-archive:", "docker-archive:"};

static const char *behind_prefix(const char *word) {
    for (unsigned i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (!strncmp(word, prefixes[i], strlen(prefixes[i])))
            return word + strlen(prefixes[i]);
    return NULL;
}

bool oci_ref_is(const char *word) { return behind_prefix(word) != NULL; }

bool oci_is_digest(const char *s) {
    return !strncmp(s, "sha256:", 7) && strlen(s) == 71 && strspn(s + 7, "0123456789abcdef") == 64;
}

static bool is_tag(const char *s) {
    static const char most[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:@/+";

    return *s && strlen(s) < OCI_TAG && strspn(s, most) == strlen(s);
}

static bool is_there(const char *path, size_t n) {
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%.*s", (int)n, path);
    return access(copy, F_OK) == 0;
}

/* The first colon or @ before which there is a file; NULL: none. */
static const char *find_end(const char *s) {
    for (const char *p = s; *p; p++)
        if ((*p == ':' || *p == '@') && p > s && is_there(s, (size_t)(p - s)))
            return p;
    return NULL;
}

int oci_ref_parse(const char *word, struct oci_ref *ret, struct error *err) {
    const char *s = behind_prefix(word), *end;

    *ret = (struct oci_ref){0};
    s = s ? s : word;
    if (!*s || strlen(s) >= PATH_MAX)
        return error_set(
            err, -EINVAL,
            "'%.60s' names no file: write oci:FILE or oci:FOLDER, with :TAG or @DIGEST "
            "behind it if it holds several images",
            word);
    end = is_there(s, strlen(s)) ? NULL : find_end(s);
    snprintf(ret->path, sizeof(ret->path), "%.*s", (int)(end ? end - s : (long)strlen(s)), s);
    if (!end)
        return 0;
    if (*end == '@' && !oci_is_digest(end + 1))
        return error_set(err, -EINVAL,
                         "'%.80s' is no digest: that would be sha256: and 64 hexadecimal digits",
                         end + 1);
    if (!is_tag(end + 1))
        return error_set(err, -EINVAL, "'%.80s' is no tag of an image", end + 1);
    /* "file:tag@sha256:..." means that digest. */
    if (strchr(end + 1, '@') && oci_is_digest(strchr(end + 1, '@') + 1))
        end = strchr(end + 1, '@');
    snprintf(ret->tag, sizeof(ret->tag), "%s", end + 1);
    return 0;
}
