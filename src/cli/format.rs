//! Numbers, times and foreign text as people read them.

use std::{borrow::Cow, str::FromStr, time::Duration};

/// A number of bytes: `1.5 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = count as f64;
    let mut units = units.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{scaled:.1} {unit}") }
}

/// A number with its thousands apart: `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in (0..digits.len()).rev().zip(digits.chars()) {
        text.push(digit);
        if place > 0 && place % 3 == 0 {
            text.push(',');
        }
    }
    text
}

/// A number of things.
pub(super) fn some(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { many })
}

/// A duration, to the precision that matters: `0.03 s`, `31 s`, `4 min`, `2.5 h`.
pub(super) fn duration(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 9.95 => format!("{seconds:.2} s"),
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Text of others without what would move the cursor, change colours or ring: a terminal obeys control characters.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| c == '\n' || c == '\t' || !is_control(c);
    if text.chars().all(is_harmless) {
        Cow::Borrowed(text)
    } else {
        text.chars().map(|c| if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
    }
}

/// Control characters, and those that turn the direction of writing.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const DAY: u64 = 86_400;

/// Unix seconds in UTC: `2026-11-23T20:11:15Z`.
pub(super) fn time(unix: u64) -> String {
    let (year, month, day) = date(unix / DAY);
    let (hour, minute, second) = (unix % DAY / 3600, unix % 3600 / 60, unix % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day after 1970-01-01. Years begin in March, so that the leap day is their last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next_year, month, day)
}

/// The day after 1970-01-01 of a Gregorian date; the reverse of [`date`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    (365 * year + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)
}

/// A time as people pass it: unix seconds, `2026-11-23` or `2026-11-23T20:11:15Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) u64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse().ok().or_else(|| utc(text));
        parsed.map(Self).ok_or_else(|| {
            "expected unix seconds, a date such as 2026-11-23, or a time such as 2026-11-23T20:11:15Z"
                .to_owned()
        })
    }
}

fn utc(text: &str) -> Option<u64> {
    let (day_part, clock_part) = match text.split_once('T') {
        Some((day_part, clock)) => (day_part, clock.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |part: &str, separator, widths: [usize; 3]| {
        let parts: Vec<&str> = part.split(separator).collect();
        let parts: [&str; 3] = parts.try_into().ok()?;
        let fits =
            |(part, width): (&str, usize)| part.len() == width && part.bytes().all(|c| c.is_ascii_digit());
        if !parts.into_iter().zip(widths).all(fits) {
            return None;
        }
        let [a, b, c] = parts.map(|part| part.parse::<u64>().ok());
        Some([a?, b?, c?])
    };
    let [year, month, day] = numbers(day_part, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock_part, ':', [2, 2, 2])?;
    if year < 1970 || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let at = days(year, month, day)?;
    // A day that the month does not have comes out as one of the next month.
    (date(at) == (year, month, day)).then_some(at * DAY + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests;
