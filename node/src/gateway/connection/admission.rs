//! Decides about a CONNECT: who it is, whether the client id is theirs, and what is left of the
//! session before.

use std::sync::Arc;

use antumbra_shadow::Tenant;
use bytestring::ByteString;
use tokio::time::Instant;
use uuid::Uuid;

use super::open::{Open, Proof};
use crate::access::Proven;
use crate::error::Error;
use crate::gateway::dialect::{
    Connect as DialectConnect, ConnectRefusal, Dialect, Identity, Link, Protocol, Secret,
    Subscriptions, Translator,
};
use crate::gateway::door::{Door, Peer, REQUEST_TIMEOUT};
use crate::gateway::gate;
use crate::gateway::mqtt::session::{self, Acceptance, DeliveryToken, Refusal, SessionState};
use crate::gateway::mqtt::wire::{Connect, Qos, Reason, Version};
use crate::gateway::records::{Beginning, ClientKey, Expect, Record};
use crate::gateway::tenants::Seat;
use crate::shadows::Want;

/// Attempts to write a record that others write, too.
const ATTEMPTS_MAX: usize = 5;

/// A CONNECT that is accepted.
pub(super) struct Admission {
    pub(super) acceptance: Acceptance,
    pub(super) open: Box<Open>,
    /// Name of the dialect.
    pub(super) dialect: &'static str,
    /// The record is yet to be written.
    pub(super) is_deferred: bool,
}

/// A CONNECT that is not accepted.
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// The label under which it is counted.
    pub(super) cause: &'static str,
}

/// Decides about a CONNECT. May be dropped midway; the record may then have been written.
pub(super) async fn admit(
    door: Arc<Door>,
    peer: Peer,
    connect: Box<Connect>,
) -> Result<Admission, Refused> {
    let view = view_of(&connect, peer.visitor.shown.is_some());
    let dialect = door.dialects.choose(&view);
    let dialect = Arc::clone(dialect.ok_or_else(|| Refused {
        refusal: refuse_plainly(Reason::NotAuthorized),
        cause: "not_admitted",
    })?);
    let refuse_for = |cause, refusal| Refused {
        refusal: refusal_of(&*dialect, refusal, connect.version),
        cause,
    };
    let refuse = |refusal| refuse_for("not_admitted", refusal);
    let claims = dialect.claims(&view).map_err(refuse)?;
    let now = door.clocks.time();
    let principal = gate::admit(&door.gate, &*dialect, &view, &claims, &peer, now);
    let principal = principal.await.map_err(refuse)?;
    let mut identity = principal.identity(Arc::from(&*claims.client_id));
    let assigned = connect.client_id.is_empty().then(assign);
    if let Some(assigned) = &assigned {
        identity.client_id = Arc::from(&**assigned);
    }
    let tenant = &identity.tenant;
    if !door.tenants.may_connect(tenant, Instant::now()) {
        return Err(refuse_for("tenant_rate", ConnectRefusal::TooFast));
    }
    let seat = take_seat(&door, tenant, &identity.client_id);
    let seat = seat.ok_or_else(|| refuse_for("tenant_sessions", ConnectRefusal::Overloaded))?;
    let rules = dialect.rules(&view);
    let name = principal.name.to_string();
    let beginning = beginning(&door, &peer, &connect, &identity, name);
    let is_proven = principal.proven != Proven::Open;
    let plan = Plan::of(&connect, beginning.expiry_s, door.presence, is_proven);
    let begun = Record::begin(beginning);
    if plan.is_awaited {
        door.endings.wait(begun.key()).await;
    }
    let hears_record = match plan.is_recorded {
        true => hear_of(&door, &begun).await,
        false => None,
    };
    let settled = settle(&door, &plan, begun);
    let settled = settled.await.map_err(|error| refuse(refusal_for(&error)))?;

    // Theirs for certain: the record is written.
    let key = settled.record.key();
    let kept = &door.unacknowledged;
    let pending = kept.take(key, settled.continues, &door.registry).await;
    let last = pending.iter().map(|pending| pending.token).max();
    let stored = settled.stored();
    let state = stored.as_ref().map(|(_, state)| state.as_slice());
    let mut translator = Translator::open(&*dialect, &view, identity, state.unwrap_or_default());
    let mut subscriptions = Subscriptions::default();
    subscriptions.add_implicit(translator.implicit(), qos(Qos::AtLeastOnce));
    let stored = stored.map(|(filters, _)| {
        let allowed = restore(&filters, &mut translator, &mut subscriptions);
        SessionState {
            subscriptions: allowed,
            pending,
        }
    });
    let configured_s = match door.session_limits.keep_alive_max_s {
        0 => u16::MAX,
        configured_s => configured_s,
    };
    let acceptance = Acceptance {
        assigned_client_id: assigned,
        stored,
        keep_alive_max_s: Some(configured_s.min(*rules.keep_alive_seconds.end())),
        session_expiry_max_s: None,
        response_information: None,
    };
    let is_deferred = plan.is_recorded && settled.epoch.is_none();
    let mut open = Box::new(Open::new(
        (key, settled.record.session),
        translator,
        subscriptions,
        rules,
        Proof {
            principal: Arc::new(principal),
            seat,
        },
        (
            plan.is_recorded.then_some(settled.record),
            settled.epoch,
            hears_record,
        ),
    ));
    open.skip_tokens(last.unwrap_or(DeliveryToken(0)));
    Ok(Admission {
        acceptance,
        dialect: dialect.name(),
        is_deferred,
        open,
    })
}

