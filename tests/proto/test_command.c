/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of commands: arguments as JSON and as words, and what is said of them. */
#include "proto/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/control.h"
#include "proto/network.h"
#include "support/test.h"

static const struct command table[] = {
    {.name = "paint",
     .needs = COMMAND_OPERATE,
     .help = "Paint a thing",
     .answer = "nothing",
     .example = "paint wall --color red",
     .args = {{"thing", COMMAND_STRING, true, 1, 8, NULL, "what to paint"},
              {"file", COMMAND_PATH, true, 1, 100, NULL, "where"},
              {"coats", COMMAND_INT, false, 1, 3, NULL, "how often"},
              {"color", COMMAND_CHOICE, false, 0, 0, "red|light-blue", "which one"},
              {"on", COMMAND_CHOICES, false, 0, 0, "inside|outside", "which sides"},
              {"wet", COMMAND_BOOL, false, 0, 0, NULL, "on the wet paint"}}},
    {.name = "rest", .help = "Do nothing", .answer = "nothing", .example = "rest"},
    {.name = NULL},
};
static const struct event events[] = {{"dry", "it has dried", "a|b"}, {NULL, NULL, NULL}};

/* Words separated by '|'. */
static json_t *words(const char *line, struct error *err) {
    static char copy[400];
    char *argv[20], *rest = copy, *w;
    int argc = 0;

    memset(err, 0, sizeof(*err));
    snprintf(copy, sizeof(copy), "%s", line);
    while (*line && (w = strsep(&rest, "|")))
        argv[argc++] = w;
    return command_parse(&table[0], argc, argv, err);
}

static void become(const char *line, const char *json) {
    struct error err;
    json_t *got = words(line, &err), *want = json_loads(json, 0, NULL);

    assert_non_null(want);
    if (!got)
        fail_msg("%s: %s", line, err.text);
    if (!json_equal(got, want))
        fail_msg("%s became %s", line, json_dumps(got, 0));
    json_decref(got);
    json_decref(want);
}

static void words_become_arguments_of_the_declared_types(void **state) {
    become("wall|/x", "{\"thing\": \"wall\", \"file\": \"/x\"}");
    become("--coats|3|wall|--wet|/x",
           "{\"thing\": \"wall\", \"file\": \"/x\", \"coats\": 3, \"wet\": true}");
    become("--thing=wall|--file|/x|--wet=false|--color=light-blue",
           "{\"thing\": \"wall\", \"file\": \"/x\", \"wet\": false, \"color\": \"light-blue\"}");
    become(
        "--on|inside,outside|wall|/x|--coats=0x2",
        "{\"on\": [\"inside\", \"outside\"], \"thing\": \"wall\", \"file\": \"/x\", \"coats\": 2}");
    become("--|--wall|/x", "{\"thing\": \"--wall\", \"file\": \"/x\"}");
}

static void what_follows_two_dashes_is_taken_as_it_is(void **state) {
    static const struct command tell = {
        .name = "tell",
        .help = "Tell somebody",
        .args = {{"who", COMMAND_STRING, true, 1, 8, NULL, "the painter"},
                 {"words", COMMAND_WORDS, false, 0, 3, NULL, "what is said"}}};
    static const struct {
        const char *json, *text;
    } wrong[] = {
        {"{\"who\": \"a\", \"words\": \"b\"}", "array of 0 to 3 strings"},
        {"{\"who\": \"a\", \"words\": [\"\", \"\", \"\", \"\"]}", "array of 0 to 3 strings"},
        {"{\"who\": \"a\", \"words\": [1]}", "strings without zero bytes"},
        {"{\"who\": \"a\", \"words\": [\"a\\u0000b\"]}", "strings without zero bytes"},
    };
    char *argv[] = {"a", "--", "--who", "--", "b c"}, usage[100];
    struct error err = {0};
    json_t *got = command_parse(&tell, 5, argv, &err),
           *want = json_loads("{\"who\": \"a\", \"words\": [\"--who\", \"--\", \"b c\"]}", 0, NULL);

    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
    got = command_parse(&tell, 2, argv, &err);
    assert_int_equal(json_array_size(json_object_get(got, "words")), 0);
    json_decref(got);
    assert_null(command_parse(&tell, 4, argv + 1, &err));
    assert_non_null(strstr(err.text, "needs the argument 'who'"));
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        got = json_loads(wrong[i].json, JSON_ALLOW_NUL, NULL);
        memset(&err, 0, sizeof(err));
        assert_true(command_check(&tell, got, &err) < 0);
        assert_non_null(strstr(err.text, wrong[i].text));
        json_decref(got);
    }
    command_usage(&tell, usage, sizeof(usage));
    assert_string_equal(usage, "tell WHO [-- words...]");
}

