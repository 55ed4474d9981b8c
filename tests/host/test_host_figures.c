/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of the host: they are there, they fit together, and a folder that is gone costs only its
 * own. */
#include "host/host_figures.h"

#include <unistd.h>

#include "support/test.h"

static void figures_fit_together(void **state) {
    struct host_figures f;

    host_figures_read("/", &f);
    assert_true(f.cpus >= 1 && f.cpus <= sysconf(_SC_NPROCESSORS_CONF));
    assert_true(f.memory > 16 << 20);
    assert_true(f.memory_available > 0 && f.memory_available <= f.memory);
    assert_true(f.disk > 0 && f.disk_free >= 0 && f.disk_free <= f.disk);
}

static void time_goes_on(void **state) {
    struct host_figures before, after;

    host_figures_read("/", &before);
    do
        host_figures_read("/", &after);
    while (after.cpu_busy_ms <= before.cpu_busy_ms); /* this loop is work, so that it ends */
    assert_true(after.cpu_idle_ms >= before.cpu_idle_ms);
}

static void a_folder_that_is_gone_has_no_figures(void **state) {
    struct host_figures f;

    host_figures_read("/nonexistent/folder", &f);
    assert_int_equal(f.disk, -1);
    assert_int_equal(f.disk_free, -1);
    assert_true(f.memory > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_fit_together),
        cmocka_unit_test(time_goes_on),
        cmocka_unit_test(a_folder_that_is_gone_has_no_figures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
