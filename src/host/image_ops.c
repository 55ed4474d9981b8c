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
#include "host/vm_clone.h"
#include "host/vm_hardware.h"

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
    if (*row_text(spec, "source") || json_object_get(spec, "packages") || *row_text(spec, "base") ||
        *row_text(spec, "mirror"))
        return api_fail(call, FAILURE_INVALID, "spec.file", "leave one of them out",
                        "an image is imported from a file, or made from a source or packages");
    if (*row_text(spec, "initrd") && !*row_text(spec, "kernel"))
        return api_fail(call, FAILURE_INVALID, "spec.initrd", "give its kernel as well",
                        "an initramfs is of no use without a kernel");
    return 0;
}

/* What a template takes from the machine, as it is now. */
static int fill_template(struct api_call *call, const struct store_row *vm) {
    const char *image = row_text(vm->status, "image_id"), *own = row_text(vm->spec, "append"), *by;
    struct image_files files;
    struct error e = {0};
    struct store_row of = {0};
    char text[sizeof(files.append) + 2000];

    if (vm_files(call->m, vm, &files, &e) < 0)
        return api_fail_error(call, &e);
    if (!files.has_disk)
        return api_fail(call, FAILURE_CONFLICT, "spec.from", "", "'%s' has no disk", vm->name);
    by = hardware_boots_by(vm->spec, &files);
    if (*by == '/')
        return api_fail(call, FAILURE_CONFLICT, "spec.from", "give it bios or uefi",
                        "'%s' boots by a ROM image of its own, which a template does not have",
                        vm->name);
    if (!*files.kernel && row_flag(call->row.spec, "generalize"))
        return api_fail(call, FAILURE_CONFLICT, "spec.generalize",
                        "generalise it in the guest, and capture it as it is: --generalize=false",
                        "'%s' has no kernel of its image with which its identity could be taken "
                        "away",
                        vm->name);
    row_set_text(call->row.wanted, "firmware", strcmp(by, "kernel") ? by : NULL);
    snprintf(text, sizeof(text), "%s%s%s", files.append, *own ? " " : "", own);
    row_set_text(call->row.wanted, "vm", vm->id);
    row_set_text(call->row.wanted, "image", image);
    row_set_text(call->row.wanted, "append", files.append);
    row_set_text(call->row.wanted, "initrd", *files.initrd ? "initrd" : NULL);
    row_set_text(call->row.wanted, "boot", text);
    snprintf(text, sizeof(text), "template of the machine %s", vm->name);
    row_set_text(call->row.status, "title", text);
    row_set_text(call->row.status, "kind", "template");
    /* What is made of it runs the command of the OCI image as well. */
    if (store_get(call->m->store, "image", image, &of) == 0 && *row_text(of.status, "digest"))
        row_set_text(call->row.status, "digest", row_text(of.status, "digest"));
    store_row_done(&of);
    return 0;
}

/* The row is there: its id is where the machine's disk goes. */
static int begin_template(struct api_call *call, struct store_row *vm) {
    struct error e = {0};

    if (fill_template(call, vm) < 0 || clone_begin(call, vm, "image", call->row.id, false) < 0)
        return -EINVAL;
    return store_update(call->m->store, &call->row, &e) < 0 ? api_fail_error(call, &e) : 0;
}

static int find_source(struct api_call *call, const json_t *spec, struct store_row *vm) {
    const char *from = row_text(spec, "from");

    if (*row_text(spec, "source") || *row_text(spec, "file") || *row_text(spec, "mirror") ||
        json_object_get(spec, "packages"))
        return api_fail(call, FAILURE_INVALID, "spec.from", "leave one of them out",
                        "a template is made of a machine, not of a file or packages");
    if (store_find(call->m->store, "vm", call->tenant, from, vm) < 0)
        return api_fail(call, FAILURE_NOT_FOUND, "spec.from", "look at the list of machines",
                        "there is no machine '%s'", from);
    return 0;
}

static int fail_unknown(struct api_call *call, const char *name) {
    char remedy[300];

    snprintf(remedy, sizeof(remedy), "known are %.150s; a disk image is imported: viv image import",
             image_known_names());
    return api_fail(call, FAILURE_INVALID, "name", remedy,
                    "it is not known how to make an image '%s'", name);
}

static int create_image(struct api_call *call, struct store_row *vm) {
    const char *name = row_text(call->body, "name");
    const json_t *spec = json_object_get(call->body, "spec");
    struct store_row job = {0};
    struct error e = {0};

    if (*row_text(spec, "from")) {
        if (find_source(call, spec, vm) < 0)
            return -EINVAL;
    } else if (*row_text(spec, "file")) {
        if (check_import(call, spec) < 0)
            return -EINVAL;
    } else if (!image_known_find(*row_text(spec, "base") ? row_text(spec, "base") : name)) {
        return fail_unknown(call, *row_text(spec, "base") ? row_text(spec, "base") : name);
    }
    if (json_array_size(json_object_get(spec, "packages")) && *row_text(spec, "source"))
        return api_fail(
            call, FAILURE_INVALID, "spec.packages", "leave one of them out",
            "packages are put into an image that is built, not into one that is copied");
    if (*row_text(spec, "mirror") && *row_text(spec, "source"))
        return api_fail(call, FAILURE_INVALID, "spec.mirror", "leave one of them out",
                        "a mirror is for an image that is built, not for one that is copied");
    if (!strcmp(name, VM_NO_IMAGE))
        return api_fail(call, FAILURE_INVALID, "name", "choose another name",
                        "'" VM_NO_IMAGE "' is the word for no image");
    if (replace_failed(call, name) < 0)
        return -EINVAL;
    call->row = (struct store_row){.kind = "image",
                                   .spec = json_deep_copy(json_object_get(call->body, "spec")),
                                   .status = json_object(),
                                   .wanted = json_object()};
    if (!call->row.spec)
        call->row.spec = json_object();
    if (vm->id[0])
        resource_fill(call->resource, call->row.spec);
    snprintf(call->row.name, sizeof(call->row.name), "%s", name);
    snprintf(call->row.tenant, sizeof(call->row.tenant), "%s", call->tenant);
    if (job_new(call->m, call->tenant,
                *vm->id                   ? "template-create"
                : *row_text(spec, "file") ? "image-import"
                                          : "image-build",
                name, &job, &e) < 0)
        return api_fail_error(call, &e);
    row_set_text(call->row.status, "job", job.id);
    store_row_done(&job);
    row_set_state(&call->row, "building", NULL);
    if (store_insert(call->m->store, &call->row, &e) < 0 ||
        manager_event(call->m, &call->row, "building", &e, "it is to be made (asked by %s)",
                      call->caller) < 0)
        return api_fail_error(call, &e);
    return *vm->id ? begin_template(call, vm) : 0;
}

static int create(struct api_call *call) {
    struct store_row vm = {0};
    int r = create_image(call, &vm);

    store_row_done(&vm);
    return r;
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
