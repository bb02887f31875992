//! Statistics of a file for its `add` action, so that readers skip it without opening it.

use super::{LakeError, encode::STATISTICS};
use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{max, max_string, min, min_string},
    datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType},
    record_batch::RecordBatch,
};
use serde::Serialize;
use serde_json::{Map, Value};

/// A longer text is left without bounds rather than cut: readers then simply do not skip by it.
const LONGEST_BOUND: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: usize,
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
    null_count: Map<String, Value>,
    tight_bounds: bool,
}

/// The `stats` text of a file with these rows.
pub(super) fn of(rows: &RecordBatch) -> Result<String, LakeError> {
    let mut stats = Stats {
        num_records: rows.num_rows(),
        min_values: Map::new(),
        max_values: Map::new(),
        null_count: Map::new(),
        tight_bounds: true,
    };
    for name in STATISTICS {
        let Some(column) = rows.column_by_name(name) else { continue };
        stats.null_count.insert(name.to_owned(), column.null_count().into());
        if let Some((low, high)) = bounds(column) {
            stats.min_values.insert(name.to_owned(), low);
            stats.max_values.insert(name.to_owned(), high);
        }
    }
    serde_json::to_string(&stats).map_err(|error| LakeError::Halted(format!("statistics that are no JSON: {error}")))
}

/// The same file's statistics once a deletion vector hides some of its rows: the bounds still hold, perhaps too wide.
pub(super) fn loosened(stats: &str) -> String {
    stats.replacen("\"tightBounds\":true", "\"tightBounds\":false", 1)
}

fn bounds(column: &ArrayRef) -> Option<(Value, Value)> {
    match column.data_type() {
        DataType::Int64 => {
            let numbers = column.as_primitive::<Int64Type>();
            Some((min(numbers)?.into(), max(numbers)?.into()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            // Delta keeps milliseconds: rounded outwards, so that the bounds hold.
            let high = max(times)?;
            let high = high.div_euclid(1_000) + i64::from(high.rem_euclid(1_000) != 0);
            Some((timestamp(min(times)?.div_euclid(1_000)).into(), timestamp(high).into()))
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            Some((date(min(days)?.into()).into(), date(max(days)?.into()).into()))
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let (low, high) = (min_string(texts)?, max_string(texts)?);
            let short = low.len().max(high.len()) <= LONGEST_BOUND;
            short.then(|| (low.into(), high.into()))
        }
        _ => None,
    }
}

/// Milliseconds since the Unix epoch as `YYYY-MM-DDTHH:MM:SS.mmmZ`.
fn timestamp(millis: i64) -> String {
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let date = date(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1_000)
}

/// Days since 1970-01-01 as `YYYY-MM-DD`.
fn date(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Days since 1970-01-01 → year, month, day in the Gregorian calendar (Howard Hinnant, `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_from_year_1_to_9999() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(timestamp(1_709_210_096_789), "2024-02-29T12:34:56.789Z");
        assert_eq!(timestamp(-62_135_596_800_000), "0001-01-01T00:00:00.000Z");
        assert_eq!(timestamp(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    }
}
