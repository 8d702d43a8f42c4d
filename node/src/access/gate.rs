//! The access rules in force: the records as this node knows them now, and what the operator chose.
//!
//! One gate serves all doors of a node. It is the only part of this module with state: whoever
//! follows the records hands it each new [`Directory`], and whoever serves a session or a stream
//! asks it again when the directory has changed.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::Clock;
use antumbra_shadow::{Limits, Tenant, Time};
use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::record::{Secret, TenantLimits};
use super::sigv4::SignedRequest;
use super::token::{Token, Verified};
use super::{AccessSettings, Authenticator, Denied, Directory, Mode, Principal, Visitor};
use crate::error::Error;
use crate::memory::Memory;
use crate::metrics;
use crate::rate::Rates;

/// Passwords that are remembered as verified.
const VERIFIED_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("is not zero");
/// The longest sleep until a proof ends: clocks are set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The access rules in force.
pub struct Gate {
    settings: AccessSettings,
    clock: Arc<dyn Clock>,
    directory: ArcSwap<Directory>,
    /// The revision of the directory; 0 until the records were read.
    revision: watch::Sender<u64>,
    verified: Verified,
    /// Hashes under way: each takes 19 MiB and a core.
    hashing: Semaphore,
    /// How fast each tenant changes shadows.
    changes_of: Rates<Tenant>,
    memory: Memory,
}