static json_t *shelf(const char *places, struct error *err) {
    static const struct command c = {
        .name = "shelf", .args = {{"places", COMMAND_INTS, true, 2, 5, NULL, "where it stands"}}};
    char copy[40], *argv[] = {copy};

    memset(err, 0, sizeof(*err));
    snprintf(copy, sizeof(copy), "%s", places);
    return command_parse(&c, 1, argv, err);
}

static void numbers_that_are_separated_by_commas_become_an_array(void **state) {
    static const char *const bad[][2] = {{"", "from 2 to 5"},    {"3,", "from 2 to 5"},
                                         {"3,x", "from 2 to 5"}, {"2,6", "from 2 to 5"},
                                         {"1", "from 2 to 5"},   {"3 4", "from 2 to 5"}};
    struct error err;
    json_t *got = shelf("2,5,0x3", &err), *want = json_pack("{s:[i,i,i]}", "places", 2, 5, 3);

    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(shelf(bad[i][0], &err));
        assert_non_null(strstr(err.text, bad[i][1]));
    }
    assert_null(shelf("2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,", &err));
}

static void a_path_is_made_absolute_where_it_is_typed(void **state) {
    char cwd[400], json[900];

    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(chdir("/"), 0);
    become("wall|x/y", "{\"thing\": \"wall\", \"file\": \"/x/y\"}");
    assert_int_equal(chdir("/tmp"), 0);
    snprintf(json, sizeof(json), "{\"thing\": \"wall\", \"file\": \"/tmp/x\"}");
    become("wall|x", json);
    assert_int_equal(chdir(cwd), 0);
}

static void refuse(const char *line, const char *text) {
    struct error err;

    assert_null(words(line, &err));
    if (!strstr(err.text, text))
        fail_msg("%s: '%s' says nothing of '%s'", line, err.text, text);
}

static void words_that_mean_nothing_are_refused_with_a_sentence(void **state) {
    refuse("", "needs the argument 'thing': what to paint");
    refuse("wall", "needs the argument 'file'");
    refuse("wall|/x|more", "'more' is one too many");
    refuse("wall|/x|--shine", "no argument '--shine'");
    refuse("wall|/x|--coats", "--coats needs a value");
    refuse("wall|/x|--coats|4", "from 1 to 3");
    refuse("wall|/x|--coats|two", "from 1 to 3");
    refuse("wall|/x|--coats|99999999999999999999", "from 1 to 3");
    refuse("wall|/x|--color|light", "one of red|light-blue");
    refuse("wall|/x|--color|", "one of red|light-blue");
    refuse("wall|/x|--color|red|--color|red", "given twice");
    refuse("wall|/x|--on|inside,", "one of inside|outside");
    refuse("wall|/x|--wet=maybe", "true or false");
    refuse("a wall too long|/x", "1 to 8 bytes, it has 15");
    refuse("wall|", "1 to 100 bytes, it has 0");
    refuse("\xff|/x", "not valid UTF-8");
}

