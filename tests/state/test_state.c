/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of saved state: round trips, and that whatever does not fit is refused and changes nothing.
 */
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

struct channel {
    uint16_t count;
    uint8_t mode;
    bool gate;
    int64_t drift;
    unsigned loads; /* not in the table */
};

struct chip {
    void *host; /* not in the table */
    struct channel channel[3];
    bool speaker;
    uint8_t index;
    uint32_t words[4];
    uint64_t deadline;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    uint8_t fifo[16];
    uint16_t low, high;
    uint32_t added; /* version 2 */
    unsigned loads;
};

static void channel_loaded(void *obj) {
    struct channel *c = obj;

    c->loads++;
}

static const struct state_desc channel_state = {
    .name = "channel",
    .version = 3,
    .fields = (const struct state_field[]){STATE(struct channel, count),
                                           STATE_MAX(struct channel, mode, 5),
                                           STATE(struct channel, gate),
                                           STATE(struct channel, drift), STATE_END},
    .post_load = channel_loaded,
};

static int chip_validate(const void *obj, struct error *err) {
    const struct chip *c = obj;

    if (c->low > c->high)
        return error_set(err, -EINVAL, "chip: low is above high");
    return 0;
}

static void chip_loaded(void *obj) {
    struct chip *c = obj;

    c->loads++;
    for (int i = 0; i < 3; i++)
        assert_int_equal(c->channel[i].loads, c->loads); /* parts come before the whole */
}

#define CHIP_FIELDS                                                                                \
    STATE_SUB_ARRAY(struct chip, channel, &channel_state), STATE(struct chip, speaker),            \
        STATE_MAX(struct chip, index, 15), STATE_ARRAY_MAX(struct chip, words, 1000),              \
        STATE(struct chip, deadline), STATE(struct chip, i8), STATE_MAX(struct chip, i16, 300),    \
        STATE(struct chip, i32), STATE_BYTES(struct chip, fifo), STATE(struct chip, low),          \
        STATE(struct chip, high)

static const struct state_desc chip_v1 = {
    .name = "chip",
    .version = 1,
    .fields = (const struct state_field[]){CHIP_FIELDS, STATE_END},
    .validate = chip_validate,
    .post_load = chip_loaded,
    .struct_size = sizeof(struct chip),
};

static const struct state_desc chip_v2 = {
    .name = "chip",
    .version = 2,
    .fields =
        (const struct state_field[]){CHIP_FIELDS, STATE_SINCE(struct chip, added, 2), STATE_END},
    .validate = chip_validate,
    .post_load = chip_loaded,
    .struct_size = sizeof(struct chip),
};

static struct chip random_chip(uint64_t seed) {
    struct rng rng = rng_seed(seed);
    struct chip c = {0};

    state_random(&chip_v2, &c, rng_next, &rng);
    if (c.low > c.high) {
        uint16_t t = c.low;

        c.low = c.high;
        c.high = t;
    }
    return c;
}

static void what_was_saved_is_loaded_and_the_rest_is_kept(void **state) {
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct chip a = random_chip(seed), b = random_chip(seed + 1000);
        struct buf out = {0};
        struct error err = {0};

        b.host = &b;
        state_save(&chip_v2, &a, &out);
        assert_int_equal(state_validate(&chip_v2, &b, out.data, out.len, &err), 0);
        assert_false(state_equal(&chip_v2, &a, &b));
        assert_int_equal(b.loads, 0);
        assert_int_equal(state_load(&chip_v2, &b, out.data, out.len, &err), 0);
        assert_true(state_equal(&chip_v2, &a, &b));
        assert_ptr_equal(b.host, &b);
        assert_int_equal(b.loads, 1);
        assert_int_equal(err.code, 0);
        buf_done(&out);
    }
}

static void expect_refused(const struct state_desc *d, const void *bytes, size_t n,
                           const char *word) {
    struct chip c = random_chip(77), before = c;
    struct error err = {0};
    int code = state_load(d, &c, bytes, n, &err);

    assert_true(code < 0);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, word));
    assert_memory_equal(&c, &before, sizeof(c));
    assert_int_equal(state_load(d, &c, bytes, n, NULL), code);
}

static void a_stream_cut_off_anywhere_is_refused(void **state) {
    struct chip a = random_chip(1);
    struct buf out = {0};

    state_save(&chip_v2, &a, &out);
    for (size_t n = 0; n < out.len; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that a read beyond is seen */

        memcpy(exact, out.data, n);
        expect_refused(&chip_v2, exact, n, "ends early");
        free(exact);
    }
    buf_done(&out);
}