/// From now on this node hears of the record: whoever writes it after this connection takes over.
async fn hear_of(door: &Door, record: &Record) -> Option<Want> {
    let want = door.wanted.hold(&record.key().device()?);
    door.wanted.settled().await;
    Some(want)
}

/// The place of the session among those of its tenant.
fn take_seat(door: &Door, tenant: &Tenant, client_id: &str) -> Option<Seat> {
    let sessions_max = door.gate.limits_of(tenant).sessions_max;
    let client = ClientKey::new(tenant, client_id);
    let takes_over = door.registry.is_connected(client);
    door.tenants.seat(tenant, sessions_max, takes_over)
}

/// What is done with the record of the client.
struct Plan {
    /// What is left of the session before is wanted.
    resumes: bool,
    /// The session has a record at all.
    is_recorded: bool,
    /// CONNACK waits for the record.
    is_awaited: bool,
}

impl Plan {
    /// Whoever has proven who it is waits for the record, because the client id may be another's.
    fn of(connect: &Connect, expiry_s: u32, presence: bool, is_proven: bool) -> Plan {
        let (resumes, lasts) = (!connect.clean_start, expiry_s > 0);
        Plan {
            resumes,
            is_recorded: presence || resumes || lasts,
            is_awaited: resumes || lasts || (presence && is_proven),
        }
    }
}

/// The record as the new connection begins.
struct Settled {
    record: Record,
    /// Known when it was written.
    epoch: Option<u64>,
    /// The connection whose session is continued.
    continues: Option<Uuid>,
}

impl Settled {
    /// Subscriptions and dialect state of the session before.
    fn stored(&self) -> Option<(session::Subscriptions, Vec<u8>)> {
        self.continues?;
        let filters = session::Subscriptions::from_bytes(&self.record.subscriptions());
        Some((filters.unwrap_or_default(), self.record.dialect()))
    }
}