impl Gate {
    /// A gate that knows no records yet.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn new(settings: AccessSettings, clock: Arc<dyn Clock>) -> Result<Gate, getrandom::Error> {
        let (directory, _) = Directory::new(0, Vec::new());
        // What is remembered is of use to nobody who reads the memory of another process.
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Gate {
            settings,
            clock,
            directory: ArcSwap::from_pointee(directory),
            revision: watch::Sender::new(0),
            verified: Verified::new(VERIFIED_MAX, key),
            hashing: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            changes_of: Rates::new(),
            memory: Memory::new(0, None),
        })
    }

    /// The same gate on a node whose memory has a ceiling.
    pub(crate) fn under(self, memory: Memory) -> Gate {
        Gate { memory, ..self }
    }

    /// Whether the memory of the node allows anything new.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether callers who show nothing come in.
    pub fn is_open(&self) -> bool {
        self.settings.mode == Mode::Open
    }

    /// The records as of now.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// The limits of the shadows of a tenant.
    pub fn limits(&self, tenant: &Tenant, cluster: Limits) -> Limits {
        self.limits_of(tenant).over(cluster)
    }

    /// Where the limits of a tenant are not those of the cluster.
    pub(crate) fn limits_of(&self, tenant: &Tenant) -> TenantLimits {
        self.directory.load().limits(tenant)
    }

    /// Counts changes of shadows of a tenant, by whoever and through whatever door of this node.
    ///
    /// # Errors
    ///
    /// `Overloaded` when they come faster than the tenant may make them.
    pub(crate) fn count_changes(&self, tenant: &Tenant, count: usize) -> Result<(), Error> {
        let Some(max) = self.limits_of(tenant).updates_per_second_max else {
            return Ok(());
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.changes_of.admit(tenant, max, count, Instant::now()) {
            true => Ok(()),
            false => {
                metrics::refused("tenant_rate");
                Err(Error::Overloaded)
            }
        }
    }

    /// Puts other records into force, and tells whoever waits for that.
    pub(crate) fn set_directory(&self, directory: Directory) {
        let revision = directory.revision();
        self.directory.store(Arc::new(directory));
        self.revision.send_replace(revision);
    }

    /// Tells of each new directory.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Waits until the records are as asked for, but not for long. May be dropped midway.
    pub(crate) async fn settles(&self, patience: Duration, is_so: impl Fn(&Directory) -> bool) {
        let mut changes = self.changes();
        let settled = changes.wait_for(|_| is_so(&self.directory.load()));
        let _ = timeout(patience, settled).await;
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Time {
        Time(self.clock.now_ms())
    }

    /// Asks about what a caller shows.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Authenticator<'_>) -> T) -> T {
        let directory = self.directory.load();
        question(&Authenticator {
            directory: &directory,
            settings: &self.settings,
            verified: &self.verified,
            now: self.now(),
        })
    }

    /// The same for proofs that take some milliseconds of a thread that may block; as many at a time
    /// as there are cores, so that a storm of wrong passwords waits and takes no memory.
    pub(crate) async fn ask_slowly(
        self: &Arc<Self>,
        question: impl FnOnce(&Authenticator<'_>) -> Result<Principal, Denied> + Send + 'static,
    ) -> Result<Principal, Denied> {
        let _turn = self.hashing.acquire().await;
        let gate = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || gate.ask(question)).await;
        asked.unwrap_or(Err(Denied::Wrong))
    }

    /// A caller that shows nothing with its request: whom the certificate of its connection is for, and
    /// nobody in particular where the door is open to everybody.
    ///
    /// # Errors
    ///
    /// As [`bearer`](Gate::bearer).
    pub(crate) fn visitor(&self, visitor: &Visitor) -> Result<Option<Principal>, Error> {
        match &visitor.shown {
            Some(shown) => {
                let judged = shown.judge(self).map(Some);
                judged.map_err(|denied| self.refuse(denied))
            }
            None if self.is_open() && !visitor.must_prove => Ok(None),
            None => Err(Error::Unauthenticated),
        }
    }

    /// A caller with a token.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` when it is not good; `Unavailable` when nobody can know yet.
    pub(crate) async fn bearer(self: &Arc<Self>, token: &[u8]) -> Result<Principal, Error> {
        if self.is_quick(token) {
            return self
                .ask(|gate| gate.bearer(token))
                .map_err(|denied| self.refuse(denied));
        }
        let token = token.to_vec();
        let asked = self.ask_slowly(move |gate| gate.bearer(&token)).await;
        asked.map_err(|denied| self.refuse(denied))
    }

    /// Whether a token can be judged without hashing: it is signed, or was verified lately.
    fn is_quick(&self, token: &[u8]) -> bool {
        if !Token::looks_like(token) {
            return true;
        }
        let Ok(token) = Token::parse(token) else {
            return true;
        };
        let directory = self.directory.load();
        match directory
            .credential(&token.record)
            .map(|record| &record.secret)
        {
            Some(Secret::Password(hash)) => {
                self.verified.remembers(&token.record, hash, token.secret())
            }
            _ => true,
        }
    }

    /// A caller whose request is signed.
    ///
    /// # Errors
    ///
    /// As [`bearer`](Gate::bearer).
    pub(crate) fn signed(&self, request: &SignedRequest<'_>) -> Result<Principal, Error> {
        let asked = self.ask(|gate| gate.signed(request));
        asked.map_err(|denied| self.refuse(denied))
    }

    /// What a caller is told that is not let in. The difference is for us alone.
    pub(crate) fn refuse(&self, denied: Denied) -> Error {
        info!(cause = denied.word(), "a caller is refused");
        match denied {
            // It may be that its record was not read yet.
            Denied::Unknown | Denied::UnknownTenant | Denied::UnknownRole if !self.is_ready() => {
                Error::Unavailable("credentials are still being read")
            }
            _ => Error::Unauthenticated,
        }
    }

    /// Whether the records were read once.
    pub(crate) fn is_ready(&self) -> bool {
        *self.revision.borrow() > 0
    }

    /// The same caller by the records and the time of now.
    ///
    /// # Errors
    ///
    /// When it may no longer be here, or may do other things than before: what was decided for it
    /// then does not hold.
    pub(crate) fn renew(&self, principal: &Principal) -> Result<Principal, Denied> {
        if !self.is_ready() {
            return Ok(principal.clone());
        }
        let renewed = self.ask(|gate| gate.renew(principal))?;
        match renewed.is_as(principal) {
            true => Ok(renewed),
            false => Err(Denied::Revoked),
        }
    }

    /// Resolves when a caller may no longer be here, or may do other things. May be dropped midway.
    pub(crate) async fn ended(self: Arc<Self>, mut principal: Principal) -> Denied {
        let mut changes = self.changes();
        loop {
            match self.renew(&principal) {
                Ok(renewed) => principal = renewed,
                Err(denied) => return denied,
            }
            let left = principal.expires.map_or(LOOK_AGAIN, |end| {
                Duration::from_millis(end.0.saturating_sub(self.now().0) + 1)
            });
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = sleep(left.min(LOOK_AGAIN)) => {}
            }
        }
    }
}