static void trailing_bytes_are_refused(void **state) {
    struct chip a = random_chip(2);
    struct buf out = {0};

    state_save(&chip_v2, &a, &out);
    buf_grow(&out, 1);
    expect_refused(&chip_v2, out.data, out.len, "1 bytes too many");
    buf_done(&out);
}

static void random_and_damaged_streams_never_get_through_half(void **state) {
    struct rng rng = rng_seed(5);
    struct chip a = random_chip(3);
    struct buf out = {0};

    state_save(&chip_v2, &a, &out);
    for (unsigned round = 0; round < 20000; round++) {
        struct chip c = random_chip(4), before = c;
        struct buf bytes = {0};

        if (round % 4 == 0) {
            for (size_t n = rng_below(&rng, 300); n; n--)
                *(uint8_t *)buf_grow(&bytes, 1) = (uint8_t)rng_next(&rng);
        } else {
            buf_put(&bytes, out.data, out.len);
            for (unsigned n = 1 + (unsigned)rng_below(&rng, 3); n; n--)
                bytes.data[rng_below(&rng, bytes.len)] = (uint8_t)rng_next(&rng);
        }
        if (state_load(&chip_v2, &c, bytes.data, bytes.len, NULL) < 0)
            assert_memory_equal(&c, &before, sizeof(c));
        else /* the damage hit a value that may be anything within its limits */
            assert_true(c.index <= 15 && c.low <= c.high && c.channel[2].mode <= 5);
        buf_done(&bytes);
    }
    buf_done(&out);
}

static void an_older_version_leaves_new_fields_as_they_are(void **state) {
    struct chip a = random_chip(5), b = {.added = 4711};
    struct buf out = {0};

    state_save(&chip_v1, &a, &out);
    assert_int_equal(state_load(&chip_v2, &b, out.data, out.len, NULL), 0);
    assert_true(state_equal(&chip_v1, &a, &b));
    assert_int_equal(b.added, 4711);
    buf_done(&out);
}

static void a_newer_version_is_refused_by_number(void **state) {
    struct chip a = random_chip(6);
    struct buf out = {0};

    state_save(&chip_v2, &a, &out);
    expect_refused(&chip_v1, out.data, out.len, "'chip' has version 2, this program knows 1 to 1");
    buf_done(&out);
}

static void a_table_of_another_name_type_or_length_is_refused_by_name(void **state) {
    const struct state_desc other = {
        .name = "other",
        .version = 2,
        .fields = (const struct state_field[]){STATE(struct chip, speaker), STATE_END}};
    const struct state_desc renamed = {
        .name = "chip",
        .version = 1,
        .fields = (const struct state_field[]){STATE(struct chip, low), STATE_END}};
    const struct state_desc original = {
        .name = "chip",
        .version = 1,
        .fields = (const struct state_field[]){STATE(struct chip, speaker), STATE_END}};
    static const struct state_field wider[] = {
        {"speaker", STATE_TYPE_U32, 1, offsetof(struct chip, words), 1, 4, NULL, 0}, STATE_END};
    static const struct state_field longer[] = {
        {"speaker", STATE_TYPE_BOOL, 1, offsetof(struct chip, fifo), 2, 1, NULL, 0}, STATE_END};
    struct state_desc retyped = original, lengthened = original, filled = original;
    struct chip a = {0};
    struct buf out = {0};

    retyped.fields = wider;
    lengthened.fields = longer;
    filled.fields = chip_v1.fields;
    state_save(&original, &a, &out);
    expect_refused(&other, out.data, out.len, "'other' is expected, 'chip' was found");
    expect_refused(&renamed, out.data, out.len, "'low' is expected, 'speaker' was found");
    expect_refused(&retyped, out.data, out.len, "bool[1] was found, u32[1] is expected");
    expect_refused(&lengthened, out.data, out.len, "bool[1] was found, bool[2] is expected");
    expect_refused(&filled, out.data, out.len, "1 fields were found, 11 are expected");
    buf_done(&out);
}

/* Saves c without its limits, loads it with them. */
static void expect_value_refused(const struct chip *c, const char *word) {
    struct buf out = {0};

    state_save(&chip_v2, c, &out);
    expect_refused(&chip_v2, out.data, out.len, word);
    buf_done(&out);
}

static void values_beyond_their_limits_are_refused_by_name(void **state) {
    struct chip c = random_chip(8);

    c.index = 16;
    expect_value_refused(&c, "'index': value 16 is above its limit 15");
    c.index = 15;
    c.words[3] = 1001;
    expect_value_refused(&c, "'words'");
    c.words[3] = 1000;
    c.i16 = -1;
    expect_value_refused(&c, "'i16'");
    c.i16 = 300;
    c.channel[2].mode = 6;
    expect_value_refused(&c, "'channel', field 'mode'");
    c.channel[2].mode = 5;
    memset(&c.speaker, 2, 1);
    expect_value_refused(&c, "'speaker'");
    c.speaker = true;
    c.low = 2;
    c.high = 1;
    expect_value_refused(&c, "low is above high");
}

