//! `_event_at`: text → seconds since the Unix epoch, rounded half up.

/// What `_event_at` must look like, for messages and documents.
pub(crate) const FORM: &str = "YYYY-MM-DDTHH:MM:SS[.f]Z with one to three fraction digits";

/// The same as a regular expression; it cannot tell which days and times there are.
pub(crate) const PATTERN: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z$";

const SECONDS_PER_DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;

/// Reads `YYYY-MM-DDTHH:MM:SS[.f]Z` (upper-case `T` and `Z`, one to three fraction digits, no offset, no leap second)
/// and rounds to the nearest second, halves up, also before 1970.
///
/// # Errors
/// Why the text is no date and time of the years 1 to 9999.
pub(super) fn seconds(text: &str) -> Result<i64, &'static str> {
    let bytes = text.as_bytes();
    let (Some((clock, rest)), Some(b'Z')) = (bytes.split_first_chunk::<19>(), bytes.last()) else {
        return Err("it is not of that form");
    };
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _, b':', _, _] = clock else {
        return Err("it is not of that form");
    };
    let up = half_up(rest).ok_or("it is not of that form")?;
    let part = |from: usize, to: usize| digits(&clock[from..to]).ok_or("it is not of that form");
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    if year == 0 {
        return Err("years go from 0001 to 9999");
    }
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Err("there is no such day");
    }
    if second == 60 {
        return Err("leap seconds are not representable");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err("there is no such time of day");
    }
    let rounded = days_since_epoch(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second + up;
    if rounded > LAST { Err("it rounds to a time past the year 9999") } else { Ok(rounded) }
}

/// The part after the seconds, `Z` included: 1 when it rounds up, 0 when not, nothing when it is malformed.
fn half_up(rest: &[u8]) -> Option<i64> {
    match rest {
        [b'Z'] => Some(0),
        [b'.', fraction @ .., b'Z'] if (1..=3).contains(&fraction.len()) && fraction.iter().all(u8::is_ascii_digit) => {
            Some(i64::from(fraction[0] >= b'5'))
        }
        _ => None,
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counted from March so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn rounds_half_up_on_both_sides_of_the_epoch() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.499Z", 0),
            ("1970-01-01T00:00:00.5Z", 1),
            ("1969-12-31T23:59:59.5Z", 0),
            ("1969-12-31T23:59:59.49Z", -1),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
            ("9999-12-31T23:59:59.499Z", LAST),
            ("2024-02-29T23:59:59.999Z", 1_709_251_200),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rejects_what_is_no_date_and_time() {
        for text in [
            "",
            "Z",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "0000-12-31T23:59:59.999Z",
            "9999-12-31T23:59:59.5Z",
            "2024-01-01T00:00:00+00:00",
            "2024-01-01T00:00:00",
            "2024-01-01t00:00:00z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234Z",
            "2024-01-01T00:00:00,5Z",
            "2024-01-01T00:00:00.5ZZ",
            "+024-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "２024-01-01T00:00:00Z",
            " 2024-01-01T00:00:00Z",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(
            year in 0i16..=9999, month in 0u8..=13, day in 0u8..=32, hour in 0u8..=24, minute in 0u8..=60,
            second in 0u8..=59, millis in 0u16..=999, digits in 0usize..=3,
        ) {
            let fraction = &format!("{millis:03}")[..digits];
            let dot = if digits == 0 { "" } else { "." };
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{dot}{fraction}Z");
            let expected = jiff::civil::DateTime::new(year, i8::try_from(month).unwrap(), i8::try_from(day).unwrap(),
                    i8::try_from(hour).unwrap(), i8::try_from(minute).unwrap(), i8::try_from(second).unwrap(), 0)
                .ok()
                .filter(|_| year >= 1)
                .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second())
                .map(|at| at + i64::from(fraction.as_bytes().first().is_some_and(|first| *first >= b'5')))
                .filter(|at| *at <= LAST);
            prop_assert_eq!(seconds(&text).ok(), expected, "{}", text);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,30}") {
            let _ = seconds(&text);
        }

        #[test]
        fn whole_seconds_come_back(at in -62_135_596_800i64..=253_402_207_200) {
            let text = Timestamp::from_second(at).unwrap().to_string();
            prop_assert_eq!(seconds(&text), Ok(at));
        }
    }
}
