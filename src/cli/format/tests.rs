use proptest::prelude::*;

use super::*;

#[test]
fn sizes_and_counts_are_readable() {
    assert_eq!([0, 1023, 1024, 1536 << 10].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]);
    assert_eq!([0, 999, 1000, 12_345_678].map(count), ["0", "999", "1,000", "12,345,678"]);
}

#[test]
fn durations_have_the_precision_that_matters() {
    for (seconds, text) in [(0.031, "0.03 s"), (31.4, "31 s"), (240.0, "4 min"), (9000.0, "2.5 h")] {
        assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
    }
}

#[test]
fn times_are_written_in_utc() {
    for (unix, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_464_675, "2026-11-23T20:11:15Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(time(unix), text);
        assert_eq!(text.parse(), Ok(Time(unix)));
    }
    assert_eq!("2026-11-23".parse(), Ok(Time(1_795_392_000)));
    assert_eq!("1795464675".parse(), Ok(Time(1_795_464_675)));
}

#[test]
fn a_time_that_is_none_is_refused() {
    for text in [
        "",
        "-1",
        "yesterday",
        "2026-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "1969-12-31",
        "2026-1-1",
        "2026-11-23T24:00:00Z",
        "2026-11-23T20:11:15",
        "2026-11-23T20:11Z",
        "+026-11-23",
    ] {
        assert!(text.parse::<Time>().is_err(), "{text}");
    }
}

#[test]
fn text_of_others_cannot_command_the_terminal() {
    assert_eq!(harmless("plain\n\ttext \u{e4}"), "plain\n\ttext \u{e4}");
    assert_eq!(harmless("\u{1b}[2J\u{7}\u{9b}\r\u{202e}x"), "\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}x");
}

proptest! {
    #[test]
    fn every_time_reads_back(unix in 0u64..253_402_300_800) {
        prop_assert_eq!(time(unix).parse(), Ok(Time(unix)));
    }
}
