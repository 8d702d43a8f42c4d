//! What the link of a caller tells of it, before it says anything.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use super::certificate::Authorities;
use super::{Denied, Gate, Principal};

/// Who is at the other end of a connection, as far as the link tells. Of a plain one it tells
/// nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitor {
    /// The certificates that it showed; they were verified.
    pub(crate) shown: Option<Arc<Shown>>,
    /// It has to prove who it is, whatever else is open: its door knows clients by certificates.
    pub(crate) must_prove: bool,
}

/// The certificates that a client showed, and the authorities that were trusted then: a connection
/// outlives a change of the authorities.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Its own first.
    chain: Box<[CertificateDer<'static>]>,
    authorities: Arc<Authorities>,
    /// Whom they were found to be for: signatures are dear, and a connection brings many requests.
    found: Mutex<Option<Principal>>,
}

impl Shown {
    pub(crate) fn new(
        chain: Box<[CertificateDer<'static>]>,
        authorities: Arc<Authorities>,
    ) -> Shown {
        Shown {
            chain,
            authorities,
            found: Mutex::new(None),
        }
    }

    /// Whom the certificates are for, by the records and the time of now.
    ///
    /// # Errors
    ///
    /// When they are for nobody, or for somebody who may not come in.
    pub(crate) fn judge(&self, gate: &Gate) -> Result<Principal, Denied> {
        let found = self.found.lock().clone();
        if let Some(renewed) = found.and_then(|found| gate.renew(&found).ok()) {
            return Ok(renewed);
        }
        let judged = gate.ask(|gate| gate.certificate(&self.chain, &self.authorities))?;
        *self.found.lock() = Some(judged.clone());
        Ok(judged)
    }
}
