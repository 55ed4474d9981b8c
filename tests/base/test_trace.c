/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of trace events and counters, with the events of the bus as examples. */
#include "base/trace.h"

#include <stdlib.h>
#include <string.h>

#include "support/test.h"

static char *output;
static size_t output_len;
static FILE *file;

static int open_output(void **state) {
    file = open_memstream(&output, &output_len);
    trace_set_output(file);
    memset(trace_on, 0, TRACE_COUNT);
    return file ? 0 : -1;
}

static int close_output(void **state) {
    trace_set_output(NULL);
    fclose(file);
    free(output);
    return 0;
}

static void an_event_that_is_off_writes_nothing(void **state) {
    trace(io_read_nobody, (uint64_t)0x80, 1u);
    fflush(file);
    assert_int_equal(output_len, 0);
}

static void a_pattern_switches_on_the_events_that_match(void **state) {
    assert_int_equal(trace_enable("io_*_nobody"), 2);
    assert_int_equal(trace_enable("there_is_no_such_event"), 0);
    assert_int_equal(trace_enable("*"), TRACE_COUNT);
}

static void a_line_has_a_time_the_name_and_the_values(void **state) {
    assert_int_equal(trace_enable("io_read_nobody"), 1);
    trace(io_read_nobody, (uint64_t)0x80, 1u);
    trace(io_write_nobody, (uint64_t)0x80, 1u, (uint64_t)7);
    fflush(file);
    assert_non_null(strchr(output, ' '));
    assert_string_equal(strchr(output, ' '), " io_read_nobody addr=0x80 size=1\n");
}

static void the_list_names_every_event(void **state) {
    unsigned lines = 0;

    trace_list(file);
    fflush(file);
    assert_non_null(strstr(output, "io_write_nobody addr="));
    for (char *p = output; (p = strchr(p, '\n')); p++)
        lines++;
    assert_int_equal(lines, TRACE_COUNT);
}

static void only_counters_that_counted_are_printed(void **state) {
    memset(stat_counts, 0, STAT_COUNT * sizeof(stat_counts[0]));
    stat_inc(clock_fired);
    stat_add(clock_fired, 41);
    stats_print(file);
    fflush(file);
    assert_non_null(strstr(output, "42  clock_fired ("));
    assert_null(strstr(output, "clock_early"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_that_is_off_writes_nothing, open_output,
                                        close_output),
        cmocka_unit_test_setup_teardown(a_pattern_switches_on_the_events_that_match, open_output,
                                        close_output),
        cmocka_unit_test_setup_teardown(a_line_has_a_time_the_name_and_the_values, open_output,
                                        close_output),
        cmocka_unit_test_setup_teardown(the_list_names_every_event, open_output, close_output),
        cmocka_unit_test_setup_teardown(only_counters_that_counted_are_printed, open_output,
                                        close_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
