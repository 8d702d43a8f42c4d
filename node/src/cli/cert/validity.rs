//! From when until when a certificate is valid.

use std::time::Duration;

use antumbra_raft::Env;
use rcgen::{CertificateParams, date_time_ymd};

/// Certificates are valid a little before they are made, because clocks differ.
const CLOCK_SKEW_SECONDS: u64 = 3600;
const DAY_SECONDS: u64 = 24 * 3600;
const DAYS_MAX: u32 = 36_500;

/// How long a new certificate is valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Days(u32);

pub(super) fn parse_days(text: &str) -> Result<Days, String> {
    let days = text
        .parse()
        .ok()
        .filter(|days| (1..=DAYS_MAX).contains(days));
    let days = days.ok_or_else(|| format!("not a number of days from 1 to {DAYS_MAX}"));
    days.map(Days)
}

impl Days {
    /// From now, but at most until `limit`: seconds since the Unix epoch.
    pub(super) fn starting_now(self, limit: Option<u64>) -> Validity {
        let now = Env::system().clock.now_ms() / 1000;
        let end = now + u64::from(self.0) * DAY_SECONDS;
        Validity {
            begin: now.saturating_sub(CLOCK_SKEW_SECONDS),
            end: end.min(limit.unwrap_or(u64::MAX)),
        }
    }
}

/// Seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    begin: u64,
    end: u64,
}

impl Validity {
    /// Writes it into a certificate; gives the date of its end.
    pub(super) fn apply(self, params: &mut CertificateParams) -> String {
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.begin);
        params.not_after = epoch + Duration::from_secs(self.end);
        params.not_after.date().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate must not outlive its authority: some programs check that and some do not.
    #[test]
    fn ends_with_the_authority() {
        let now = Env::system().clock.now_ms() / 1000;
        let free = parse_days("2").unwrap().starting_now(None);
        assert!(free.end >= now + 2 * DAY_SECONDS && free.begin < now);
        assert_eq!(
            parse_days("2").unwrap().starting_now(Some(now + 5)).end,
            now + 5
        );
        for text in ["0", "-1", "x", "36501"] {
            assert!(parse_days(text).is_err(), "{text}");
        }
    }
}
