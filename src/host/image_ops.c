/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations of images: image.c does what they write down. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "host/api.h"
#include "host/image.h"
#include "host/image_known.h"
#include "host/job.h"

/* One that failed is in nobody's way. */
static int replace_failed(struct api_call *call, const char *name) {
    struct store_row old = {0};
    struct error e = {0};
    int r = store_find(call->m->store, "image", call->tenant, name, &old);

    if (r == 0 && !strcmp(row_text(old.status, "state"), "failed"))
        store_delete(call->m->store, "image", old.id, &e);
    if (r == 0)
        store_row_done(&old);
    return e.code ? api_fail_error(call, &e) : 0;
}

static int check_import(struct api_call *call, const json_t *spec) {
    if (*row_text(spec, "source") || json_object_get(spec, "packages"))
        return api_fail(call, FAILURE_INVALID, "spec.file", "leave one of them out",
                        "an image is imported from a file, or made from a source or packages");
    if (*row_text(spec, "initrd") && !*row_text(spec, "kernel"))
        return api_fail(call, FAILURE_INVALID, "spec.initrd", "give its kernel as well",
                        "an initramfs is of no use without a kernel");
    return 0;
}

static int create(struct api_call *call) {
    const char *name = row_text(call->body, "name");
    const json_t *spec = json_object_get(call->body, "spec");
    struct store_row job = {0};
    struct error e = {0};

    if (*row_text(spec, "file")) {
        if (check_import(call, spec) < 0)
            return -EINVAL;
    } else if (!image_known_find(name)) {
        return api_fail(call, FAILURE_INVALID, "name", image_known_names(),
                        "it is not known how to make an image '%s'; the known ones are: %s", name,
                        image_known_names());
    }
    if (json_array_size(json_object_get(spec, "packages")) && *row_text(spec, "source"))
        return api_fail(
            call, FAILURE_INVALID, "spec.packages", "leave one of them out",
            "packages are put into an image that is built, not into one that is copied");
    if (replace_failed(call, name) < 0)
        return -EINVAL;
    call->row = (struct store_row){.kind = "image",
                                   .spec = json_deep_copy(json_object_get(call->body, "spec")),
                                   .status = json_object(),
                                   .wanted = json_object()};
    if (!call->row.spec)
        call->row.spec = json_object();
    snprintf(call->row.name, sizeof(call->row.name), "%s", name);
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    if (job_new(call->m, call->tenant, *row_text(spec, "file") ? "image-import" : "image-build",
                name, &job, &e) < 0)
        return api_fail_error(call, &e);
    row_set_text(call->row.status, "job", job.id);
    store_row_done(&job);
    row_set_state(&call->row, "building", NULL);
    if (store_insert(call->m->store, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, "building", &e, "it is to be made (asked by %s)",
                      call->caller) < 0)
        return api_fail_error(call, &e);
    return 0;
}

static int delete_it(struct api_call *call) {
    json_t *id = json_string(call->row.id);
    struct store_query q = {
        .kind = "vm", .limit = 1, .filter = {{"status", "image_id", id}}, .filters = 1};
    int64_t users = store_count(call->m->store, &q);
    struct error e = {0};

    json_decref(id);
    if (users != 0)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "delete them first",
                        "%lld machines lie on the image '%s'", (long long)users, call->row.name);
    if (!strcmp(row_text(call->row.status, "state"), "building"))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "cancel its job first",
                        "the image '%s' is being made", call->row.name);
    if (json_object_get(call->row.wanted, "export"))
        return api_fail(call, FAILURE_CONFLICT, "status.job", "cancel its job first",
                        "the image '%s' is being exported", call->row.name);
    row_set_state(&call->row, "deleting", NULL);
    return store_update(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static int check_export(struct api_call *call, const char *file) {
    struct stat st;

    if (strcmp(row_text(call->row.status, "state"), "ready") != 0)
        return api_fail(call, FAILURE_CONFLICT, "status.state", "wait for its job",
                        "the image '%s' is %s, not ready", call->row.name,
                        row_text(call->row.status, "state"));
    if (!row_number(call->row.status, "size"))
        return api_fail(call, FAILURE_CONFLICT, "status.size", "", "the image '%s' has no disk",
                        call->row.name);
    if (json_object_get(call->row.wanted, "export"))
        return api_fail(call, FAILURE_CONFLICT, "status.job", "wait for its job",
                        "the image '%s' is being exported already", call->row.name);
    if (lstat(file, &st) == 0)
        return api_fail(call, FAILURE_EXISTS, "file", "remove it, or take another name",
                        "there is a file '%s' already", file);
    return 0;
}

static int export_it(struct api_call *call) {
    const char *file = row_text(call->args, "file"), *format = row_text(call->args, "format");
    struct store_row job = {0};
    struct error e = {0};

    if (check_export(call, file) < 0)
        return -EINVAL;
    if (job_new(call->m, call->tenant, "image-export", call->row.name, &job, &e) < 0)
        return api_fail_error(call, &e);
    row_set_text(call->row.status, "job", job.id);
    store_row_done(&job);
    json_object_set_new(call->row.wanted, "export",
                        json_pack("{s:s, s:s}", "file", file, "format", format));
    return store_update(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

const struct api_handler image_handlers[] = {
    {"create", create}, {"delete", delete_it}, {"export", export_it}, {NULL, NULL}};
