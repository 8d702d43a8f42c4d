//! Dialects: how the devices of one cloud speak with us. Bytes in, intents out; outcomes and changes
//! in, messages out.
//!
//! A dialect is a pure value. It never waits, reads no clock, touches no store and knows no socket:
//! the session that drives it looks credentials up, carries intents out, keeps the order and owns all
//! timers. In turn nothing outside a dialect's own file knows a cloud.
//!
//! # Map
//!
//! - [`connect`]: what a CONNECT packet says, what it claims, and how the claim is proven.
//! - [`identity`]: whom the session belongs to and what its role may do. Comes from outside.
//! - [`topic`]: names and filters of topics as text; the reference matcher.
//! - [`channel`], [`grant`], [`subscriptions`]: what a session wants to hear, as bit sets.
//! - [`intent`]: what a message of a device asks for.
//! - [`event`]: what happened, and the messages that tell it.
//! - [`translator`]: the dialect of one session behind the check that no dialect can forget: an
//!   identity reaches only what its role allows.
//! - [`aws`]: the AWS IoT dialect. `testing`: a dialect of other habits, for tests.
//!
//! # The life of a session
//!
//! 1. [`Dialects::choose`] asks every dialect about the CONNECT packet, [`Dialect::claims`] says who it
//!    claims to be, the session has the claim proven and gets an [`Identity`].
//! 2. [`Translator::open`] starts the conversation; [`Translator::implicit`] has the subscriptions
//!    that nobody asked for.
//! 3. [`Translator::subscribe`] turns a filter into grants, kept in [`Subscriptions`].
//! 4. [`Translator::receive`] turns a message into a [`Reaction`]: intents in their order, and when the
//!    message is to be acknowledged.
//! 5. [`Translator::emit`] turns an [`Event`] into messages. For an accepted change the session emits
//!    [`Event::Answer`] first and [`Event::Change`] after it; events of one shadow in version order.
//! 6. [`Translator::closed`] ends it; [`Translator::state`] is what to keep for the next connection.

pub mod aws;
pub mod channel;
pub mod connect;
pub mod event;
pub mod grant;
#[cfg(test)]
mod harness;
pub mod identity;
pub mod intent;
mod registry;
pub mod subscriptions;
#[cfg(test)]
pub mod testing;
pub mod topic;
pub mod translator;

pub use self::channel::{Channel, Channels, Verb};
pub use self::connect::{
    CatchUp, Claims, Connack, Connect, ConnectRefusal, Link, Proof, Protocol, Secret, SessionRules,
    Sniff, WillRule,
};
pub use self::event::{
    Answer, Answered, Confirm, Current, Emit, Event, Presence, PresenceKind, PresenceState,
    Publish, Push, Request, Route,
};
pub use self::grant::{Devices, Grant, Names, PresenceGrant, ShadowGrant};
pub use self::identity::{DeviceScope, Identity, Role, ShadowRule, TopicRule};
pub use self::intent::{
    Acknowledge, End, Intent, Message, Origin, Qos, Reaction, Refusal, Reply, Target,
};
pub use self::registry::Dialects;
pub use self::subscriptions::{Attachment, Subscriptions};
pub use self::translator::Translator;

use antumbra_shadow::{Limits, Time};

/// One cloud's way to speak, shared by all sessions of a node.
///
/// For correctness: every method is a function of its arguments alone.
pub trait Dialect: Send + Sync {
    /// The name in settings, logs and metrics: lower case, one word.
    fn name(&self) -> &'static str;

    /// Whether a client that connects so speaks this dialect.
    fn sniff(&self, connect: &Connect<'_>) -> Sniff;

    /// Whom the packet claims to be, and what proves it.
    ///
    /// # Errors
    ///
    /// When the packet is not one that this dialect can accept, whatever the registry says.
    fn claims(&self, connect: &Connect<'_>) -> Result<Claims, ConnectRefusal>;

    /// Checks a proof of the kind [`Proof::Secret`], with the stored secret and the present time. Must
    /// compare in constant time. A dialect whose claims never ask for a secret keeps this default,
    /// which refuses.
    ///
    /// # Errors
    ///
    /// When the packet was not made with this secret, or is out of date.
    fn verify(
        &self,
        connect: &Connect<'_>,
        secret: &[u8],
        now: Time,
    ) -> Result<(), ConnectRefusal> {
        let _ = (connect, secret, now);
        Err(ConnectRefusal::BadCredentials)
    }

    /// The codes of a refused connection. Firmware of some clouds stops for good on one code and
    /// retries on another.
    fn connack(&self, refusal: ConnectRefusal) -> Connack {
        refusal.connack()
    }

    /// How the session of this connection is to be run.
    fn rules(&self, connect: &Connect<'_>) -> SessionRules {
        let _ = connect;
        SessionRules::default()
    }

    /// Starts the conversation of a session whose identity has been established. `state` is what
    /// [`SessionDialect::state`] gave for the session before; empty when there is none. Bytes that
    /// cannot be read count as empty.
    fn open(
        &self,
        connect: &Connect<'_>,
        identity: &Identity,
        state: &[u8],
    ) -> Box<dyn SessionDialect>;
}

/// The dialect of one session. Driven through a [`Translator`], which checks what comes out of it
/// against the role, so nothing here has to be trusted with that.
///
/// For correctness: total; no message of a device makes it panic.
pub trait SessionDialect: Send {
    /// Subscriptions that hold without a SUBSCRIBE.
    fn implicit(&self, identity: &Identity) -> Vec<Grant> {
        let _ = identity;
        Vec::new()
    }

    /// What a filter brings. Empty when it is granted and nothing ever comes: reserved topics that are
    /// not served here.
    ///
    /// # Errors
    ///
    /// When the filter is not to be granted.
    fn subscribe(&mut self, identity: &Identity, filter: &str) -> Result<Vec<Grant>, Refusal>;

    /// What a message asks for. `limits` are those of the tenant.
    fn receive(&mut self, identity: &Identity, limits: &Limits, message: &Message<'_>) -> Reaction;

    /// The messages that tell this session of an event, in order. `wanted` has the channels of the
    /// shadow concerned that the session is subscribed to; what is not wanted is not to be made,
    /// except for what goes out as [`Route::Direct`].
    fn emit(&mut self, identity: &Identity, wanted: Channels, event: &Event<'_>) -> Vec<Emit>;

    /// What the end of the connection asks for.
    fn closed(&mut self, end: End) -> Vec<Intent> {
        let _ = end;
        Vec::new()
    }

    /// What the next connection of this session needs to know, at most
    /// [`STATE_BYTES_MAX`] bytes; kept with the session record.
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// The most bytes of dialect state that are kept with a session.
pub const STATE_BYTES_MAX: usize = 1_024;
