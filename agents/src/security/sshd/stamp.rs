//! Event time of a log line: RFC 3339 stamps, and RFC 3164 stamps whose year must be inferred.

use jiff::civil;
use jiff::tz::TimeZone;

/// How far a year-less stamp may lie before the newest one and still belong to the same run of the log: reordering
/// between writers, a daylight-saving hour, a box without a battery clock that starts some days in the past. The price:
/// a log that is silent for longer than a year minus this is dated a year too early.
const BACKWARDS_S_MAX: i64 = 31 * 86_400;

/// How far an RFC 3339 stamp may lead the year of year-less ones: a little more than a year.
const INSTANT_ADVANCE_S_MAX: i64 = 400 * 86_400;

/// Years a stamp is searched in. 29 February may be eight years away (1896 → 1904, 2096 → 2104).
const YEARS_AHEAD_MAX: i16 = 9;

/// A stamp as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// RFC 3339: an instant, Unix seconds.
    Instant(i64),
    /// RFC 3164 §4.1.2 `Mmm dd hh:mm:ss`: local time, no year.
    Yearless(Yearless),
}

/// Fields of an RFC 3164 stamp, each in range; the day may still not exist in a given year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Yearless {
    month: i8,
    day: i8,
    second_of_day: i64,
}

impl Stamp {
    /// Splits a leading stamp and the space behind it from a line.
    pub(crate) fn split(line: &[u8]) -> Option<(Stamp, &[u8])> {
        if line.first().is_some_and(u8::is_ascii_digit) {
            let end = line.iter().position(|b| *b == b' ')?;
            let (text, rest) = line.split_at_checked(end)?;
            let instant: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
            return Some((Stamp::Instant(instant.as_second()), rest.get(1..)?));
        }
        let (text, rest) = line.split_at_checked(15)?;
        let stamp = Yearless::parse(text)?;
        rest.strip_prefix(b" ").map(|rest| (Stamp::Yearless(stamp), rest))
    }
}

impl Yearless {
    fn parse(text: &[u8]) -> Option<Self> {
        const MONTHS: [&[u8]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let &[m1, m2, m3, b' ', d1, d2, b' ', h1, h2, b':', n1, n2, b':', s1, s2] = text else { return None };
        let month = MONTHS.iter().zip(1i8..).find_map(|(name, n)| (**name == [m1, m2, m3]).then_some(n))?;
        let day = two_digits(if d1 == b' ' { b'0' } else { d1 }, d2).filter(|d| (1..=31).contains(d))?;
        let hour = two_digits(h1, h2).filter(|h| *h < 24)?;
        let minute = two_digits(n1, n2).filter(|m| *m < 60)?;
        // 60 is a leap second; it is counted as the second before.
        let second = two_digits(s1, s2).filter(|s| *s <= 60)?.min(59);
        Some(Yearless { month, day: i8::try_from(day).ok()?, second_of_day: hour * 3600 + minute * 60 + second })
    }

    /// Unix seconds of this stamp in `year`, read as UTC; `None` when that year has no such day.
    fn in_year(self, year: i16) -> Option<i64> {
        let midnight = civil::Date::new(year, self.month, self.day).ok()?.to_zoned(TimeZone::UTC).ok()?;
        Some(midnight.timestamp().as_second() + self.second_of_day)
    }
}

impl Yearless {
    /// The latest year in which this stamp is at most [`SLACK_S`] behind `limit_s`, and its Unix seconds there.
    fn latest_year(self, limit_s: i64) -> Option<(i16, i64)> {
        let latest_s = limit_s.checked_add(SLACK_S)?;
        let year = year_of(latest_s)?;
        let years = (0..YEARS_AHEAD_MAX).filter_map(|back| year.checked_sub(back));
        years.filter_map(|year| Some((year, self.in_year(year)?))).find(|(_, s)| *s <= latest_s)
    }
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// Dates the stamps of one log, without a clock: the first year-less stamp is in the reference year, each later one in the
/// earliest year that does not put it more than [`BACKWARDS_S_MAX`] before the newest stamp seen.
#[derive(Clone, Debug)]
pub(crate) struct Dater {
    reference_year: i16,
    utc_offset_s: i32,
    /// Newest dated stamp, in the log's local time.
    newest_local_s: Option<i64>,
}

impl Dater {
    pub(crate) fn new(reference_year: i16, utc_offset_s: i32) -> Self {
        Dater { reference_year, utc_offset_s, newest_local_s: None }
    }

    /// Counts for the first stamp alone.
    pub(crate) fn set_reference_year(&mut self, year: i16) {
        self.reference_year = year;
    }