static void random_values_keep_their_limits_and_reach_them(void **state) {
    bool index_max = false, gate[2] = {false, false}, negative = false;

    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct chip c = random_chip(seed);

        assert_true(c.index <= 15 && c.channel[1].mode <= 5 && c.i16 >= 0 && c.i16 <= 300);
        index_max |= c.index == 15;
        gate[c.channel[0].gate] = true;
        negative |= c.channel[0].drift < 0;
    }
    assert_true(index_max && gate[0] && gate[1] && negative);
}

static void a_difference_is_told_by_path_and_values(void **state) {
    struct chip a = {.words = {1, 2, 3, 4}}, b = a;
    struct buf out = {0};

    assert_int_equal(state_diff(&chip_v2, &a, &b, &out), 0);
    assert_int_equal(out.len, 0);
    b.loads = 9;
    b.host = &b;
    assert_true(state_equal(&chip_v2, &a, &b));
    b.channel[1].drift = -5;
    b.words[2] = 0x1f;
    b.fifo[15] = 0xee;
    b.speaker = true;
    assert_int_equal(state_diff(&chip_v2, &a, &b, &out), 4);
    buf_put(&out, "", 1);
    assert_string_equal((char *)out.data, "channel[1].drift: 0 != -5\n"
                                          "speaker: 0 != 1\n"
                                          "words[2]: 3 != 0x1f\n"
                                          "fifo[15]: 0x00 != 0xee\n");
    assert_false(state_equal(&chip_v2, &a, &b));
    buf_done(&out);
}

static void json_shows_every_field_and_keeps_large_numbers(void **state) {
    struct chip c = {.channel = {{.count = 1, .mode = 2, .gate = true, .drift = -3}},
                     .words = {1, 2, 3, 0xffffffff},
                     .deadline = (1ull << 53) + 1,
                     .i8 = -128,
                     .fifo = {0xde, 0xad}};
    struct buf out = {0};

    c.channel[1].drift = INT64_MIN;
    c.channel[2].drift = INT64_MAX;
    state_json(&chip_v1, &c, &out);
    buf_put(&out, "", 1);
    assert_string_equal((char *)out.data,
                        "{\"channel\":[{\"count\":1,\"mode\":2,\"gate\":true,\"drift\":-3},"
                        "{\"count\":0,\"mode\":0,\"gate\":false,\"drift\":\"0x8000000000000000\"},"
                        "{\"count\":0,\"mode\":0,\"gate\":false,\"drift\":\"0x7fffffffffffffff\"}],"
                        "\"speaker\":false,\"index\":0,\"words\":[1,2,3,4294967295],"
                        "\"deadline\":\"0x20000000000001\",\"i8\":-128,\"i16\":0,\"i32\":0,"
                        "\"fifo\":\"dead0000000000000000000000000000\",\"low\":0,\"high\":0}");
    buf_done(&out);
}

static void the_schema_is_one_line_a_field(void **state) {
    struct buf out = {0};

    state_schema(&chip_v2, &out);
    buf_put(&out, "", 1);
    assert_string_equal((char *)out.data, "chip version 2\n"
                                          "  channel sub[3]\n"
                                          "    channel version 3\n"
                                          "      count u16\n"
                                          "      mode u8 max=5\n"
                                          "      gate bool\n"
                                          "      drift i64\n"
                                          "  speaker bool\n"
                                          "  index u8 max=15\n"
                                          "  words u32[4] max=1000\n"
                                          "  deadline u64\n"
                                          "  i8 i8\n"
                                          "  i16 i16 max=300\n"
                                          "  i32 i32\n"
                                          "  fifo bytes[16]\n"
                                          "  low u16\n"
                                          "  high u16\n"
                                          "  added u32 since=2\n");
    buf_done(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_is_loaded_and_the_rest_is_kept),
        cmocka_unit_test(a_stream_cut_off_anywhere_is_refused),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(random_and_damaged_streams_never_get_through_half),
        cmocka_unit_test(an_older_version_leaves_new_fields_as_they_are),
        cmocka_unit_test(a_newer_version_is_refused_by_number),
        cmocka_unit_test(a_table_of_another_name_type_or_length_is_refused_by_name),
        cmocka_unit_test(values_beyond_their_limits_are_refused_by_name),
        cmocka_unit_test(random_values_keep_their_limits_and_reach_them),
        cmocka_unit_test(a_difference_is_told_by_path_and_values),
        cmocka_unit_test(json_shows_every_field_and_keeps_large_numbers),
        cmocka_unit_test(the_schema_is_one_line_a_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
