//! Sizes and periods as people write them: `20 GiB`, `30 days`, `none`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a size or a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got:?}")]
pub struct UnitError {
    expected: &'static str,
    got: String,
}

const SIZE: &str = "a size such as \"512 MiB\" or \"20 GiB\", or a whole number of bytes";
const PERIOD: &str = "a period with its unit such as \"90 seconds\", \"5 min\" or \"30 days\"";

/// Units by name and factor. The first [`SIZE_WRITTEN`] are also used to write sizes, largest first.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const SIZE_WRITTEN: usize = 5;

/// Units by name and factor. The first [`PERIOD_WRITTEN`] are also used to write periods, largest first.
const PERIOD_UNITS: &[(&str, u64)] = &[
    ("days", 86_400),
    ("hours", 3_600),
    ("minutes", 60),
    ("seconds", 1),
    ("weeks", 604_800),
    ("week", 604_800),
    ("w", 604_800),
    ("day", 86_400),
    ("d", 86_400),
    ("hour", 3_600),
    ("h", 3_600),
    ("minute", 60),
    ("min", 60),
    ("m", 60),
    ("second", 1),
    ("sec", 1),
    ("s", 1),
];
const PERIOD_WRITTEN: usize = 4;

/// Splits `20 GiB` into number and unit and multiplies them; digits may be grouped by `_`.
fn parse(text: &str, units: &[(&str, u64)], expected: &'static str) -> Result<u64, UnitError> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    number
        .replace('_', "")
        .parse::<u64>()
        .ok()
        .zip(units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())))
        .and_then(|(number, (_, factor))| number.checked_mul(*factor))
        .ok_or_else(|| UnitError { expected, got: text.to_owned() })
}

/// Writes the number in the largest of the units that divides it.
fn write(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor)) {
        Some((name, factor)) if number == *factor => write!(f, "1 {}", name.trim_end_matches('s')),
        Some((name, factor)) => write!(f, "{} {name}", number / factor),
        None => write!(f, "0 {}", units.last().map_or("", |(name, _)| name)),
    }
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $units:expr, $written:expr, $expected:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                parse(text, $units, $expected).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, self.0, $units.split_at($written).0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text_or_number(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

quantity!(
    /// A number of bytes.
    Size,
    SIZE_UNITS,
    SIZE_WRITTEN,
    SIZE
);
quantity!(
    /// A number of whole seconds.
    Period,
    PERIOD_UNITS,
    PERIOD_WRITTEN,
    PERIOD
);

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        Self::from_secs(period.0)
    }
}

/// A quantity that may be `none`: `#[serde(with = "units::or_none")]`.
pub(super) mod or_none {
    use super::*;

    const NONE: &str = "none";

    pub(crate) fn serialize<T: fmt::Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(NONE),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err = UnitError>,
        D: Deserializer<'de>,
    {
        let text = text_or_number(deserializer)?;
        if text.trim() == NONE {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|e| de::Error::custom(format_args!("{e}; or \"{NONE}\"")))
    }
}

/// Takes `1024` as well as `"1024"`.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a whole number")
        }
        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    deserializer.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_write_units_in_many_ways() {
        for (text, bytes) in
            [("20 GiB", 20 << 30), ("20gib", 20 << 30), ("1_000 kB", 1_000_000), ("4096", 4096), ("0", 0)]
        {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
        for (text, seconds) in
            [("30 days", 2_592_000), ("1 week", 604_800), ("5min", 300), ("90 s", 90), ("2h", 7200)]
        {
            assert_eq!(text.parse::<Period>(), Ok(Period(seconds)), "{text}");
        }
    }

    #[test]
    fn a_quantity_that_could_be_misread_is_refused() {
        for text in ["", "GiB", "1.5 GiB", "-1", "20 Gib/s", "18446744073709551616", "16777216 TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        // Seconds, minutes or days? Only a unit says.
        for text in ["30", "30 parsecs", "none"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number in prop_oneof![any::<u64>(), (0u64..1 << 20).prop_map(|n| n << 30)]) {
            prop_assert_eq!(Size(number).to_string().parse(), Ok(Size(number)));
            prop_assert_eq!(Period(number).to_string().parse(), Ok(Period(number)));
        }
    }
}