    /// Unix seconds of `stamp`.
    pub(crate) fn date(&mut self, stamp: Stamp) -> Option<i64> {
        let offset = i64::from(self.utc_offset_s);
        let local_s = match stamp {
            Stamp::Instant(instant_s) => instant_s.checked_add(offset)?,
            Stamp::Yearless(stamp) => self.date_yearless(stamp)?,
        };
        let advance_s = self.newest_local_s.map_or(0, |newest| local_s.saturating_sub(newest));
        // One absurd instant must not carry the year-less stamps behind it into another age.
        if self.newest_local_s.is_none()
            || (0..=INSTANT_ADVANCE_S_MAX).contains(&advance_s)
            || matches!(stamp, Stamp::Yearless(_))
        {
            self.newest_local_s = Some(self.newest_local_s.map_or(local_s, |newest| newest.max(local_s)));
        }
        local_s.checked_sub(offset)
    }

    fn date_yearless(&self, stamp: Yearless) -> Option<i64> {
        let (first_year, floor_s) = match self.newest_local_s {
            None => (self.reference_year, i64::MIN),
            Some(newest) => (year_of(newest)?.checked_sub(1)?, newest - BACKWARDS_S_MAX),
        };
        (first_year..=first_year.saturating_add(YEARS_AHEAD_MAX))
            .filter_map(|year| stamp.in_year(year))
            .find(|s| *s >= floor_s)
    }
}

/// A writer's clock and zone may lead the reader's by this much, and late lines may trail by it.
const SLACK_S: i64 = 86_400;

/// The reference year for a log that is read from `head` on (some first lines, the last one may be cut), ends with `tail`
/// (some last bytes, which may be cut at the front; empty where the end cannot be seen) and is read at `now_s`, Unix seconds.
///
/// The newest year-less stamp of `tail` lies in the latest year that does not put it more than a day into the future, and the first
/// one of `head` in the latest year that does not put it more than a day behind that. `None` when `head` has no such stamp.
pub fn reference_year(head: &[u8], tail: &[u8], now_s: i64) -> Option<i16> {
    let first = head.split(is_newline).find_map(yearless)?;
    let last = tail.rsplit(is_newline).find_map(yearless).unwrap_or(first);
    let (_, last_s) = last.latest_year(now_s)?;
    first.latest_year(last_s).map(|(year, _)| year)
}

fn is_newline(byte: &u8) -> bool {
    *byte == b'\n'
}

fn yearless(line: &[u8]) -> Option<Yearless> {
    match Stamp::split(line)?.0 {
        Stamp::Yearless(stamp) => Some(stamp),
        Stamp::Instant(_) => None,
    }
}

fn year_of(unix_s: i64) -> Option<i16> {
    Some(jiff::Timestamp::from_second(unix_s).ok()?.to_zoned(TimeZone::UTC).year())
}

/// RFC 3339 in UTC, whole seconds, e.g. `2026-11-22T10:00:00Z`. Out of range (beyond the year 9999): the plain number.
pub(crate) fn rfc3339(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dated(reference_year: i16, stamps: &[&str]) -> Vec<String> {
        let mut dater = Dater::new(reference_year, 0);
        let mut date = |text: &str| Stamp::split(format!("{text} x").as_bytes()).and_then(|(s, _)| dater.date(s));
        stamps.iter().map(|text| date(text).map_or("-".to_owned(), rfc3339)).collect()
    }

    #[test]
    fn years_follow_the_log() {
        let cases: &[(i16, &[&str], &[&str])] = &[
            (2025, &["Dec 31 23:59:58", "Jan  1 00:00:02"], &["2025-12-31T23:59:58Z", "2026-01-01T00:00:02Z"]),
            // A late line from before midnight stays in the old year.
            (
                2025,
                &["Dec 31 23:59:58", "Jan  1 00:00:02", "Dec 31 23:59:59", "Jan  1 00:00:03"],
                &["2025-12-31T23:59:58Z", "2026-01-01T00:00:02Z", "2025-12-31T23:59:59Z", "2026-01-01T00:00:03Z"],
            ),
            // The same at the very start of a log.
            (2026, &["Jan  1 00:00:02", "Dec 31 23:59:59"], &["2026-01-01T00:00:02Z", "2025-12-31T23:59:59Z"]),
            (
                2024,
                &["Feb 28 10:00:00", "Feb 29 10:00:00", "Mar  1 10:00:00"],
                &["2024-02-28T10:00:00Z", "2024-02-29T10:00:00Z", "2024-03-01T10:00:00Z"],
            ),
            // The reference year has no such day: the next that has.
            (2025, &["Feb 29 10:00:00", "Mar  1 10:00:00"], &["2028-02-29T10:00:00Z", "2028-03-01T10:00:00Z"]),
            // A clock set back by two days is not a new year.
            (
                2026,
                &["Nov 24 10:00:00", "Nov 22 10:00:00", "Nov 24 10:00:01"],
                &["2026-11-24T10:00:00Z", "2026-11-22T10:00:00Z", "2026-11-24T10:00:01Z"],
            ),
            // Most of a year of silence, and two New Years.
            (
                2024,
                &["Feb  1 00:00:00", "Dec 20 00:00:00", "Nov 15 00:00:00", "Mar  1 00:00:00"],
                &["2024-02-01T00:00:00Z", "2024-12-20T00:00:00Z", "2025-11-15T00:00:00Z", "2026-03-01T00:00:00Z"],
            ),
            (2026, &["Jun 30 23:59:60"], &["2026-06-30T23:59:59Z"]),
            // Instants need no year and lead the year-less ones that follow.
            (
                1999,
                &["2026-11-22T10:00:00.25+01:00", "Nov 22 10:00:00"],
                &["2026-11-22T09:00:00Z", "2026-11-22T10:00:00Z"],
            ),
            (
                2026,
                &["Nov 22 10:00:00", "9999-01-01T00:00:00Z", "Nov 22 10:00:01"],
                &["2026-11-22T10:00:00Z", "9999-01-01T00:00:00Z", "2026-11-22T10:00:01Z"],
            ),
        ];
        for (year, stamps, expected) in cases {
            assert_eq!(dated(*year, stamps), *expected, "{stamps:?}");
        }
    }

    #[test]
    fn what_is_no_stamp() {
        for text in [
            "Dec 32 10:00:00",
            "Dec  0 10:00:00",
            "dec 10 10:00:00",
            "Dec 10 24:00:00",
            "Dec 10 10:60:00",
            "Dec 10 1:00:00",
            "Dez 10 10:00:00",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "9",
            "",
            "Feb 30 10:00:00",
        ] {
            assert_eq!(dated(2026, &[text]), ["-"], "{text}");
        }
    }

    #[test]
    fn local_time_is_moved_to_utc() {
        let mut dater = Dater::new(2026, 3600);
        let (stamp, _) = Stamp::split(b"Nov 22 10:00:00 h").unwrap();
        assert_eq!(dater.date(stamp).map(rfc3339).unwrap(), "2026-11-22T09:00:00Z");
    }

    #[test]
    fn the_reference_year_is_the_latest_possible_one() {
        let year = |line: &str, now: &str| {
            reference_year(line.as_bytes(), b"", now.parse::<jiff::Timestamp>().unwrap().as_second())
        };
        assert_eq!(year("Nov 22 10:00:00 h", "2026-11-24T00:00:00Z"), Some(2026));
        assert_eq!(year("Dec 10 10:00:00 h", "2026-11-24T00:00:00Z"), Some(2025));
        assert_eq!(year("Dec 31 23:59:59 h", "2027-01-01T00:00:10Z"), Some(2026));
        assert_eq!(year("Jan  1 01:00:00 h", "2026-12-31T23:30:00Z"), Some(2027), "a zone ahead of UTC");
        assert_eq!(year("Feb 29 10:00:00 h", "2026-11-24T00:00:00Z"), Some(2024));
        assert_eq!(year("2026-11-22T10:00:00Z h", "2026-11-24T00:00:00Z"), None);
        assert_eq!(
            year("garbage\n2026-11-22T10:00:00Z h\nDec 10 10:00:00 h\nNov 2", "2026-11-24T00:00:00Z"),
            Some(2025)
        );
        assert_eq!(reference_year(b"Nov 22 10:00:00 h", b"", i64::MAX), None);
    }

    #[test]
    fn the_end_of_a_log_says_when_it_began() {
        let now = "2026-11-25T10:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        let cases: &[(&str, &str, i16)] = &[
            ("Nov 20 10:00:00 h", "cut\nJan  3 10:00:00 h\nno stamp\n", 2025),
            ("Dec 20 10:00:00 h", "Nov 25 09:00:00 h\n", 2025),
            ("Nov 25 09:00:00 h", "Nov 25 09:59:00 h\n", 2026),
            ("Nov 25 09:00:00 h", "Nov 25 08:59:59 h\n", 2026),
            ("Nov 20 10:00:00 h", "nothing here", 2026),
        ];
        for (head, tail, year) in cases {
            assert_eq!(reference_year(head.as_bytes(), tail.as_bytes(), now), Some(*year), "{head} … {tail}");
        }
    }

    proptest! {
        #[test]
        fn a_log_in_order_is_dated_as_it_happened(start in 1_600_000_000i64..2_000_000_000, gaps in proptest::collection::vec(0i64..28_000_000, 1..20)) {
            let mut at = start;
            let mut dater = Dater::new(year_of(start).unwrap(), 0);
            for gap in gaps {
                let zoned = jiff::Timestamp::from_second(at).unwrap().to_zoned(TimeZone::UTC);
                let line = zoned.strftime("%b %e %H:%M:%S host").to_string();
                let (stamp, _) = Stamp::split(line.as_bytes()).unwrap();
                prop_assert_eq!(dater.date(stamp), Some(at));
                at += gap;
            }
        }

        #[test]
        fn no_bytes_panic(line in proptest::collection::vec(any::<u8>(), 0..60), now in any::<i64>()) {
            let _ = Stamp::split(&line);
            let _ = reference_year(&line, &line, now);
        }
    }
}