async fn settle(door: &Door, plan: &Plan, fresh: Record) -> Result<Settled, Error> {
    if !plan.is_awaited {
        return Ok(Settled {
            record: fresh,
            epoch: None,
            continues: None,
        });
    }
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    for _ in 0..ATTEMPTS_MAX {
        let before = door.records.read(fresh.key(), deadline).await?;
        let (before, version) =
            before.map_or((None, 0), |(record, version)| (Some(record), version));
        if before.as_ref().is_some_and(|before| !before.is_of(&fresh)) {
            return Err(Error::PermissionDenied);
        }
        let now_ms = door.clocks.time().milliseconds();
        let before =
            before.filter(|before| plan.resumes && before.expiry_s > 0 && !before.is_over(now_ms));
        let mut record = fresh.clone();
        if let Some(before) = &before {
            record.keep(&before.subscriptions(), &before.dialect());
            record.resumed = true;
        }
        // A version of 0 means that the record must not exist.
        let written = door
            .records
            .write(&record, Expect::Epoch(version), deadline);
        match written.await {
            Ok(epoch) => {
                return Ok(Settled {
                    record,
                    epoch: Some(epoch),
                    continues: before.map(|before| before.session),
                });
            }
            // Another connection of the client came between.
            Err(Error::VersionConflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Overloaded)
}

/// Writes the record of a session that ends with its connection, after CONNACK.
pub(super) async fn record_late(door: Arc<Door>, record: Record) -> Result<u64, Error> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    door.records
        .write(&record, Expect::Anything, deadline)
        .await
}

fn beginning(
    door: &Door,
    peer: &Peer,
    connect: &Connect,
    identity: &Identity,
    principal: String,
) -> Beginning {
    // As the session itself decides: before MQTT 5, what is not clean lives as long as is allowed.
    let asked_s = match (connect.version, connect.clean_start) {
        (Version::V5, _) => connect.session_expiry_s,
        (_, true) => 0,
        (_, false) => u32::MAX,
    };
    Beginning {
        tenant: identity.tenant.clone(),
        client_id: identity.client_id.to_string(),
        session: Uuid::new_v4(),
        node: door.node.clone(),
        boot: door.boot,
        since_ms: door.clocks.time().milliseconds(),
        expiry_s: asked_s.min(door.session_limits.session_expiry_max_s),
        keep_alive_s: connect.keep_alive_s.into(),
        device: identity.device.clone(),
        principal,
        address: Some(peer.address.ip()),
    }
}

/// Subscribes anew to what was subscribed before, as far as it is still allowed.
fn restore(
    filters: &session::Subscriptions,
    translator: &mut Translator,
    subscriptions: &mut Subscriptions,
) -> session::Subscriptions {
    let mut allowed = session::Subscriptions::default();
    for filter in filters.iter() {
        if let Ok(grants) = translator.subscribe(filter.filter) {
            subscriptions.add(filter.filter, grants, qos(filter.qos));
            allowed.insert(filter);
        }
    }
    allowed
}

fn assign() -> ByteString {
    ByteString::from(format!("auto-{}", Uuid::new_v4()))
}

fn view_of(connect: &Connect, has_certificate: bool) -> DialectConnect<'_> {
    DialectConnect {
        protocol: match connect.version {
            Version::V31 => Protocol::Mqtt31,
            Version::V311 => Protocol::Mqtt311,
            Version::V5 => Protocol::Mqtt5,
        },
        client_id: &connect.client_id,
        username: connect.username.as_deref(),
        password: connect.password.as_deref().map(Secret),
        clean: connect.clean_start,
        keep_alive_seconds: connect.keep_alive_s,
        will_topic: connect.will.as_deref().map(|will| &*will.message.topic),
        link: match has_certificate {
            true => Link::Certificate,
            false => Link::Anonymous,
        },
    }
}

/// The QoS as dialects know it.
pub(super) fn qos(qos: Qos) -> crate::gateway::dialect::Qos {
    match qos {
        Qos::AtMostOnce => crate::gateway::dialect::Qos::AtMostOnce,
        Qos::AtLeastOnce => crate::gateway::dialect::Qos::AtLeastOnce,
    }
}

fn refusal_for(error: &Error) -> ConnectRefusal {
    match error {
        Error::PermissionDenied => ConnectRefusal::NotAuthorized,
        Error::Overloaded => ConnectRefusal::Overloaded,
        _ => ConnectRefusal::Unavailable,
    }
}

/// A refusal with the code that the firmware of this cloud expects.
fn refusal_of(dialect: &dyn Dialect, refusal: ConnectRefusal, version: Version) -> Refusal {
    let codes = dialect.connack(refusal);
    let reason = match version {
        Version::V5 => Reason::from_code(codes.reason_code),
        Version::V31 | Version::V311 => match codes.return_code {
            2 => Some(Reason::ClientIdentifierNotValid),
            3 => Some(Reason::ServerUnavailable),
            4 => Some(Reason::BadUserNameOrPassword),
            5 => Some(Reason::NotAuthorized),
            _ => None,
        },
    };
    refuse_plainly(reason.unwrap_or(Reason::UnspecifiedError))
}

fn refuse_plainly(reason: Reason) -> Refusal {
    Refusal {
        reason,
        reason_string: None,
    }
}
