/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "viv run oci:FILE": the image of the library that belongs to what the file holds. Its name comes
 * from the digest, so that the same image is unpacked once, whatever its file is called.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cli/cli.h"
#include "proto/oci_ref.h"
#include "proto/place.h"

enum { MOST_OUTPUT = 8 << 20, DIGITS = 24 };

/* ------------------------------------------------------------------ what it is */

/* The output of viv-oci; false if it failed, and then it is what it complains of. */
static bool run_inspect(const char *word, struct buf *out) {
    char program[PATH_MAX], agent[PATH_MAX], data[4096];
    char *argv[] = {program, "inspect", (char *)(uintptr_t)word, "--agent", agent, NULL};
    int ends[2], status = -1;
    ssize_t n;
    pid_t pid;

    place_program("viv-oci", program);
    place_program("viv-agent", agent);
    if (pipe2(ends, O_CLOEXEC) < 0) {
        buf_printf(out, "%s cannot be run: %s", program, strerror(errno));
        buf_put(out, "", 1);
        return false;
    }
    pid = fork();
    if (pid == 0) {
        if (dup2(ends[1], 1) == 1 && dup2(ends[1], 2) == 2)
            execvp(program, argv);
        dprintf(ends[1], "%s cannot be run: %s", program, strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    while (pid > 0 && ((n = read(ends[0], data, sizeof(data))) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0 && out->len < MOST_OUTPUT)
            buf_put(out, data, (size_t)n);
    close(ends[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    buf_put(out, "", 1);
    return status == 0;
}

static json_t *inspect(struct cli *c, const char *word) {
    struct buf out = {0};
    bool good = run_inspect(word, &out);
    json_t *v = good ? json_loads((char *)out.data, 0, NULL) : NULL;
    const char *text = (char *)out.data;

    assert(text);
    if (!strncmp(text, "viv-oci: ", 9))
        text += 9;
    if (!v)
        remote_fail(&c->failure, FAILURE_INVALID, "", "%.*s", (int)strcspn(text, "\n"),
                    good ? "viv-oci says nothing that can be understood" : text);
    buf_done(&out);
    return v;
}

/* "alpine" of "/tmp/Alpine.tar.gz". */
static void name_of(const char *path, char base[80]) {
    const char *slash = strrchr(path, '/');
    size_t n = 0;

    for (const char *p = slash && slash[1] ? slash + 1 : path; *p && n < 50; p++) {
        if (!strcmp(p, ".tar") || !strncmp(p, ".tar.", 5) || !strcmp(p, ".tgz"))
            break;
        if (isalnum((unsigned char)*p))
            base[n++] = (char)tolower((unsigned char)*p);
        else if (n && base[n - 1] != '-')
            base[n++] = '-';
    }
    while (n && base[n - 1] == '-')
        n--;
    base[n] = 0;
    if (!n)
        memcpy(base, "oci", sizeof("oci"));
}

/* ------------------------------------------------------------------ its image */

static int import(struct cli *c, const struct oci_ref *ref, const char *image) {
    json_t *spec = json_pack("{s:o, s:s}", "file", cli_path(ref->path), "format", "oci"),
           *made = NULL;
    int r = cli_ensure_image(c, "tiny");

    c->failure = r < 0 ? c->failure : (struct remote_failure){0};
    if (*ref->tag)
        json_object_set_new(spec, "reference", json_string(ref->tag));
    if (r < 0) {
        json_decref(spec);
        return r;
    }
    r = remote_call(c->remote, "POST", json_pack("{s:s, s:o}", "name", image, "spec", spec), &made,
                    &c->failure, "/v1/images");
    if (r == 0)
        r = cli_wait_job(c, item_text(made, "status", "job"), image);
    json_decref(made);
    return r;
}

int cli_ensure_oci(struct cli *c, const char *word, char image[80], char base[80]) {
    json_t *what, *there = NULL;
    struct oci_ref ref;
    struct error err = {0};
    const char *state;
    int r;

    if (oci_ref_parse(word, &ref, &err) < 0)
        return remote_fail(&c->failure, FAILURE_INVALID, "", "%s", err.text);
    what = inspect(c, word);
    if (!what)
        return -1;
    name_of(ref.path, base);
    snprintf(image, 80, "oci-%.*s", DIGITS, item_text(what, NULL, "identity"));
    json_decref(what);
    r = remote_call(c->remote, "GET", NULL, &there, &c->failure, "/v1/images/%s", image);
    state = item_text(there, "status", "state");
    if (r == 0 && !strcmp(state, "building"))
        r = cli_wait_job(c, item_text(there, "status", "job"), image);
    else if (r == 0 ? !strcmp(state, "failed") : c->failure.kind == FAILURE_NOT_FOUND)
        r = import(c, &ref, image);
    json_decref(there);
    if (r < 0 && c->failure.kind == FAILURE_EXISTS) { /* another viv was quicker */
        c->failure = (struct remote_failure){0};
        return cli_ensure_image(c, image);
    }
    return r;
}

int cli_find_image(struct cli *c, const char *word, char image[80], char base[80]) {
    if (oci_ref_is(word))
        return cli_ensure_oci(c, word, image, base);
    snprintf(image, 80, "%s", word);
    if (strchr(image, ':')) /* debian:13 is called debian-13 */
        *strchr(image, ':') = '-';
    snprintf(base, 80, "%s", image);
    return cli_ensure_image(c, image);
}
