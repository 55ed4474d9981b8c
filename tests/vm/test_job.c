/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs: their life, what is told of it, and what may be asked of them. */
#include "vm/job.h"

#include <errno.h>
#include <string.h>

#include "support/test.h"

static unsigned told, cancels, completes;
static char last_state[16];
static json_int_t last_id;

static void changed(void *opaque, json_t *view) {
    told++;
    strncpy(last_state, json_string_value(json_object_get(view, "state")), 15);
    last_id = json_integer_value(json_object_get(view, "id"));
    json_decref(view);
}

static void cancel(void *opaque) { cancels++; }
static void complete(void *opaque) { completes++; }

static const struct job_ops copy = {.kind = "copy", .cancel = cancel, .complete = complete};
static const struct job_ops stubborn = {.kind = "snapshot"};
static struct jobs *jobs;
static struct error err;

static int set_up(void **state) {
    jobs = jobs_new(changed, NULL);
    told = cancels = completes = 0;
    err.code = 0;
    return 0;
}

static int tear_down(void **state) {
    jobs_free(jobs);
    return 0;
}

static json_t *only_job(void) {
    json_t *list = jobs_list(jobs), *one = json_incref(json_array_get(list, 0));

    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
    return one;
}

static void a_job_is_told_of_from_its_beginning_to_its_end(void **state) {
    struct job *j = job_start(jobs, &copy, NULL, &err);
    json_t *view;

    assert_int_equal(told, 1);
    assert_string_equal(last_state, "running");
    assert_int_equal(last_id, job_id(j));
    assert_int_equal(jobs_running(jobs), 1);
    job_progress(j, 30, 100);
    view = only_job();
    assert_int_equal(json_integer_value(json_object_get(view, "done")), 30);
    assert_int_equal(json_integer_value(json_object_get(view, "total")), 100);
    json_decref(view);
    job_done(j, json_pack("{s:s}", "directory", "/x"));
    assert_string_equal(last_state, "done");
    assert_int_equal(jobs_running(jobs), 0);
    view = only_job();
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(view, "result"), "directory")), "/x");
    json_decref(view);
}

static void progress_does_not_flood(void **state) {
    struct job *j = job_start(jobs, &copy, NULL, &err);

    for (unsigned i = 0; i < 10000; i++)
        job_progress(j, i, 10000);
    assert_true(told < 20);
    job_done(j, NULL);
}

static void one_that_failed_says_why_and_one_cancelled_does_not(void **state) {
    struct error e = {.code = -ENOSPC, .text = "no room"};
    struct job *j = job_start(jobs, &copy, NULL, &err);
    json_t *view;

    job_failed(j, &e);
    assert_string_equal(last_state, "failed");
    view = only_job();
    assert_string_equal(json_string_value(json_object_get(view, "error")), "no room");
    json_decref(view);
    j = job_start(jobs, &copy, NULL, &err);
    assert_int_equal(jobs_cancel(jobs, job_id(j), &err), 0);
    assert_int_equal(cancels, 1);
    e.code = -ECANCELED;
    job_failed(j, &e);
    assert_string_equal(last_state, "cancelled");
}

static void what_cannot_be_asked_of_a_job_is_refused(void **state) {
    struct job *j = job_start(jobs, &stubborn, NULL, &err);
    unsigned id = job_id(j);

    assert_int_equal(jobs_cancel(jobs, id, &err), -EBUSY);
    err.code = 0;
    assert_int_equal(jobs_complete(jobs, id, &err), -EBUSY);
    err.code = 0;
    assert_int_equal(jobs_cancel(jobs, id + 1, &err), -ENOENT);
    err.code = 0;
    job_done(j, NULL);
    assert_int_equal(jobs_cancel(jobs, id, &err), -EALREADY);
    assert_int_equal(cancels + completes, 0);
}

static void a_job_completes_when_it_is_ready(void **state) {
    struct job *j = job_start(jobs, &copy, NULL, &err);

    assert_int_equal(jobs_complete(jobs, job_id(j), &err), -EBUSY);
    err.code = 0;
    job_ready(j);
    job_ready(j);
    assert_int_equal(told, 2);
    assert_string_equal(last_state, "ready");
    assert_int_equal(jobs_complete(jobs, job_id(j), &err), 0);
    assert_int_equal(completes, 1);
    job_done(j, NULL);
}

static void only_so_many_run_and_only_so_many_are_remembered(void **state) {
    struct job *j[17];
    json_t *list;

    for (unsigned i = 0; i < 16; i++)
        j[i] = job_start(jobs, &copy, NULL, &err);
    assert_null(job_start(jobs, &copy, NULL, &err));
    assert_int_equal(err.code, -EBUSY);
    for (unsigned i = 0; i < 16; i++)
        job_done(j[i], NULL);
    for (unsigned i = 0; i < 20; i++)
        job_done(job_start(jobs, &copy, NULL, &err), NULL);
    list = jobs_list(jobs);
    assert_int_equal(json_array_size(list), 16);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 15), "id")), 36);
    json_decref(list);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_job_is_told_of_from_its_beginning_to_its_end),
        T(progress_does_not_flood),
        T(one_that_failed_says_why_and_one_cancelled_does_not),
        T(what_cannot_be_asked_of_a_job_is_refused),
        T(a_job_completes_when_it_is_ready),
        T(only_so_many_run_and_only_so_many_are_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
