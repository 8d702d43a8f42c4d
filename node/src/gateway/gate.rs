//! Who may come in: what a client shows, judged by the access rules of the node.

use std::num::NonZeroUsize;
use std::sync::Arc;

use antumbra_shadow::Time;
use arc_swap::ArcSwap;
use tracing::info;

use super::dialect::{Claims, Connect, ConnectRefusal, Dialect, Proof};
use super::door::Peer;
use crate::access::certificate::Authorities;
use crate::access::token::Verified;
use crate::access::{AccessSettings, Authenticator, Denied, Directory, Principal};

/// Passwords that are remembered as verified.
const VERIFIED_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("is not zero");

/// The access rules in force.
pub(crate) struct Gate {
    settings: AccessSettings,
    authorities: Option<Authorities>,
    directory: ArcSwap<Directory>,
    verified: Verified,
}

impl Gate {
    /// A gate that knows no records yet.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub(crate) fn new(
        settings: AccessSettings,
        authorities: Option<Authorities>,
    ) -> Result<Gate, getrandom::Error> {
        let (directory, _) = Directory::new(0, Vec::new());
        // What is remembered is of use to nobody who reads the memory of another process.
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Gate {
            settings,
            authorities,
            directory: ArcSwap::from_pointee(directory),
            verified: Verified::new(VERIFIED_MAX, key),
        })
    }

    /// Judges the claim of a CONNECT packet. Passwords take some milliseconds of a thread that may
    /// block.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        dialect: &dyn Dialect,
        connect: &Connect<'_>,
        claims: &Claims,
        peer: &Peer,
        now: Time,
    ) -> Result<Principal, ConnectRefusal> {
        let admitted = match &claims.proof {
            Proof::Nothing if peer.must_prove => Err(Denied::Missing),
            Proof::Nothing => self.ask(now, |gate| gate.anonymous(Some(&claims.client_id))),
            Proof::Certificate => self.ask(now, |gate| match &peer.chain {
                Some(chain) => gate.certificate(chain),
                None => Err(Denied::Missing),
            }),
            Proof::Token(token) => {
                let token = token.clone();
                self.ask_slowly(now, move |gate| gate.bearer(&token)).await
            }
            Proof::Password { user, password } => {
                let (user, password) = (user.clone(), password.clone());
                self.ask_slowly(now, move |gate| gate.password(&user, &password))
                    .await
            }
            Proof::Secret { record } => {
                let shared = self.ask(now, |gate| {
                    let (secret, principal) = gate.shared_secret(record)?;
                    Ok((
                        dialect.verify(connect, secret.reveal().as_bytes(), now),
                        principal,
                    ))
                });
                match shared {
                    Ok((verified, principal)) => {
                        verified?;
                        Ok(principal)
                    }
                    Err(denied) => Err(denied),
                }
            }
        };
        admitted.map_err(|denied| {
            // The difference is for us; the client is told only that it is refused.
            info!(
                client = &*claims.client_id,
                cause = denied.word(),
                "a client is refused"
            );
            match denied {
                Denied::Missing => ConnectRefusal::NotAuthorized,
                _ => ConnectRefusal::BadCredentials,
            }
        })
    }

    fn ask<T>(&self, now: Time, question: impl FnOnce(&Authenticator<'_>) -> T) -> T {
        let directory = self.directory.load();
        question(&Authenticator {
            directory: &directory,
            settings: &self.settings,
            authorities: self.authorities.as_ref(),
            verified: &self.verified,
            now,
        })
    }

    async fn ask_slowly(
        self: &Arc<Self>,
        now: Time,
        question: impl FnOnce(&Authenticator<'_>) -> Result<Principal, Denied> + Send + 'static,
    ) -> Result<Principal, Denied> {
        let gate = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || gate.ask(now, question)).await;
        asked.unwrap_or(Err(Denied::Wrong))
    }
}