static void wrong(const char *json, const char *text) {
    json_t *args = json_loads(json, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    struct error err = {0};

    assert_non_null(args);
    assert_true(command_check(&table[0], args, &err) < 0);
    if (!strstr(err.text, text))
        fail_msg("%s: '%s' says nothing of '%s'", json, err.text, text);
    json_decref(args);
}

static void messages_with_wrong_arguments_are_refused(void **state) {
    wrong("[]", "must be an object");
    wrong("{\"thing\": 1}", "must be a string");
    wrong("{\"thing\": \"a\\u0000b\"}", "zero byte");
    wrong("{\"thing\": \"a\", \"file\": \"x\"}", "absolute path");
    wrong("{\"thing\": \"a\", \"file\": \"/x\", \"coats\": 1.0}", "whole number");
    wrong("{\"thing\": \"a\", \"file\": \"/x\", \"coats\": true}", "whole number");
    wrong("{\"thing\": \"a\", \"file\": \"/x\", \"wet\": 1}", "true or false");
    wrong("{\"thing\": \"a\", \"file\": \"/x\", \"on\": \"inside\"}", "an array");
    wrong("{\"thing\": \"a\", \"file\": \"/x\", \"on\": [1]}", "one of");
    wrong("{\"thing\": \"a\", \"file\": \"/x\", \"color\": \"red|light-blue\"}", "one of");
    wrong("{\"thing\": null, \"file\": \"/x\"}", "must be a string");
}

static char *printed(void (*print)(FILE *f)) {
    static char text[20000];
    FILE *f = fmemopen(text, sizeof(text), "w");

    assert_non_null(f);
    print(f);
    fclose(f);
    return text;
}

static void print_help(FILE *f) { command_help(&table[0], "viv-x", f); }
static void print_markdown(FILE *f) { command_list_markdown(table, events, f); }
static void print_man(FILE *f) { command_list_man(table, "viv-x", f); }

static void what_people_read_comes_from_the_table(void **state) {
    char usage[256];

    command_usage(&table[0], usage, sizeof(usage));
    assert_string_equal(usage, "paint THING FILE [--coats COATS] [--color red|light-blue] "
                               "[--on inside|outside, ...] [--wet]");
    assert_non_null(strstr(printed(print_help), "  coats       how often (1..3).\n"));
    assert_non_null(strstr(printed(print_markdown), "red\\|light-blue"));
    assert_non_null(strstr(printed(print_markdown), "| `dry` | it has dried | a\\|b |"));
    assert_non_null(strstr(printed(print_man), "viv\\-x machine.sock paint wall \\-\\-color red"));
    command_usage(&table[0], usage, 10); /* what does not fit is left out */
    assert_int_equal(strlen(usage), 9);
}

/* What the derived texts rely on. */
static void check_table(const struct command *all) {
    for (const struct command *c = all; c->name; c++) {
        assert_true(command_find(all, c->name) == c); /* once */
        assert_true(c->help[strlen(c->help) - 1] != '.');
        assert_int_equal(strncmp(c->example, c->name, strlen(c->name)), 0);
        for (const struct command_arg *a = c->args; a->type != COMMAND_END; a++) {
            bool choice = a->type == COMMAND_CHOICE || a->type == COMMAND_CHOICES;

            assert_int_equal(choice, a->choices != NULL);
            assert_true(choice || a->type == COMMAND_BOOL || a->max >= a->min);
            assert_true(choice || a->type == COMMAND_BOOL || a->max > 0);
            assert_true(a->help[strlen(a->help) - 1] != '.');
        }
    }
}

static void the_tables_of_the_control_sockets_are_in_order(void **state) {
    check_table(control_commands);
    check_table(network_commands);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_become_arguments_of_the_declared_types),
        cmocka_unit_test(what_follows_two_dashes_is_taken_as_it_is),
        cmocka_unit_test(numbers_that_are_separated_by_commas_become_an_array),
        cmocka_unit_test(a_path_is_made_absolute_where_it_is_typed),
        cmocka_unit_test(words_that_mean_nothing_are_refused_with_a_sentence),
        cmocka_unit_test(messages_with_wrong_arguments_are_refused),
        cmocka_unit_test(what_people_read_comes_from_the_table),
        cmocka_unit_test(the_tables_of_the_control_sockets_are_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
