//! Files that are read again when they change, while the node runs.
//!
//! What is broken or does not fit together is not taken: what was in force stays, and the log says
//! so once. Whoever replaces several files one after the other is met halfway at most once.

use std::fmt::Display;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::metrics;

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// What ends this soon is worth a warning …
const EXPIRY_WARNING_SECONDS: u64 = 7 * 24 * 3600;
/// … about once a day.
const CHECKS_PER_WARNING: u64 = 24 * 360;

/// Something that was made of files. Clones share it.
pub(crate) trait Reload: Clone + Send + Sync + 'static {
    /// Why the files cannot be used.
    type Error: Display;

    /// What it is, as the log calls it.
    fn name(&self) -> &'static str;

    /// Reads the files again and takes them if they changed: then `true`. On an error what is in
    /// force stays. Blocks while it reads.
    fn reload(&self) -> Result<bool, Self::Error>;

    /// How many seconds what is in force is still good; nothing when it has no end.
    fn seconds_left(&self) -> Option<u64> {
        None
    }
}

/// Looks at the files every ten seconds until `stop`.
pub(crate) async fn keep_current(files: impl Reload, stop: CancellationToken) {
    let what = files.name();
    let mut last_error = None;
    let mut checks = 0_u64;
    loop {
        look_at_expiry(&files, checks);
        checks += 1;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        let shared = files.clone();
        let reload = move || shared.reload().map_err(|error| error.to_string());
        let error = match tokio::task::spawn_blocking(reload).await {
            Ok(Ok(changed)) => {
                if changed {
                    info!(what, "new files are in force");
                    checks = 0;
                }
                None
            }
            Ok(Err(error)) => Some(error),
            Err(_) => Some("the task that reads them panicked".to_owned()),
        };
        if let Some(error) = error.as_ref().filter(|_| error != last_error) {
            error!(what, %error, "the old files stay in force");
        }
        last_error = error;
    }
}

fn look_at_expiry(files: &impl Reload, checks: u64) {
    let Some(left) = files.seconds_left() else {
        return;
    };
    metrics::certificate_expiry(files.name(), UnixTime::now().as_secs() + left);
    if left < EXPIRY_WARNING_SECONDS && checks.is_multiple_of(CHECKS_PER_WARNING) {
        warn!(what = files.name(), hours = left / 3600, "ends soon");
    }
}
