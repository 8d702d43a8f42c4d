//! What the CONNECT packet of a client claims, judged by the access rules of the node.

use std::sync::Arc;

use antumbra_shadow::Time;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::dialect::{Claims, Connect, ConnectRefusal, Dialect, Proof};
use super::door::{Door, Peer};
use super::slot::Note;
use crate::access::{Denied, Gate, Principal};

/// Judges the claim of a CONNECT packet. Passwords take some milliseconds of a thread that may
/// block.
pub(super) async fn admit(
    gate: &Arc<Gate>,
    dialect: &dyn Dialect,
    connect: &Connect<'_>,
    claims: &Claims,
    peer: &Peer,
    now: Time,
) -> Result<Principal, ConnectRefusal> {
    let admitted = match &claims.proof {
        Proof::Nothing if peer.visitor.must_prove => Err(Denied::Missing),
        Proof::Nothing => gate.ask(|gate| gate.anonymous(Some(&claims.client_id))),
        Proof::Certificate => match &peer.visitor.shown {
            Some(shown) => shown.judge(gate),
            None => Err(Denied::Missing),
        },
        Proof::Token(token) => {
            let token = token.clone();
            gate.ask_slowly(move |gate| gate.bearer(&token)).await
        }
        Proof::Password { user, password } => {
            let (user, password) = (user.clone(), password.clone());
            gate.ask_slowly(move |gate| gate.password(&user, &password))
                .await
        }
        Proof::Secret { record } => {
            let shared = gate.ask(|gate| {
                let (secret, principal) = gate.shared_secret(record)?;
                let verified = dialect.verify(connect, secret.reveal().as_bytes(), now);
                Ok((verified, principal))
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
            _ if !gate.is_ready() && denied != Denied::Missing => ConnectRefusal::Unavailable,
            Denied::Missing => ConnectRefusal::NotAuthorized,
            _ => ConnectRefusal::BadCredentials,
        }
    })
}

/// Has every connection of this node look again whether it may be here, each time that the records
/// have changed. Runs until `stop`.
pub(crate) async fn renew(door: Arc<Door>, stop: CancellationToken) {
    let mut changes = door.gate.changes();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = changes.changed() => match changed {
                Ok(()) => door.registry.tell_all(&Note::Renew),
                Err(_) => return,
            },
        }
    }
}
